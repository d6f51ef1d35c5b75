"""The one kernel that steps on device arrays need of their own.  Importing this imports numba.cuda."""

from typing import Any

from numba import cuda

_cuda: Any = cuda  # numba's types do not say what its intrinsics are in a kernel


@_cuda.jit
def divide(x: Any, by: Any) -> None:
    """Divide the elements of a vector."""
    i = cuda.grid(1)  # type: ignore[call-arg, var-annotated]
    if i < x.size:
        x[i] = x[i] / by
