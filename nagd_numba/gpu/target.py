"""Numba's CUDA target: all that this package uses of numba-cuda, so that another compiler is another such module.

    cuda             the language of kernels (`cuda.grid`, `cuda.shared.array`, `cuda.syncthreads`, `cuda.libdevice`
                     and so on), and device arrays; imported when first asked for, since that takes long
    intrinsic        what a function means to the compiler: registered for kernels that call it
    compile_kernel   a Python function becomes PTX or LTO-IR
    returned         the type that a function returns in kernels, or why it cannot be compiled for them
    is_function      is something a function of `@cuda.jit`?
    why_unavailable  why no kernel can be compiled here

Templates of kernels take `cuda` from here when they are bound.  The rest of the package knows device arrays by their
interface, whatever library made them.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

from numba.extending import intrinsic

__all__ = ["compile_kernel", "intrinsic", "is_function", "returned", "why_unavailable"]


def __getattr__(name: str) -> Any:
    if name == "cuda":
        from numba import cuda

        return cuda
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def compile_kernel(
    function: Callable, signature: tuple[Any, ...], output: str, capability: tuple[int, int], threads: int | None
) -> Any:
    """The `output`, `"ptx"` or `"ltoir"`, of a kernel for one list of argument types; blocks have at most `threads`."""
    from numba import cuda

    with compiling(capability):
        return cuda.compile(
            *(function, signature),
            cc=capability,
            output=output,
            device=False,
            abi="numba",
            launch_bounds=threads,
        )[0]


def returned(function: Callable, arguments: tuple[Any, ...], capability: tuple[int, int]) -> Any:
    """The type that a function returns in a kernel; raises what Numba raises where it cannot be compiled for one."""
    from numba import cuda

    with compiling(capability):
        return cuda.compile(function, arguments, cc=capability, output="ltoir", device=True, abi="numba")[1]


def is_function(x: Any, device: bool = False) -> bool:
    """Is it a function of `@cuda.jit`?  `device`: one that kernels call, and no kernel."""
    dispatcher = sys.modules.get("numba.cuda.dispatcher")
    made = dispatcher is not None and isinstance(x, dispatcher.CUDADispatcher)
    return made and (not device or bool(x.targetoptions.get("device")))


@contextlib.contextmanager
def compiling(capability: tuple[int, int]) -> Iterator[None]:
    """What numba-cuda would do otherwise while it compiles.

    It asks the current device for its capability whenever a kernel calls a function: there may be no device.  And where
    an array's strides are not those of its shape, it computes addresses as whole numbers, of which NVVM knows no longer
    that they are in the device's memory; Numba itself moves the pointer.
    """
    from numba.core import cgutils
    from numba.cuda import dispatcher

    replaced: Any = importlib.import_module("numba.cuda.cgutils")
    device = type("Device", (), {"compute_capability": capability})
    current, pointer_add = dispatcher.get_current_device, replaced.pointer_add
    dispatcher.get_current_device, replaced.pointer_add = lambda: device, cgutils.pointer_add
    try:
        yield
    finally:
        dispatcher.get_current_device, replaced.pointer_add = current, pointer_add


def why_unavailable() -> str | None:
    """Why no kernel can be compiled here, or None."""
    try:
        from numba import cuda  # noqa: F401
    except ImportError as error:
        return f"CUDA is not available: numba.cuda cannot be imported ({error}); install the extra 'cuda'"
    return None
