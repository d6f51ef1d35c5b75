"""What tests of training on a device share."""

import numpy as np


def problem(sizes, rows, loss="cross_entropy", dtype="float32", inputs="float32", seed=0):
    """Samples and targets for a network of these sizes."""
    rng = np.random.default_rng(seed)
    X = rng.integers(0, 256, (rows, sizes[0])) if inputs == "uint8" else rng.normal(size=(rows, sizes[0]))
    y = rng.integers(0, sizes[-1], rows) if loss == "cross_entropy" else rng.integers(0, 2, (rows, sizes[-1]))
    return X.astype(inputs), y if loss == "cross_entropy" else y.astype(dtype)


def assert_equal_histories(there, here):
    """The same columns, bits and end."""
    assert list(there.to_dict()) == list(here.to_dict())
    for name, values in here.to_dict().items():
        np.testing.assert_array_equal(there.to_dict()[name], values, err_msg=name)
    assert there.stopped == here.stopped
