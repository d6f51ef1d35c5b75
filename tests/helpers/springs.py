"""A convex problem whose arithmetic Numba and Python round alike, as Python and as compiled functions."""

import numpy as np
from numba import njit


def springs(x, scales, target):
    """Arithmetic that Numba and Python round alike."""
    total, g = 0.0, np.empty(x.size)
    for i in range(x.size):
        stretch = x[i] - target[i]
        g[i] = scales[i] * stretch
        total += 0.5 * scales[i] * stretch * stretch
    return total, g


def energy(x, scales, target):
    return springs_compiled(x, scales, target)[0]


def slope(x, scales, target):
    return springs_compiled(x, scales, target)[1]


springs_compiled = njit(springs)
energy_compiled, slope_compiled = njit(energy), njit(slope)

SCALES = np.geomspace(1e-3, 1.0, 8)
TARGET = np.array([1.0, -2.0, 0.5, 3.0, -0.25, 0.0, 2.0, -1.0])
ARGS = (SCALES, TARGET)
START = np.zeros(8)
