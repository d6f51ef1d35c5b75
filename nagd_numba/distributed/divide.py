"""The one kernel that steps on device arrays need of their own.  Importing this imports numba-cuda."""

from typing import Any

from ..gpu.target import cuda


@cuda.jit
def divide(x: Any, by: Any) -> None:
    """Divide the elements of a vector."""
    i = cuda.grid(1)
    if i < x.size:
        x[i] = x[i] / by
