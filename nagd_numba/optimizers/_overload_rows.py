"""`step_rows` and `finish_rows` inside users' compiled code: serial loops, safe in `prange`, as in `_overload`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types
from numba.core.errors import TypingError
from numba.extending import overload

from ..kernels import elementwise, row_steps, statuses
from ..kernels.jit import inlined, subroutine
from ..kernels.raising import fill_with_nan, heard
from ..kernels.rule import Rule
from ..kernels.template import template
from ._overload_types import bound_types, cases, check_number, constant, function_of, hyper_of, is_none, typing_errors
from .idle import idle_step
from .optimizer import Optimizer, bare_signature

SHAPE = -1  # a status
STEP, FINISH = ("params", "rows", "grads", "vel", "last", "history"), ("params", "vel", "last", "rows", "history")


def rows_in_compiled_code(optimizer: Optimizer, function: Callable[..., Any], steps: bool) -> None:
    """Let compiled code call a function of rows, which takes a gradient where it `steps`."""
    name, rule = function.__name__, optimizer.rule
    signature = bare_signature(function)

    def typed(*args: Any, **keywords: Any) -> Callable[..., Any]:
        kinds = bound_types(signature, args, keywords)
        absent = {x for x in ("rows", "history") if is_none(kinds.get(x)) and not (steps and x == "rows")}
        if not is_none(kinds["stream"]):
            raise TypingError(f"{name}: stream is for CUDA arrays, called from Python")
        _check_arrays(name, {x: kinds[x] for x in (STEP if steps else FINISH) if x not in absent})
        check_number(name, "t", kinds["t"], whole=True, optional=False)
        for x in optimizer.settings:
            if optimizer.is_number(x):
                check_number(name, x, kinds[x], whole=False, optional=x in optimizer.follows)
        fixed = {x: constant(name, x, kinds[x]) for x in optimizer.fixed}
        with typing_errors(name):
            chosen = [optimizer.options(fixed, zero) for zero in cases(optimizer.branch, kinds)]
            hyper = hyper_of(optimizer, fixed)
        dtype = kinds["params"].dtype
        loops = [row_steps.rows_for_callers(rule, idle_step, options, dtype, steps) for options in chosen]
        plain = "rows" in absent or (kinds["rows"].dtype == types.int64 and kinds["rows"].layout == "C")
        rows = "no_rows()" if "rows" in absent else "rows" if plain else "rows.astype(np.int64)"
        history = "no_history()" if "history" in absent else "history"
        grads = "grads" if steps else "params[:0]"
        source = (
            f"def {name}{signature}:\n"
            f"    wanted, written, hyper = {rows}, {history}, {hyper}\n"
            f"    status = unfit(params, wanted, {grads}, {steps}, vel, last, written, t)\n"
            f"    if status == {statuses.OK}:\n"
            f"        which = params, wanted, {'rows' in absent}, {grads}, {steps}, vel, last\n"
            f"        status = run(which, np.int64(t), written, hyper)\n"
            f"    if status != {statuses.OK}:\n"
            f"        if heard():\n"
            f"            refuse(status, hyper)\n"
            f"        fill_with_nan(params, (vel,))\n"
            f"    return params\n"
        )
        return function_of(
            source,
            name,
            unfit=_unfit,
            run=_by_branch(rule, loops, str(optimizer.branch)),
            refuse=subroutine(refuse.bind(NAME=name, HYPER=_of_hyper(name, rule), **elementwise.limits(rule))),
            heard=heard,
            fill_with_nan=fill_with_nan,
            no_rows=_no_rows,
            no_history=_no_history,
        )

    typed.__signature__ = signature  # type: ignore[attr-defined]
    overload(function, prefer_literal=True)(typed)


def _check_arrays(name: str, arrays: dict[str, Any]) -> None:
    params = arrays["params"]
    wanted = {
        "params": (types.float32, types.float64),
        "rows": (types.int32, types.int64),
        "last": (types.int64,),
        "history": (types.float64,),
    }
    for x, kind in arrays.items():
        dtypes = wanted.get(x) or (params.dtype,)
        dimensions = 1 if x in ("rows", "last") else 2
        if not isinstance(kind, types.Array) or kind.dtype not in dtypes or kind.ndim != dimensions:
            either = " or ".join(map(str, dtypes))
            raise TypingError(f"{name}: {x} is {kind}; an array of {either} with {dimensions} dimension(s) is needed")
        if x != "rows" and kind.layout != "C":
            raise TypingError(f"{name}: {x} is {kind}; a C-contiguous array is needed: np.ascontiguousarray({x})")
        if x not in ("rows", "grads") and not kind.mutable:
            raise TypingError(f"{name}: {x} is read-only and would be updated in place")


def _by_branch(rule: Rule, loops: list[Any], branch: str) -> Any:
    at = list(rule.hyper).index(branch)
    return subroutine(by_branch.bind(zero=loops[0], other=loops[-1], BRANCH=at))


def _of_hyper(name: str, rule: Rule) -> tuple[str, ...]:
    return tuple(f"{name}: {x} must be {rule.range_of(x)}" for x in rule.hyper)


@template
def by_branch(zero: Any, other: Any, BRANCH: int) -> Any:
    def by_branch(which: Any, t: Any, history: Any, hyper: Any) -> Any:
        params, rows, everything, grads, steps, vel, last = which
        if hyper[BRANCH] == 0:
            return zero(params, rows, everything, grads, steps, vel, last, t, history, hyper)
        return other(params, rows, everything, grads, steps, vel, last, t, history, hyper)

    return by_branch


@subroutine
def _unfit(params: Any, rows: Any, grads: Any, steps: Any, vel: Any, last: Any, history: Any, t: Any) -> Any:
    """`OK`, or `SHAPE` where shapes do not fit each other."""
    fits = vel.shape == params.shape and last.shape[0] == params.shape[0] and history.shape[1] == row_steps.ENTRIES
    if steps:
        fits &= grads.shape == (len(rows), params.shape[1]) and t >= 1
    length = history.shape[0]
    return statuses.OK if fits and t >= 0 and length != 1 and length & (length - 1) == 0 else SHAPE


@inlined
def _no_rows() -> Any:
    return np.empty(0, np.int64)


@inlined
def _no_history() -> Any:
    return np.empty((0, row_steps.ENTRIES))


@template
def refuse(NAME: str, HYPER: tuple[str, ...], LOW: tuple[float, ...], BELOW: tuple[float, ...]) -> Any:
    SHAPES = f"{NAME}: vel needs the shape of params, last a number for each row, grads a row for each of rows; t >= 1"
    OVERLAP = f"{NAME}: what is written must not overlap in memory with anything: pass copies"
    OUTSIDE = f"{NAME}: rows must be from 0 to below the number of rows of params"
    TWICE = f"{NAME}: rows must be distinct: add up the gradients of a row that is there twice"
    AHEAD = f"{NAME}: last must be below t (in finish_rows at most t): t is one more with each step"
    BEFORE = f"{NAME}: last must be >= 0, and no less than where history begins"
    HISTORY = f"{NAME}: history lacks steps before t, has no room for it, or has it with other settings"
    RANGE = f"{NAME}: the hyper-parameters together leave the range of the arrays' dtype"

    def refuse(status: Any, hyper: Any) -> None:
        if status == SHAPE:
            raise ValueError(SHAPES)
        if status == statuses.OVERLAP:
            raise ValueError(OVERLAP)
        if status == row_steps.OUTSIDE:
            raise ValueError(OUTSIDE)
        if status == row_steps.TWICE:
            raise ValueError(TWICE)
        if status == row_steps.AHEAD:
            raise ValueError(AHEAD)
        if status == row_steps.BEFORE:
            raise ValueError(BEFORE)
        if status != statuses.HYPER:
            raise ValueError(HISTORY)
        for k in range(len(hyper)):
            if not (hyper[k] >= LOW[k] and hyper[k] < BELOW[k]):
                raise ValueError(HYPER[k])
        raise ValueError(RANGE)

    return refuse
