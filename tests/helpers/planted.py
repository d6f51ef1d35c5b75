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

    def __init__(self):
        self._planted = {}

    def of(self, kernel, memory):
        """A kernel with planted faults."""
        return self._planted.setdefault(kernel, Planted(kernel, memory))

    @property
    def seen(self):
        """(kernel, line of the source) of each barrier."""
        return [(kernel.name, line) for kernel in self._planted for line in kernel.barriers.values()]

    def unneeded(self):
        return [(k.name, k.barriers[site]) for k, planted in self._planted.items() for site in planted.left]


class Planted:
    """A kernel that is run with each fault before it is run without."""

    def __init__(self, kernel, memory):
        self.left, self._kernel, self._memory = list(kernel.barriers), kernel, memory

    def __getattr__(self, name):
        return getattr(self._kernel, name)

    def __call__(self, *arguments, **keywords):
        for site in list(self.left):
            restore = self._memory.snapshot()
            try:
                self._kernel(*arguments, **keywords, ignore=(site,))
            except emulator.Race:
                self.left.remove(site)
            restore()
        self._kernel(*arguments, **keywords)


@contextlib.contextmanager
def barriers(gpu):
    """Plant faults in whatever this fake driver loads."""
    made, load = Barriers(), gpu.load
    gpu.load = lambda *arguments: made.of(load(*arguments), gpu.memory)
    try:
        yield made
    finally:
        del gpu.load
