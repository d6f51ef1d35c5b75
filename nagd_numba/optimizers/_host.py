"""One rule, any arrays: choose the kernel for them, check, run.

The usual call, plain contiguous arrays, is `kernels.array_call`: one compiled call, which checks everything before its
first write.  Whatever that refuses comes to `apply`, which takes every other shape and place (strides, DLPack) and
words the errors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numba import typeof, types

from .. import validation
from ..kernels import elementwise, segments, statuses
from ..kernels.rule import Rule

Groups = list[tuple[Any, ...]]  # of (params, grads, states...), for each array of a list
Vectors = list[np.ndarray]  # params, grads, states: contiguous
Start = Callable[[tuple[float, ...]], int]  # an update of checked arrays, by its hyper-parameters; returns the status


def apply(
    rule: Rule,
    params: Any,
    grads: Any,
    states: Sequence[Any],
    hyper: dict[str, Any],
    options: tuple[Any, ...],
) -> segments.Step | None:
    """Update host arrays `params` and `states` in place by `rule`, after checking everything.

    Returns the step of contiguous vectors if that ran, else None.
    """
    named = [("params", params), ("grads", grads), *zip(rule.states, states, strict=True)]
    host, values = check(rule, named, hyper, options)
    start = ready(rule, host, options)
    accepted(start(values))
    validation.tell_torch(params, *states)
    return start.step if isinstance(start, Together) else None


def apply_lists(rule: Rule, groups: Groups, hyper: dict[str, Any], options: tuple[Any, ...]) -> None:
    """The same for each of several groups of host arrays; nothing is written before everything was checked."""
    starts, values = ready_lists(rule, groups, hyper, options)
    for start in starts:
        accepted(start(values))
    for params, _, *states in groups:
        validation.tell_torch(params, *states)


def ready_lists(
    rule: Rule, groups: Groups, hyper: dict[str, Any], options: tuple[Any, ...]
) -> tuple[list[Start], tuple[float, ...]]:
    """The updates of several groups of host arrays, to be started, and the hyper-parameters; after every check.

    One kernel steps all that are contiguous and of one dtype.
    """
    starts: list[Start] = []
    together: dict[np.dtype, list[Vectors]] = {}
    everything: list[tuple[str, np.ndarray]] = []
    values: dict[np.dtype, tuple[float, ...]] = {}
    for k, group in enumerate(groups):
        named = list(zip(validation.numbered(("params", "grads", *rule.states), k), group, strict=True))
        host = arrays_of_step(named)
        everything += host
        dtype = host[0][1].dtype
        if dtype not in values:
            values[dtype] = _numbers(rule, hyper, dtype, options)
        flat = validation.flat_views([x for _, x in host])
        if flat is None:
            starts.append(ready(rule, host, options))
        elif flat[0].size > 0:
            together.setdefault(flat[0].dtype, []).append(flat)
    each = len(groups[0])
    validation.no_overlap(everything, written={name for k, (name, _) in enumerate(everything) if k % each != 1})
    for vectors_ in together.values():
        starts.append(Together(rule, options, vectors_))
    return starts, next(iter(values.values()))


class Together:
    """The update of contiguous vectors of one dtype by one kernel: called with the hyper-parameters, a status."""

    def __init__(self, rule: Rule, options: tuple[Any, ...], vectors: list[Vectors]) -> None:
        self.table = segments.Table.of(vectors)
        self.step = segments.step_of(rule, options, vectors[0][0].dtype)

    def __call__(self, values: tuple[float, ...]) -> int:
        return self.step(self.table, values)


def check(
    rule: Rule, named: Sequence[tuple[str, Any]], hyper: dict[str, Any], options: tuple[Any, ...]
) -> tuple[list[tuple[str, np.ndarray]], tuple[float, ...]]:
    """The arrays on the host, with their names, and the hyper-parameters as floats; raises where anything is unfit."""
    host = arrays_of_step(named)
    validation.no_overlap(host, written={name for k, (name, _) in enumerate(named) if k != 1})
    return host, _numbers(rule, hyper, host[0][1].dtype, options)


def arrays_of_step(named: Sequence[tuple[str, Any]]) -> list[tuple[str, np.ndarray]]:
    """The arrays of a step, of which all but the second are written, on the host; of one shape and dtype."""
    host = [(name, validation.host_array(name, x, write=k != 1)) for k, (name, x) in enumerate(named)]
    validation.same_kind(host)
    return host


def _numbers(rule: Rule, hyper: dict[str, Any], dtype: np.dtype, options: tuple[Any, ...]) -> tuple[float, ...]:
    """The hyper-parameters as floats, for arrays of a dtype."""
    values = validation.hyper_parameters(hyper, dtype, rule.range_of)
    rule.scalars(values, dtype, options)
    return values


def ready(rule: Rule, host: Sequence[tuple[str, np.ndarray]], options: tuple[Any, ...]) -> Start:
    """The update of checked arrays."""
    flat = validation.flat_views([x for _, x in host])
    if flat is not None and flat[0].size > 0:
        return Together(rule, options, [flat])
    p, g, *others = [x for _, x in host]
    if p.size == 0:
        return lambda values: statuses.OK
    states = tuple(others)
    signature = (*map(typeof, (p, g, states)), types.UniTuple(types.float64, len(rule.hyper)))
    kernel = elementwise.strided_kernel(rule, options, signature)
    return lambda values: kernel(p, g, states, values)


def accepted(status: int) -> None:
    """Raise for a status of a kernel that tells of something wrong."""
    if status != statuses.OK:
        raise RuntimeError(f"a kernel refused arrays that had passed every check (status {status}): please report this")
