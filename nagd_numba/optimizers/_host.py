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
    kernel = ready(rule, *check(rule, named, hyper, options), options)()
    validation.tell_torch(params, *states)
    return kernel


def apply_lists(rule: Rule, groups: Groups, hyper: dict[str, Any], options: tuple[Any, ...]) -> None:
    """The same for each of several groups of host arrays; nothing is written before everything was checked.

    One kernel steps all that are contiguous and of one dtype.
    """
    runs: list[Callable] = []
    together: dict[np.dtype, list[Vectors]] = {}
    everything: list[tuple[str, np.ndarray]] = []
    for k, group in enumerate(groups):
        named = list(zip(validation.numbered(("params", "grads", *rule.states), k), group, strict=True))
        host, values = check(rule, named, hyper, options)
        everything += host
        flat = validation.flat_views([x for _, x in host])
        if flat is None:
            runs.append(ready(rule, host, values, options))
        elif flat[0].size > 0:
            together.setdefault(flat[0].dtype, []).append(flat)
    validation.no_overlap(everything, written=())
    for dtype, vectors_ in together.items():
        runs.append(_segments(rule, dtype, vectors_, values, options))
    for run in runs:
        run()
    for params, _, *states in groups:
        validation.tell_torch(params, *states)


def _segments(
    rule: Rule, dtype: np.dtype, vectors_: list[Vectors], values: tuple[float, ...], options: tuple[Any, ...]
) -> Callable:
    """The update of many vectors of one dtype, to be run."""
    addresses = [[x.ctypes.data for x in column] for column in zip(*vectors_, strict=True)]
    sizes = [x[0].size for x in vectors_]
    table = segments.Table([addresses[0], *addresses[2:]], sizes)
    table.places[segments.GRADS] = addresses[1]
    kernel = segments.segments_kernel(rule, options, dtype, use_parallel(sum(sizes)))

    def run() -> None:
        _accepted(kernel(table.places, table.ends, values))

    return run


def check(
    rule: Rule, named: Sequence[tuple[str, Any]], hyper: dict[str, Any], options: tuple[Any, ...]
) -> tuple[list[tuple[str, np.ndarray]], tuple[float, ...]]:
    """The arrays on the host, with their names, and the hyper-parameters as floats; raises where anything is unfit."""
    written = [name for k, (name, _) in enumerate(named) if k != 1]
    host = [(name, validation.host_array(name, x, write=name in written)) for name, x in named]
    validation.same_kind(host)
    validation.no_overlap(host, written=written)
    dtype = host[0][1].dtype
    values = validation.hyper_parameters(hyper, dtype, rule.range_of)
    rule.scalars(values, dtype, options)
    return host, values


def ready(
    rule: Rule, host: Sequence[tuple[str, np.ndarray]], values: tuple[float, ...], options: tuple[Any, ...]
) -> Callable[[], Callable | None]:
    """The update of checked arrays, to be run; it returns the kernel if it is the one for plain vectors."""
    flat = validation.flat_views([x for _, x in host])
    p, g, *s = flat if flat is not None else [x for _, x in host]
    if p.size == 0:
        return lambda: None
    arguments = (p, g, tuple(s), values)
    signature = tuple(map(typeof, arguments))
    if flat is None:
        kernel = elementwise.strided_kernel(rule, options, signature)
    else:
        kernel = elementwise.contiguous_kernel(rule, options, signature, use_parallel(p.size))
    # With the JIT off a kernel is a plain function, which refuses nothing.
    fit = flat is not None and signature == vectors(rule, p.dtype) and hasattr(kernel, "signatures")

    def run() -> Callable | None:
        _accepted(kernel(*arguments))
        return kernel if fit else None

    return run


def _accepted(status: int) -> None:
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
