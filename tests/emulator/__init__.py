"""Run compiled CUDA kernels on the CPU: the LLVM IR that numba-cuda makes of them, with every access checked.

    import emulator

    kernel = emulator.compile(function, (types.CPointer(types.float32), types.int64))
    with emulator.memory() as memory:
        p = memory.array(np.zeros(100, np.float32))
        kernel(4, 32, p, 100)                  # grid, block, the arguments
        print(p.array)

One thread runs at a time, from one barrier to the next, in the order that the call names.  Accesses that nothing orders
are found whatever the order.  Blocks run one after another: kernels whose blocks wait for each other cannot run.  Plain
`a * b + c` is rounded twice, where NVVM may fuse it.
"""

from .kernel import Kernel, compile
from .memory import BadAccess, Memory, Pointer, memory, register, unregister
from .shadow import Footprint, Race
from .warp import Divergence

__all__ = [
    "BadAccess",
    "Divergence",
    "Footprint",
    "Kernel",
    "Memory",
    "Pointer",
    "Race",
    "compile",
    "memory",
    "register",
    "unregister",
]
