"""Steps on device arrays with random rounding, a compensation, or states of 8 bits: the checks, and the launches.

A launch for each array of a list.  The random bits of a step are arguments of its launches: such a step is not for a
graph that is captured, which would repeat them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import validation
from ..kernels import cuda_launch
from ..kernels.codes import BLOCK
from ..kernels.rule import Rule
from ..kernels.stored_loops import MASTER
from . import device_array, driver, repeats, stored_kernel, streams
from .device_array import HALF
from .launch import most_blocks

_KINDS = ("float32", *HALF)


class Arrays(NamedTuple):
    """One group of arrays: states are arrays, or pairs of codes and scales; the names are of params, grads, the states,
    and of what is beside them."""

    names: tuple[str, ...]
    params: Any
    grads: Any
    states: tuple[Any, ...]
    extra: Any
    form: int


def apply(
    rule: Rule,
    options: tuple[Any, ...],
    groups: Sequence[Arrays],
    hyper: tuple[float, ...],
    random: tuple[int, int, int],
    stream: Any,
) -> None:
    """One step of all groups, after every check; `random` has the number of the first element and the keys."""
    described = [_described(rule, group) for group in groups]
    together = [pair for parts in described for pair in parts]
    device_array.no_overlap(together)
    launches = _Launches(rule, options, groups, described, hyper, random)
    everything = tuple(x for _, memory in together for x in (memory.owner,))
    if launches.records:
        repeats.start_in_order(launches, streams.Sources(everything), everything, stream, hyper)
    validation.tell_torch(*(memory.owner for parts in described for k, (_, memory) in enumerate(parts) if k != 1))


class _Launches:
    """The launches of one step."""

    def __init__(
        self,
        rule: Rule,
        options: tuple[Any, ...],
        groups: Sequence[Arrays],
        described: list[list[tuple[str, Any]]],
        hyper: tuple[float, ...],
        random: tuple[int, int, int],
    ) -> None:
        self.driver = here = driver.current()
        self.device = device_array.one_device([pair for parts in described for pair in parts])
        self.records = []
        index, *keys = random
        for group, parts in zip(groups, described, strict=True):
            memory = iter(x for _, x in parts)
            params, grads = next(memory), next(memory)
            states, scales, kinds = [], [], []
            for state in group.states:
                codes = next(memory)
                states.append(codes.pointer)
                kinds.append(codes.dtype)
                scales.append(next(memory).pointer if isinstance(state, tuple) else 0)
            extra = 0 if group.extra is None else next(memory).pointer
            size = params.size
            if size > 0:
                made = stored_kernel.kernel(rule, options, group.form, params.dtype, tuple(kinds))
                loaded = here.load(made, self.device)
                blocks = most_blocks(here, self.device, -(-size // stored_kernel.THREADS))
                configuration = here.configuration(blocks, stored_kernel.THREADS)
                numbers = (np.int64(size), *(np.uint32(x & 0xFFFFFFFF) for x in (index, *keys)))
                addresses = (params.pointer, grads.pointer, extra, *states, *scales)
                self.records.append(here.record(loaded, self.device, configuration, *addresses, *numbers))
            index += size
        self._kernel = cuda_launch.rule_kernel(rule, options, np.dtype(np.float32))

    def start(self, stream: int, hyper: tuple[float, ...]) -> None:
        """Start them all on a stream."""
        if self.driver.capturing(stream, self.device):
            raise RuntimeError(
                "the stream is being captured, and a graph would repeat the random bits of one step: step outside of it"
            )
        for record in self.records:
            status = self._kernel(self.driver.entries, record.ctypes.data, stream, hyper)
            if status:
                raise self.driver.launch_error(status)


def _described(rule: Rule, group: Arrays) -> list[tuple[str, Any]]:
    """All arrays of a group with their names, the gradient second."""
    names = group.names
    params = device_array.describe(names[0], group.params, True, _KINDS)
    parts = [(names[0], params)]

    def like(name: str, x: Any, kind: str, write: bool, shape: tuple[int, ...] = params.shape) -> None:
        part = device_array.describe(name, x, write, None)
        if part.dtype != kind:
            raise TypeError(f"{name} has dtype {part.dtype}; {kind} is needed beside {names[0]} of {params.dtype}")
        if part.shape != shape:
            raise ValueError(f"{name} has shape {part.shape}; {shape} is needed beside {names[0]}")
        parts.append((name, part))

    like(names[1], group.grads, params.dtype, False)
    for name, own, state in zip(names[2:], rule.states, group.states, strict=False):
        if isinstance(state, tuple):
            like(f"{name}.codes", state[0], "uint8" if own in rule.nonnegative else "int8", True, (params.size,))
            like(f"{name}.scales", state[1], "float32", True, (-(-params.size // BLOCK),))
        else:
            like(name, state, "float32", True)
    if group.extra is not None:
        like(names[-1], group.extra, "float32" if group.form == MASTER else params.dtype, True)
    return parts
