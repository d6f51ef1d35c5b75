"""The loop bound to the user's functions: compiled, or in Python."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from numba import types
from numba.core.errors import TypingError
from numba.extending import is_jitted, overload

from ..kernels.jit import bind, callee, over_users
from . import algorithm, objective, prox, vectors

TOGETHER, APART, DIFFERENCES = "together", "apart", "differences"  # where the gradient comes from


class Functions(NamedTuple):
    """The user's functions, and the names of what is ours: what makes a loop."""

    fun: Callable
    jac: Callable | None  # for APART
    form: str
    prox: str | Callable | None = None
    penalty: Callable | None = None  # of a prox of the user's

    @property
    def jitted(self) -> bool:
        own = [self.fun, self.jac, self.prox if callable(self.prox) else None, self.penalty]
        return all(is_jitted(function) for function in own if function is not None)


class Loop(NamedTuple):
    """`algorithm.start`, `algorithm.advance`, `algorithm.conclude`, and all of them as `algorithm.solve`, for some functions."""

    start: Callable
    advance: Callable
    conclude: Callable
    solve: Callable


def _templates(functions: Functions) -> tuple[dict[str, Callable], dict[str, Any]]:
    """The parts of the loop that depend on the functions, and what these are bound to."""
    forms = {
        TOGETHER: (objective.evaluate_together, objective.value_together),
        APART: (objective.evaluate_apart, objective.value_alone),
        DIFFERENCES: (objective.evaluate_differences, objective.value_alone),
    }
    maps = {
        None: (prox.nothing, prox.no_penalty),
        "l1": (prox.soft_threshold, prox.weighted_l1),
        "box": (prox.clip, prox.no_penalty),
        "nonneg": (prox.clip, prox.no_penalty),
    }
    map_, penalty = (prox.users, prox.no_penalty) if callable(functions.prox) else maps[functions.prox]
    if functions.penalty is not None:
        penalty = prox.users_penalty
    evaluate, value = forms[functions.form]
    own = {"fun": functions.fun, "jac": functions.jac, "own": functions.prox, "own_penalty": functions.penalty}
    return {"evaluate": evaluate, "value": value, "prox": map_, "penalty": penalty}, own


# Bounded: a user who makes functions in a loop would fill the memory.
@functools.lru_cache(maxsize=128)
def compiled(functions: Functions) -> Loop:
    """For functions that are compiled themselves.  What it is compiled for is kept while it is."""
    templates, own = _templates(functions)
    own["take"] = callee(objective.take_elements)
    bound = {name: over_users(template, **own) for name, template in templates.items()}
    return _loop(over_users, {**bound, **vectors.inside()}, functions)


@functools.lru_cache(maxsize=128)
def rows(functions: Functions, parallel: bool) -> Callable:
    """`algorithm.solve_rows`."""
    return over_users(algorithm.solve_rows, parallel, solve=compiled(functions).solve, row=row)


def interpreted(functions: Functions) -> Loop:
    """The same text as Python.  Its vectors are float64 and contiguous, as its kernels need them."""
    return bound_in_python(functions, vectors.kernels(), prox.kernels())


def bound_in_python(functions: Functions, operations: dict[str, Callable], maps: dict[Callable, Callable]) -> Loop:
    """The text with these operations on vectors, and `maps` in the place of our own proximal maps."""
    templates, own = _templates(functions)
    own["take"] = objective.take_array
    bound = {name: maps.get(f) or _in_python(f, **own) for name, f in templates.items()}
    return _loop(_in_python, {**bound, **operations}, functions)


def _loop(make: Callable, names: dict[str, Any], functions: Functions) -> Loop:
    names["PROXIMAL"] = functions.prox is not None
    parts = {f.__name__: make(f, **names) for f in (algorithm.start, algorithm.advance, algorithm.conclude)}
    return Loop(**parts, solve=make(algorithm.solve, **parts))


def _in_python(function: Callable, **bindings: Any) -> Callable:
    return bind(function, function.__name__, bindings)


def row(columns, m):
    """Row `m` of each array of a tuple."""
    return tuple(column[m] for column in columns)


@overload(row)
def _row(columns, m):
    if not isinstance(columns, types.BaseTuple):
        raise TypingError("a tuple of arrays is needed")
    if len(columns) == 0:
        return lambda columns, m: ()
    return lambda columns, m: (columns[0][m], *row(columns[1:], m))
