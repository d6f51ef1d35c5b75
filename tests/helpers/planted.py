"""Faults that are planted in kernels while the library runs: each barrier, in turn, orders nothing.

    with fake_driver.installed() as gpu, planted.barriers(gpu) as barriers:
        net.fit(gpu.array(params), gpu.array(X), gpu.array(y))
    assert barriers.seen and not barriers.unneeded()

Before each launch the kernel runs once for each of its barriers that no race has shown to be needed yet; what that has
done to memory is undone.
"""

import contextlib

from tests import emulator


class Barriers:
    """The barriers of all kernels that were launched, and those of which no race has shown that they are needed."""

    def __init__(self, gpu):
        self._gpu, self._launch, self._left = gpu, gpu.launch, {}

    @property
    def seen(self):
        """(kernel, line of the source) of each barrier."""
        return [(kernel.name, line) for kernel in self._left for line in kernel.barriers.values()]

    def unneeded(self):
        return [(kernel.name, kernel.barriers[site]) for kernel, sites in self._left.items() for site in sites]

    def launch(self, kernel, device, stream, configuration, *arguments):
        grid, block, shared = configuration
        left = self._left.setdefault(kernel, list(kernel.barriers))
        for site in list(left):
            restore = self._gpu.memory.snapshot()
            try:
                kernel(grid, block, *arguments, shared_bytes=shared, ignore=(site,))
            except emulator.Race:
                left.remove(site)
            restore()
        self._launch(kernel, device, stream, configuration, *arguments)


@contextlib.contextmanager
def barriers(gpu):
    """Plant them in whatever this fake driver launches."""
    made = Barriers(gpu)
    gpu.launch = made.launch
    try:
        yield made
    finally:
        del gpu.launch
