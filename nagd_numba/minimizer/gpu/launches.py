"""The state of some problems in a device's memory, and the launches that take them on.

The first launch takes each problem on by 128 iterations, so that short solves end in it.  The next ones run for about a
tenth of a second each, as a call of the CPU's does, so that Ctrl-C, the time limit and callbacks come between two; the
problems wait meanwhile where they are.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ...gpu import driver
from ...gpu.compiler import Kernel
from ...gpu.device_array import DeviceMemory
from ...kernels.autotune import CALL_SECONDS, Autotuner
from .. import algorithm
from ..objective import COUNTS
from ..settings import Choices
from .functions import Argument
from .kernel import STATUSES, THREADS, UNFIT

STATE_BYTES = 1 << 30  # of the state of the problems that are solved at a time
FIRST_STEPS = 128
NOWHERE = 2**62


class Results(NamedTuple):
    """What the kernel writes for each problem: arrays of the device."""

    x: Any
    jac: Any
    fun: Any
    L: Any
    nit: Any
    nfev: Any
    njev: Any
    restarts: Any
    status: Any
    success: Any


class Launches:
    """All problems, `width` of them at a time."""

    def __init__(
        self,
        kernel: Kernel,
        starts: DeviceMemory,
        wanted: Choices,
        arguments: Sequence[Argument],
        device: int,
        stream: int,
    ) -> None:
        self._driver = here = driver.current()
        self._kernel = kernel
        self.problems, self.n = starts.shape
        n, self.device, self._stream = self.n, device, stream
        numbers = algorithm.VECTORS * n + n + algorithm.NUMBERS + COUNTS + 1
        self.width = width = max(1, min(self.problems, STATE_BYTES // (8 * numbers)))
        self.loaded = here.load(kernel, device) if self.problems else None
        self.x, self.work = self._empty((n, width)), self._empty((algorithm.VECTORS, n, width))
        self.numbers = self._empty((algorithm.NUMBERS, width))
        self.counts, self._stages = self._empty((COUNTS, width), np.int64), self._empty(width, np.int64)
        self._ended = self._empty(UNFIT + 1, np.int64)
        matrix, each = starts.shape, self.problems
        reals = [self._empty(shape) for shape in (matrix, matrix, each, each)]
        wholes = [self._empty(each, np.int64) for _ in range(5)]
        self.results = Results._make([*reals, *wholes, self._empty(each, np.bool_)])
        self._bounds = [self._empty(max(1, len(values))) for values in (wanted.first, wanted.second)]
        for array, values in zip(self._bounds, (wanted.first, wanted.second), strict=True):
            if len(values):
                here.rewrite(array, values, stream)
        fixed = (np.int64(x) if isinstance(x, int) else np.float64(x) for x in wanted.settings)
        state = (self.x, self.work, self.numbers, self.counts, self._stages, self._ended)
        self._before = (
            starts.pointer,
            *(map(_address, (*state, *self.results))),
            *fixed,
            *map(_address, self._bounds),
            np.int64(n),
        )
        self._after = tuple(value for argument in arguments for value in argument.passed)
        self._spread = here.multiprocessors(device) if self.problems else 1
        self.ended = np.zeros(STATUSES, np.int64)  # problems by their status, from RUNNING on

    def _empty(self, shape: int | tuple[int, ...], dtype: Any = np.float64) -> Any:
        return self._driver.empty(shape, dtype, self.device, self._stream)

    def begin(self, first: int) -> None:
        """Go to the problems from `first` on."""
        self._first, self._count, self._fresh = first, min(self.width, self.problems - first), True
        none = np.zeros(UNFIT + 1, np.int64)
        none[UNFIT] = NOWHERE
        self._driver.rewrite(self._ended, none, self._stream)

    def advance(self, steps: int, stop: int = algorithm.RUNNING) -> int:
        """At most so many iterations of each; how many problems are left, none with a `stop` to end with."""
        # Few problems are spread over the multiprocessors, a warp on each.
        threads = THREADS if self._count >= 4 * THREADS * self._spread else 32
        configuration = self._driver.configuration(-(-self._count // threads), threads)
        numbers = self._first, self._count, self.width, self._fresh, steps, stop
        where = self.loaded, self.device, self._stream, configuration
        with self._driver.waiting(self._kernel):
            self._driver.launch(*where, *self._before, *map(np.int64, numbers), *self._after)
            self._fresh = False
            found = self._driver.download(self._ended, self._stream)
        if found[UNFIT] != NOWHERE:
            raise Unfit(int(found[UNFIT]))
        left = self._count - int(found[:UNFIT].sum())
        if left == 0:
            self.ended += found[:UNFIT]
        return left

    def run(self) -> None:
        """All problems to their ends."""
        steps = steps_of_launch()
        for first in range(0, self.problems, self.width):
            self.begin(first)
            while self.timed(steps, steps.next(NOWHERE)[1]):
                pass

    def timed(self, autotuner: Autotuner, steps: int) -> int:
        """`advance`, of which the autotuner is told how long it took."""
        start = time.perf_counter()
        left = self.advance(steps)
        autotuner.took("steps", steps, time.perf_counter() - start)
        return left


def steps_of_launch() -> Autotuner:
    return Autotuner(("steps",), guess=CALL_SECONDS / FIRST_STEPS)


class Unfit(Exception):
    """The element of the starts that is not finite."""


def _address(array: Any) -> int:
    return int(array.__cuda_array_interface__["data"][0] or 0)
