"""What those who make a step have in common: their arrays, their numbers, and the reason why one has no figure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

LR, MOMENTUM = 0.01, 0.9
BETAS, EPS = (0.9, 0.999), 1e-8  # of Adam

Arrays = Sequence[np.ndarray]  # params, grads, and the states of the rule
Makers = Mapping[str, Callable[[Arrays], Callable[[], object]]]


class Missing(Exception):
    """A contender cannot run here; the message says why."""
