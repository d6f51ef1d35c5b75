"""Numba kernels for array-level optimizers: Nesterov's accelerated gradient on flat parameters, CPU and CUDA.

    nagd_numba.step(params, grads, vel)     one step, in place
    nagd_numba.nesterov_update(p, g, v, …)  the same for scalars, inside @njit and @cuda.jit functions
    nagd_numba.FlatParams(layout)           named views on one flat vector
    nagd_numba.MLP(sizes)                   a small network on one flat vector

Nothing compiles and no device is touched when this package is imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .flat import FlatParams
from .rules import nesterov_update
from .step import step

if TYPE_CHECKING:
    from .mlp import MLP as MLP

__version__ = "0.1.0"
__all__ = ["MLP", "FlatParams", "__version__", "nesterov_update", "step"]


def __getattr__(name: str) -> Any:
    if name == "MLP":  # its kernels are many: imported when asked for
        from .mlp import MLP

        return MLP
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
