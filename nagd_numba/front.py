"""The way of a step from Python: straight to a kernel that is ready for such arrays, else through every check."""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import ndarray

from . import arrays
from .apply import PARALLEL_FROM
from .dispatch import update
from .loops import OK
from .rules import Rule
from .threads import parallel_allowed

GPU = f"{__package__}.gpu.step"


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
    if kind not in arrays.DTYPES:
        raise TypeError(f"dtype is {dtype!r}; np.float32 or np.float64 is needed")
    values = arrays.hyper_parameters(dict(zip(rule.hyper, hyper, strict=True)), kind, rule.range_of)
    return rule.scalars(values, kind, rule.defaults() if options is None else options)
