"""The Python entry point of a step, and where it goes: to the CPU kernels or to CUDA, for one array or for lists.

Arrays that a kernel was called with before go straight to that kernel; all others through every check.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy import ndarray

from .. import validation
from ..kernels.elementwise import OK
from ..kernels.jit import SIMULATOR
from ..kernels.rule import Rule
from ..kernels.threading_layer import parallel_allowed
from ._host import PARALLEL_FROM, apply, apply_lists
from .guard import Guard

GPU = "nagd_numba.gpu.launch"


Ready = dict[tuple[Any, ...], Callable]  # kernels that may be called on plain arrays with no check before


def python_step(
    rule: Rule, options_of: Callable[..., tuple[Any, ...]], ready: Ready | None = None
) -> Callable[..., None]:
    """`run(params, grads, states, hyper, given, stream, master, guard)`: one step of a rule.

    `given` is a tuple of all that the options of the rule depend on: `options_of(*given)` checks and returns them.
    `ready` takes the kernels by `(given, dtype, parallel)`.
    """
    ready = {} if ready is None else ready

    def run(params, grads, states, hyper, given, stream, master, guard):
        # numba's dispatcher takes any subclass, masked arrays too, for a plain array: only plain ones go its way.
        # (There are one or two states.)
        classes = params.__class__ is grads.__class__ is states[0].__class__ is states[-1].__class__ is ndarray
        if classes and stream is master is guard is None:
            key = given, params.dtype, params.size >= PARALLEL_FROM and parallel_allowed()
            try:
                if ready[key](params, grads, states, hyper) == OK:
                    return
            except (KeyError, TypeError):  # not met before, or not for this kernel
                pass
            kernel = update(rule, params, grads, states, named(hyper), options_of(*given))
            if kernel is not None:
                ready[key] = kernel
            return
        kind = (rule.name, *given)
        gpu: Any = sys.modules.get(GPU)  # there once device arrays were stepped
        if guard is None and gpu is not None and gpu.repeat((params, grads, *states, master), kind, hyper, stream):
            return
        update(rule, params, grads, states, named(hyper), options_of(*given), stream, master, kind, guard)

    def named(hyper):
        return dict(zip(rule.hyper, hyper, strict=True))

    return run


def step_number(t: Any) -> float:
    """The number of a step as a float; raises for anything but a whole number."""
    if t.__class__ is int and 0 < t < 1 << 53:
        return float(t)
    try:
        return float(min(operator.index(t), 1 << 53))  # out of range, or of another type
    except TypeError as error:
        raise TypeError(f"t is {t!r}; a whole number is needed: 1 for the first step") from error


def rule_constants(rule: Rule, dtype: Any, hyper: tuple[Any, ...], options: tuple[Any, ...] | None = None) -> Any:
    """A rule's constants for users' own calls of its scalar form, checked."""
    kind = np.dtype(dtype)
    if kind not in validation.DTYPES:
        raise TypeError(f"dtype is {dtype!r}; np.float32 or np.float64 is needed")
    values = validation.hyper_parameters(dict(zip(rule.hyper, hyper, strict=True)), kind, rule.range_of)
    return rule.scalars(values, kind, rule.defaults() if options is None else options)


def update(
    rule: Rule,
    params: Any,
    grads: Any,
    states: Sequence[Any],
    hyper: dict[str, Any],
    options: tuple[Any, ...],
    stream: Any = None,
    master: Any = None,
    kind: Any = None,
    guard: Any = None,
) -> Callable | None:
    """Update `params` and `states` in place by `rule`, after checking everything.

    `kind` is what `gpu.step.repeat` will be asked with for the same options.  Returns the kernel that ran if it is the
    one for plain host vectors, which may be called without a check; else None.
    """
    if guard is not None:
        _guarded(guard, rule, params, grads, states, hyper, options, stream, master)
        return None
    if not isinstance(params, list | tuple):
        names = ("params", "grads", *rule.states, "master")
        group = (params, grads, *states, master)
        if not _on_device([(names, group)], stream):
            return apply(rule, *_host(group), hyper, options)
        _gpu().apply(rule, options, [(names, group)], tuple(hyper.values()), stream, kind)
        return None
    groups = _groups(rule, params, grads, states, master)
    if not groups:
        validation.hyper_parameters(hyper, validation.DTYPES[0], rule.range_of)
    elif not _on_device(groups, stream):
        parts = [_host(group) for _, group in groups]
        apply_lists(rule, [(p, g, *s) for p, g, s in parts], hyper, options)
    else:
        _gpu().apply(rule, options, groups, tuple(hyper.values()), stream, kind, lists=True)
    return None


def _guarded(
    guard: Any,
    rule: Rule,
    params: Any,
    grads: Any,
    states: Sequence[Any],
    hyper: dict[str, Any],
    options: tuple[Any, ...],
    stream: Any,
    master: Any,
) -> None:
    if not isinstance(guard, Guard):
        raise TypeError(f"guard is {validation.type_of(guard)}; a nagd_numba.Guard is needed")
    if isinstance(params, list | tuple):
        groups = _groups(rule, params, grads, states, master)
    else:
        groups = [(("params", "grads", *rule.states, "master"), (params, grads, *states, master))]
    if not groups:
        validation.hyper_parameters(hyper, validation.DTYPES[0], rule.range_of)
    elif _on_device(groups, stream):
        raise ValueError("guard is for arrays in host memory, and these are on a CUDA device: leave it out")
    else:
        parts = [_host(group) for _, group in groups]
        guard.step(rule, [(p, g, *s) for p, g, s in parts], hyper, options)


def _groups(rule: Rule, params: Any, grads: Any, states: Sequence[Any], master: Any) -> list[Any]:
    """The arrays at each place of the lists, with their names; raises where the lists differ in length."""
    columns = {"params": params, "grads": grads, **dict(zip(rule.states, states, strict=True))}
    columns["master"] = [None] * len(params) if master is None else master
    for name, column in columns.items():
        if not isinstance(column, list | tuple) or len(column) != len(params):
            said = f"has {len(column)}" if isinstance(column, list | tuple) else f"is {validation.type_of(column)}"
            raise TypeError(
                f"params is a list of {len(params)} and {name} {said}; lists of arrays, one for each, are needed, "
                f"or one array everywhere: np.asarray(params)"
            )
    return [
        (validation.numbered(tuple(columns), k), group) for k, group in enumerate(zip(*columns.values(), strict=True))
    ]


def _on_device(groups: list[Any], stream: Any) -> bool:
    """Are all arrays on a device?  Raises where only some are, and for what has a meaning only there."""
    named = [(name, x) for names, group in groups for name, x in zip(names, group, strict=True) if x is not None]
    if validation.any_on_device(named) and not SIMULATOR:
        return True
    if stream is not None and not SIMULATOR:
        raise ValueError("stream is for arrays on a CUDA device, and these are on the host: leave it out")
    for names, group in groups:
        if group[-1] is not None:
            raise ValueError(
                f"{names[-1]} is for parameters of half precision on a CUDA device: leave it out, or step the copy"
            )
    return False


def _host(group: tuple[Any, ...]) -> tuple[Any, Any, tuple[Any, ...]]:
    """Params, grads, states; the simulator's device arrays lie in host memory, where the CPU kernels work on them."""
    params, grads, *states = map(validation.unsimulated, group[:-1])
    return params, grads, tuple(states)


def _gpu() -> Any:
    from ..gpu import launch  # imports numba.cuda

    return launch
