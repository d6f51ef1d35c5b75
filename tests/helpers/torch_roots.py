"""PyTorch's square roots, which are MKL's: within a unit in the last place, and not always the rounded ones."""

import numpy as np


def rounded(x):
    """Where PyTorch's root of `x` is the rounded one.

    Of float32 roots 0.6 % are neighbours of the rounded one on Intel's processors, and 17 % on AMD's, where MKL takes
    other instructions.
    """
    import torch

    theirs, exact = torch.from_numpy(x).sqrt().numpy(), np.sqrt(x)
    assert (np.abs(theirs - exact) <= np.spacing(np.maximum(theirs, exact))).all()
    same = theirs == exact
    assert same.mean() > 0.5  # enough of them to compare
    return same
