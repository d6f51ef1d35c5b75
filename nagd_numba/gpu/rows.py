"""Steps of rows of a matrix on device arrays: the checks, and the launches.

What is wrong with rows is read back before anything is written, so that a call waits for the device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .. import validation
from ..kernels import row_steps
from ..kernels.rule import Rule
from . import device_array, driver, launch, repeats, row_kernels, streams, tables
from .row_kernels import COLUMNS, HEADER, THREADS

LOOKS = 4096  # threads that look at the rows


class Settings(NamedTuple):
    """The rule with its options, its constants, the map of a step without a gradient; whether there are gradients."""

    rule: Rule
    options: tuple[Any, ...]
    scalars: tuple[Any, ...]
    matrix: tuple[float, ...]
    steps: bool


def described(given: dict[str, Any]) -> dict[str, device_array.DeviceMemory]:
    """The arrays, each as it has to be, but for the values of rows and last."""
    dtypes = {"rows": ("int64",), "last": ("int64",), "history": ("float64",)}
    parts = {}
    for name, x in given.items():
        written = name not in ("rows", "grads")
        parts[name] = device_array.describe(name, x, write=written, dtypes=dtypes.get(name, device_array.EXACT))
        if name in ("grads", "vel") and parts[name].dtype != parts["params"].dtype:
            raise TypeError(
                f"{name} has dtype {parts[name].dtype} and params {parts['params'].dtype}; one dtype is needed"
            )
    device_array.no_overlap(list(parts.items()))
    return parts


def run(
    given: dict[str, Any],
    parts: dict[str, device_array.DeviceMemory],
    settings: Settings,
    t: int,
    refuse: Callable[..., None],
    stream: Any,
) -> None:
    """A step of described arrays, or what rows are to make up for.  `refuse` raises what a status tells."""
    everything = tuple(given.values())
    device = device_array.one_device(list(parts.items()))
    made = RowsLaunch(parts, settings, t, refuse, device)
    repeats.start_in_order(made, streams.Sources(everything), everything, stream, ())
    validation.tell_torch(given["params"], given["vel"], given["last"])


class RowsLaunch:
    """The launches of one call."""

    def __init__(
        self,
        parts: dict[str, device_array.DeviceMemory],
        settings: Settings,
        t: int,
        refuse: Callable[..., None],
        device: int,
    ) -> None:
        self.device = device
        self._parts, self._settings, self._t, self._refuse = parts, settings, t, refuse

    def start(self, stream: int, hyper: tuple[Any, ...] = ()) -> None:
        """Look, raise where something is unfit, then step."""
        here, device, parts, t = driver.current(), self.device, self._parts, self._t
        settings, matrix = self._settings, tuple(map(np.float64, self._settings.matrix))
        if here.capturing(stream, device):
            raise ValueError("what the rows are is read back before a step, which no captured graph can do")
        at = {name: x.pointer for name, x in parts.items()}
        size, width = parts["params"].shape
        everything = "rows" not in parts
        n = size if everything else parts["rows"].shape[0]
        capacity = parts["history"].shape[0] // 2 if "history" in parts else 0
        before = t - settings.steps
        rows, last, history = at.get("rows", 0), at["last"], at.get("history", 0)
        counts = np.int64(n), np.int64(everything)

        threads = min(LOOKS, max(1, n))
        grid = here.configuration(-(-threads // THREADS), THREADS)
        out = here.empty(HEADER + COLUMNS * THREADS * -(-threads // THREADS), np.int64, device, stream)
        looked = (rows, last, *counts, np.int64(size), np.int64(before), history, np.int64(capacity), np.int64(t))
        self._launch(row_kernels.look_kernel(), stream, grid, *looked, *matrix, _address(out))
        found = here.download(out, stream)
        start, oldest = self._judge(found, capacity, before, size)

        blocks = launch.most_blocks(here, device, max(1, -(-n * width // THREADS)))
        grid = here.configuration(blocks, THREADS)
        powers = row_steps.powers_kernel()(settings.matrix, before - oldest) if capacity == 0 else None
        with tables.on_device(here, powers, device, stream) as made:
            table = (*made, history)[0], np.int64(capacity), np.int64(start)
            if settings.steps:
                kernel = row_kernels.step_kernel(settings.rule, settings.options, parts["params"].dtype)
                stepped = at["params"], rows, at["grads"], at["vel"], last, np.int64(n), np.int64(width)
                self._launch(kernel, stream, grid, *stepped, *table, np.int64(t), *settings.scalars)
            else:
                kernel = row_kernels.finish_kernel(parts["params"].dtype)
                arrays = at["params"], rows, at["vel"], last, *counts, np.int64(width)
                self._launch(kernel, stream, grid, *arrays, *table, np.int64(t))
        new = settings.steps and capacity > 0 and t - start - 1 == found[0]
        noted = rows, last, *counts, np.int64(t), history, np.int64(capacity), np.int64(t - start - 1 if new else -1)
        self._launch(row_kernels.note_kernel(), stream, grid, *noted, *matrix)

    def _launch(self, kernel: Any, stream: int, grid: Any, *arguments: Any) -> None:
        here = driver.current()
        here.launch(here.load(kernel, self.device), self.device, stream, grid, *arguments)

    def _judge(self, found: np.ndarray, capacity: int, before: int, size: int) -> tuple[int, int]:
        """The start of the history and the least `last`; raises where a row or the history does not fit."""
        count, start = (int(x) for x in found[:2]) if capacity else (0, 0)
        steps = self._settings.steps
        history = start, count, capacity
        if capacity > 0:
            status = row_steps.of_history(capacity, count, self._t - start - 1, steps, bool(found[2]))
            if status != row_steps.OK:
                self._refuse(status, 0, 0, 0, before, size, history)
        threads = found[HEADER:].reshape(-1, COLUMNS)
        unfit = threads[threads[:, 0] >= 0]
        if len(unfit):
            place, status, row, done, _ = (int(x) for x in unfit[unfit[:, 0].argmin()])
            self._refuse(status, place, row, done, before, size, history)
        return start, int(threads[:, 4].min())


def _address(array: Any) -> int:
    return int(array.__cuda_array_interface__["data"][0])
