"""What several tests of `minimize` on a device minimize."""

from numba import njit


@njit
def line(x, g, signal, times):
    """Half the squared misfit of `x_1 + x_2 t`, and its gradient."""
    total = 0.0
    g[0] = g[1] = 0.0
    for i in range(times.size):
        r = x[0] + x[1] * times[i] - signal[i]
        total += 0.5 * r * r
        g[0] += r
        g[1] += r * times[i]
    return total
