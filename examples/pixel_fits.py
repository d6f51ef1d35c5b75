"""A curve in every pixel: an image of decays `a exp(-r t)` in 16 frames, each pixel fitted alone, all cores at work.

Prints the fits per second and their errors beside the least that the noise allows; writes pixel_fits.png.
"""

import time

import numpy as np
from numba import njit

from nagd_numba import minimize_many


@njit
def misfit(x, signal, times):
    """`sum (a exp(-r t) - signal)^2 / 2` for x = (a, r), and its gradient."""
    total, g = 0.0, np.zeros(2)
    for i in range(times.size):
        e = np.exp(-x[1] * times[i])
        residual = x[0] * e - signal[i]
        total += 0.5 * residual**2
        g[0] += residual * e
        g[1] -= residual * x[0] * times[i] * e
    return total, g


SIDE, NOISE = 128, 0.01
rng = np.random.default_rng(0)
u, v = np.meshgrid(np.linspace(-1, 1, SIDE), np.linspace(-1, 1, SIDE))
amplitude = 1.0 + 0.3 * np.cos(4 * u) * np.cos(3 * v)
rate = 1.0 + 0.5 * np.exp(-3 * (u**2 + v**2))
times = np.linspace(0.0, 3.0, 16)
clean = amplitude[..., None] * np.exp(-rate[..., None] * times)
signals = (clean + NOISE * rng.normal(size=clean.shape)).reshape(-1, times.size)
starts = np.ones((len(signals), 2))

minimize_many(misfit, starts[:4], (signals[:4],), (times,), jac=True)  # compiles
began = time.perf_counter()
fits = minimize_many(misfit, starts, (signals,), (times,), jac=True)
seconds = time.perf_counter() - began

# The Cramer-Rao bound: the inverse of the information matrix, per pixel.
e = np.exp(-rate[..., None] * times)
J = np.stack([e, -amplitude[..., None] * times * e], axis=-1)
least = np.sqrt(np.linalg.inv(np.einsum("...ti,...tj->...ij", J, J))[..., 1, 1].mean()) * NOISE
error = np.sqrt(np.mean((fits.x[:, 1] - rate.ravel()) ** 2))
print(f"{len(signals) / seconds:,.0f} fits a second; {fits.success.mean():.1%} converged")
print(f"error of the rate: {error:.4f}; the noise allows {least:.4f}")

try:
    from matplotlib import pyplot
except ImportError:
    print("no plot: matplotlib is not installed")
else:
    figure, axes = pyplot.subplots(1, 2, figsize=(9, 4))
    axes[0].imshow(rate, vmin=0.9, vmax=1.6)
    axes[0].set_title("rate")
    axes[1].imshow(fits.x[:, 1].reshape(rate.shape), vmin=0.9, vmax=1.6)
    axes[1].set_title("fitted, pixel by pixel")
    figure.savefig("pixel_fits.png")
