"""One rule, any arrays: choose the kernel for them, check, run.

The usual call, contiguous vectors that fit a kernel compiled before, costs its front end one dictionary look-up and
one call of that kernel, which checks lengths, overlap and hyper-parameters before its first write.  Whatever that
kernel refuses comes to `apply`, which takes every other shape and place (strides, DLPack) and words the errors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numba import typeof, types
from numba.np.numpy_support import from_dtype

from .. import validation
from ..kernels import elementwise, segments, threading_layer
from ..kernels.rule import Rule

# From this many elements on, two threads beat one (benchmarks/crossover.py measures it).
PARALLEL_FROM = 40_000


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
) -> Callable | None:
    """Update host arrays `params` and `states` in place by `rule`, after checking everything.

    Returns the kernel that ran if it is the one for plain vectors, which may be called without `apply`; else None.
    """
    named = [("params", params), ("grads", grads), *zip(rule.states, states, strict=True)]
    host, values = check(rule, named, hyper, options)
    start, kernel = ready(rule, host, options)
    accepted(start(values))
    validation.tell_torch(params, *states)
    return kernel


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
            starts.append(ready(rule, host, options)[0])
        elif flat[0].size > 0:
            together.setdefault(flat[0].dtype, []).append(flat)
    each = len(groups[0])
    validation.no_overlap(everything, written={name for k, (name, _) in enumerate(everything) if k % each != 1})
    for dtype, vectors_ in together.items():
        starts.append(_segments(rule, dtype, vectors_, options))
    return starts, next(iter(values.values()))


def _segments(rule: Rule, dtype: np.dtype, vectors_: list[Vectors], options: tuple[Any, ...]) -> Start:
    """The update of many vectors of one dtype."""
    addresses = [[x.ctypes.data for x in column] for column in zip(*vectors_, strict=True)]
    sizes = [x[0].size for x in vectors_]
    table = segments.Table([addresses[0], *addresses[2:]], sizes)
    table.places[segments.GRADS] = addresses[1]
    total = sum(sizes)

    def start(values: tuple[float, ...], kept: Any = vectors_) -> int:
        kernel = segments.segments_kernel(rule, options, dtype, use_parallel(total))
        status: int = kernel(table.places, table.ends, values)
        return status

    return start


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


def ready(
    rule: Rule, host: Sequence[tuple[str, np.ndarray]], options: tuple[Any, ...]
) -> tuple[Start, Callable | None]:
    """The update of checked arrays, and the kernel that it starts now if that is the one for plain vectors."""
    flat = validation.flat_views([x for _, x in host])
    p, g, *others = flat if flat is not None else [x for _, x in host]
    if p.size == 0:
        return (lambda values: elementwise.OK), None
    states = tuple(others)
    signature = (*map(typeof, (p, g, states)), types.UniTuple(types.float64, len(rule.hyper)))
    if flat is None:
        kernel = elementwise.strided_kernel(rule, options, signature)
        return (lambda values: kernel(p, g, states, values)), None
    kernel = elementwise.contiguous_kernel(rule, options, signature, use_parallel(p.size))

    def start(values: tuple[float, ...]) -> int:
        status: int = kernel(p, g, states, values)
        return status

    def start_long(values: tuple[float, ...]) -> int:  # whether threads may run can change
        status: int = elementwise.contiguous_kernel(rule, options, signature, use_parallel(p.size))(
            p, g, states, values
        )
        return status

    # With the JIT off a kernel is a plain function, which refuses nothing.
    fit = signature == vectors(rule, p.dtype) and hasattr(kernel, "signatures")
    return start if p.size < PARALLEL_FROM else start_long, kernel if fit else None


def accepted(status: int) -> None:
    """Raise for a status of a kernel that tells of something wrong."""
    if status != elementwise.OK:
        raise RuntimeError(f"a kernel refused arrays that had passed every check (status {status}): please report this")


def use_parallel(size: int) -> bool:
    """Is a vector of this size for the parallel kernel, here and now?"""
    return size >= PARALLEL_FROM and threading_layer.parallel_allowed()


def vectors(rule: Rule, dtype: Any) -> tuple[types.Type, ...]:
    """The signature of a rule's kernel on plain contiguous vectors."""
    array = from_dtype(np.dtype(dtype))[::1]
    hyper = types.UniTuple(types.float64, len(rule.hyper))
    return array, array, types.UniTuple(array, len(rule.states)), hyper
