"""What the types of a call in users' compiled code tell about a step, and what it is refused for when compiling."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numba import types
from numba.core.errors import TypingError

from .optimizer import Optimizer


def bound_types(signature: inspect.Signature, args: Any, keywords: Any) -> dict[str, Any]:
    """The types of all parameters, or their defaults."""
    given = signature.bind(*args, **keywords)
    given.apply_defaults()
    return dict(given.arguments)


def cases(branch: str | None, kinds: dict[str, Any]) -> tuple[bool, ...]:
    """Whether the hyper-parameter `branch` is 0, as far as is known when compiling; else both cases."""
    if branch is None:
        return (False,)
    kind = kinds[branch]
    if isinstance(kind, types.Omitted):
        kind = kind.value
    if isinstance(kind, types.Array):  # as from Python, where nobody looks
        return (False,)
    return (kind == 0,) if isinstance(kind, float) else (True, False)


def hyper_of(
    optimizer: Optimizer, fixed: dict[str, Any], names: Iterable[str] = (), others: Mapping[str, str] | None = None
) -> str:
    """An expression for the tuple of the rule's hyper-parameters, in the parameters of the step.

    Or of these `names`, with the expressions of `others` that are not of the rule.
    """

    def expression(x: str) -> str:
        if others is not None and x in others:
            return others[x]
        if x in optimizer.choices:
            return repr(float(optimizer.choice(x, fixed[x])))
        if x in optimizer.follows:  # the product unpacks an optional
            return f"np.float64({optimizer.follows[x]} if {x} is None else 1.0 * {x})"
        return f"np.float64({x})"

    return f"({''.join(f'{expression(x)}, ' for x in names or optimizer.rule.hyper)})"


def function_of(source: str, name: str, **namespace: Any) -> Callable[..., Any]:
    """A function from its source: numba wants one with the very parameters of the step."""
    namespace["np"] = np
    exec(source, namespace)
    made: Callable[..., Any] = namespace[name]
    return made


@contextlib.contextmanager
def typing_errors(name: str) -> Iterator[None]:
    """Errors that the checks of Python raise, as numba's."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise TypingError(f"{name}: {error}") from error


def check_array(name: str, parameter: str, kind: Any, params: Any, written: bool = False) -> None:
    """Raise for what is no array like the parameters, or cannot be written."""
    if not isinstance(kind, types.Array) or kind.dtype not in (types.float32, types.float64):
        raise TypingError(f"{name}: {parameter} is {kind}; an array of float32 or float64 is needed")
    if kind.dtype != params.dtype or kind.ndim != params.ndim:
        raise TypingError(
            f"{name}: {parameter} is {kind} and params {params}; one dtype and number of dimensions is needed"
        )
    if written and not kind.mutable:
        raise TypingError(f"{name}: {parameter} is read-only and would be updated in place")


def check_absent(name: str, kinds: dict[str, Any]) -> None:
    """Raise for arguments that compiled callers leave out."""
    of = {"stream": "CUDA arrays", "master": "arrays of small storage"}
    of |= dict.fromkeys(("rounding", "compensation"), of["master"])
    for x, kind in kinds.items():
        if not is_none(kind):
            what = of.get(x, "steps that are")
            raise TypingError(f"{name}: {x} is for {what}{',' if 'arrays' in what else ''} called from Python")


def check_number(name: str, parameter: str, kind: Any, whole: bool, optional: bool) -> None:
    """Raise for what is no number; with `optional` it may be None."""
    value = kind.value if isinstance(kind, types.Omitted) else kind
    if optional and is_none(value):
        return
    if isinstance(value, types.Optional) and optional:
        value = value.type
    known = types.unliteral(value) if isinstance(value, types.Type) else value
    allowed = types.Integer | types.Boolean | int
    if not whole:
        allowed |= types.Float | float
    if not isinstance(known, allowed):
        raise TypingError(f"{name}: {parameter} is {kind}; a {'whole ' if whole else ''}number is needed")


def is_none(kind: Any) -> bool:
    """Is it None, or left out where that is the default?"""
    return kind is None or isinstance(kind, types.NoneType) or (isinstance(kind, types.Omitted) and kind.value is None)


def constant(name: str, parameter: str, kind: Any) -> Any:
    """The value of a parameter that must be known when compiling."""
    if isinstance(kind, types.Type) and not isinstance(kind, types.Literal | types.Omitted):
        raise TypingError(f"{name}: {parameter} must be a constant inside compiled code, got {kind}")
    if isinstance(kind, types.Literal):
        return kind.literal_value
    return kind.value if isinstance(kind, types.Omitted) else kind
