"""The data set that comes with the package."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def read_digits() -> tuple[np.ndarray, np.ndarray]:
    """The 1,797 handwritten digits: pixels (1797, 64) from 0 to 16 and digits (1797,), uint8; source in DIGITS.md."""
    with np.load(Path(__file__).with_name("digits.npz"), allow_pickle=False) as file:
        return file["X"], file["y"]
