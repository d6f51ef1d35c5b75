"""This library on the CUDA driver for tests: its machine code is known to the emulator by its Python functions.

python -m tests.helpers.on_driver -m benchmarks.gpu --no-tests     # any module, or a script, with arguments
python -m pytest -p tests.helpers.on_driver FILE                   # tests that find a device
"""

import runpy
import sys
import tracemalloc  # noqa: F401  (pytest imports it when a finalizer fails, and the next one then finds half of it)

from nagd_numba.gpu import compiler, target
from nagd_numba.kernels.jit import inlining_by_llvm
from tests import cuda_driver, emulator
from tests.cuda_driver import pytest_plugin
from tests.cuda_driver.pytest_plugin import machine, seed  # noqa: F401  (fixtures)


def start(**options):
    """Start the driver, and tell it of every kernel whose machine code this library asks for."""
    started = cuda_driver.start(**options)
    original = compiler.Kernel.image

    def image(self, capability):
        function, made = self.function, original(self, capability)
        if function is None:  # it was loaded, and so emulated, before
            return made

        def emulated(name=None):
            with inlining_by_llvm(), target.compiling(capability):
                return emulator.compile(function, self.signature, capability)

        if self.users:  # then neither the kernel nor its function may be kept
            found = emulated()
            started.programs.add(made, lambda name: found)
            return made
        started.programs.add(made, emulated)
        return made

    compiler.Kernel.image = image
    return started


def pytest_configure(config):
    start()


def run(*files, marks="not slow and not ci"):
    """Run the tests of files in a process of their own, with a device."""
    pytest_plugin.run(*files, marks=marks, plugin=__name__)


def main(arguments):
    started = start()
    if arguments[:1] == ["-m"]:
        sys.argv = arguments[1:]
        run_it, name = runpy.run_module, {"run_name": "__main__", "alter_sys": True}
    else:
        sys.argv = arguments
        run_it, name = runpy.run_path, {"run_name": "__main__"}
    try:
        run_it(sys.argv[0], **name)
    finally:
        started.settle()
        for fault in started.faults:
            print("FAULT", fault, file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
