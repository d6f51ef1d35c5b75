"""A CUDA driver for tests, on any machine: what uses `libcuda` runs as it is, its kernels in the emulator.

    import cuda_driver

    machine = cuda_driver.start()       # before anything else loads libcuda
    from numba import cuda              # cuda.core, cuda.bindings, ...
    ...
    machine.settle()                    # run what is queued
    assert not machine.faults           # races, accesses to freed memory, kernels that failed

See the README.
"""

from . import library as _library
from .devices import Device
from .errors import CudaError
from .library import NoCompiler, compiler
from .machine import Machine

_machine = None


def start(devices=None, seed=0):
    """Put the driver in the place of libcuda for this process; the same machine each time.

    `devices`: a list of `Device`; two of sm_90 by default.  `seed`: of the order in which queued work runs.
    """
    global _machine
    if _machine is None:
        from . import api  # noqa: F401  (fills the table of calls)
        from .calls import TABLE
        from .numba_kernels import watch

        _machine = Machine(devices or [Device(0), Device(1)], seed)
        names = sorted(TABLE)
        _machine.library = _library.load(_library.build(names), names, _machine.handle)
        watch(_machine.programs)
    return _machine


def current():
    """The machine that was started, or None."""
    return _machine


__all__ = ["CudaError", "Device", "Machine", "NoCompiler", "compiler", "current", "start"]
