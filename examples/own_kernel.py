"""A CUDA kernel of one's own around the scalar rule: which minimum does Nesterov's method reach, from where?

    python examples/own_kernel.py                              on a GPU
    NUMBA_ENABLE_CUDASIM=1 python examples/own_kernel.py       in Numba's simulator, on fewer points

Himmelblau's function, (x^2 + y - 11)^2 + (x + y^2 - 7)^2, has four minima of value 0.  Each thread starts at a point of
a grid, keeps its two parameters and two velocities in registers, and descends until the end; the velocity carries
some of them over a ridge.  Prints how many reach each minimum, and draws the map.
"""

import os
import sys

import numpy as np

from nagd_numba import nesterov_update

try:
    from numba import cuda
except ImportError:
    sys.exit("needs numba-cuda: pip install 'numba-cuda[cu13]'")

SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM", "0") == "1"
if not (SIMULATED or cuda.is_available()):
    sys.exit("needs a CUDA GPU and its driver, or Numba's simulator: NUMBA_ENABLE_CUDASIM=1 python own_kernel.py")

SIDE, STEPS = (12, 120) if SIMULATED else (1024, 400)
MINIMA = np.array([[3.0, 2.0], [-2.805118, 3.131312], [-3.779310, -3.283186], [3.584428, -1.848126]])


@cuda.jit
def descend(xs, ys, steps, lr, momentum):
    i = cuda.grid(1)
    if i < xs.size:
        x, y = xs[i], ys[i]
        v = w = 0.0
        for _ in range(steps):
            a, b = x * x + y - 11, x + y * y - 7
            dx, dy = 4 * x * a + 2 * b, 2 * a + 4 * y * b
            x, v = nesterov_update(x, dx, v, lr, momentum, momentum)
            y, w = nesterov_update(y, dy, w, lr, momentum, momentum)
        xs[i], ys[i] = x, y


grid = np.linspace(-5, 5, SIDE)
x, y = np.meshgrid(grid, grid)
xs, ys = cuda.to_device(x.ravel()), cuda.to_device(y.ravel())
descend[-(-xs.size // 128), 128](xs, ys, STEPS, 0.002, 0.9)
ends = np.column_stack([xs.copy_to_host(), ys.copy_to_host()])

distance = np.linalg.norm(ends[:, None] - MINIMA, axis=2)
reached = np.where(distance.min(axis=1) < 1e-3, distance.argmin(axis=1), len(MINIMA))
for minimum, count in zip(MINIMA, np.bincount(reached, minlength=5), strict=False):
    print(f"({minimum[0]:9.6f}, {minimum[1]:9.6f})  from {100 * count / len(ends):5.1f} % of {len(ends)} points")
print(f"none of them {'':12} from {100 * np.mean(reached == len(MINIMA)):5.1f} %")
assert np.mean(reached < len(MINIMA)) > 0.95

try:
    from matplotlib.figure import Figure
except ImportError:
    print("no plot: matplotlib is not installed")
else:
    figure = Figure(figsize=(5, 5))
    axes = figure.add_subplot(title="Which minimum is reached, by the point of departure", xlabel="x", ylabel="y")
    axes.imshow(reached.reshape(SIDE, SIDE), origin="lower", extent=(-5, 5, -5, 5), cmap="Set2", vmin=0, vmax=7)
    axes.plot(*MINIMA.T, "k*", label="minima")
    axes.legend()
    figure.savefig("own_kernel.png", dpi=120)
