"""The steps inside users' compiled code: what `@overload` needs of a public step is made from its signature.

The implementation has the signature of the step and does no more than to hand its arguments, sorted, to one compiled
function of the rule, which checks what types do not tell, and runs the rule's serial loop: it may stand inside the
caller's `prange`.  In a thread of Numba's pool nobody hears an exception (`kernels.raising`): the arrays that would be
written become NaN there.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numba import types
from numba.core.errors import TypingError
from numba.extending import overload

from ..kernels import elementwise
from ..kernels.jit import inlined, subroutine
from ..kernels.raising import fill_with_nan, heard, nans_like
from ..kernels.rule import Rule
from ..kernels.template import template
from .optimizer import PYTHON_ONLY, Optimizer, bare_signature


def in_compiled_code(optimizer: Optimizer) -> None:
    """Let compiled code call the step of an optimizer, and what makes its constants."""
    _overload_step(optimizer)
    if optimizer.constants is not None:
        _overload_constants(optimizer, optimizer.constants)


def _overload_step(optimizer: Optimizer) -> None:
    step, rule, name = optimizer.step, optimizer.rule, optimizer.name
    signature = bare_signature(step)
    numbers = [x for x in optimizer.settings if optimizer.is_number(x)]

    def typed(*args: Any, **keywords: Any) -> Callable[..., Any]:
        kinds = bound_types(signature, args, keywords)
        _check_arrays(name, {x: kinds[x] for x in optimizer.arrays})
        _check_absent(name, {x: kinds[x] for x in PYTHON_ONLY if x in kinds and x not in optimizer.settings})
        for x in numbers:
            check_number(name, x, kinds[x], rule.range_of(x).whole, optional=x in optimizer.follows)
        fixed = {x: constant(name, x, kinds[x]) for x in optimizer.fixed}
        contiguous = all(kinds[x].layout == "C" for x in optimizer.arrays)
        with typing_errors(name):
            chosen = [optimizer.options(fixed, zero) for zero in cases(optimizer.branch, kinds)]
            hyper = hyper_of(optimizer, fixed)
        source = (
            f"def {step.__name__}{signature}:\n"
            f"    wrong = unfit(params.shape, ({''.join(f'{x}.shape, ' for x in optimizer.arrays[1:])}))\n"
            f"    states = ({''.join(f'vector({x}), ' for x in rule.states)})\n"
            f"    hyper, status = {hyper}, {elementwise.LENGTH}\n"
            f"    if wrong < 0:\n"
            f"        status = run(vector(params), vector(grads), states, hyper)\n"
            f"    if status != {elementwise.OK}:\n"
            f"        if heard():\n"
            f"            refuse(status, wrong, hyper)\n"
            f"        fill_with_nan(params, states)\n"
            f"    return params\n"
        )
        return function_of(
            source,
            step.__name__,
            unfit=_unfit,
            run=_loop(rule, tuple(chosen), optimizer.branch, contiguous),
            refuse=_refusal(name, rule),
            heard=heard,
            fill_with_nan=fill_with_nan,
            vector=_any_layout if not contiguous else _flattened if kinds["params"].ndim > 1 else _itself,
        )

    typed.__signature__ = signature  # type: ignore[attr-defined]
    overload(step, prefer_literal=True)(typed)


def _overload_constants(optimizer: Optimizer, function: Callable[..., Any]) -> None:
    rule, name = optimizer.rule, function.__name__
    signature = bare_signature(function)
    settings = optimizer.settings_of(function)

    def typed(*args: Any, **keywords: Any) -> Callable[..., Any]:
        kinds = bound_types(signature, args, keywords)
        dtype = kinds["dtype"]
        if not isinstance(dtype, types.NumberClass) or dtype.dtype not in (types.float32, types.float64):
            raise TypingError(f"{name}: dtype is {dtype}; np.float32 or np.float64 is needed")
        fixed = {x: constant(name, x, kinds[x]) for x in optimizer.fixed if x in settings}
        for x in settings:
            if optimizer.is_number(x):
                check_number(name, x, kinds[x], rule.range_of(x).whole, optional=False)
        with typing_errors(name):
            chosen = optimizer.options(fixed)
            hyper = hyper_of(optimizer, fixed)
        return function_of(
            f"def {name}{signature}:\n    return make({hyper}, dtype)\n",
            name,
            make=subroutine(
                checked_constants.bind(
                    constants=rule.constants,
                    OPTIONS=chosen,
                    refuse=_refusal(name, rule),
                    **elementwise.limits(rule),
                )
            ),
        )

    typed.__signature__ = signature  # type: ignore[attr-defined]
    overload(function, prefer_literal=True)(typed)


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
    return (kind == 0,) if isinstance(kind, float) else (True, False)


def hyper_of(optimizer: Optimizer, fixed: dict[str, Any]) -> str:
    """An expression for the tuple of the rule's hyper-parameters, in the parameters of the step."""

    def expression(x: str) -> str:
        if x in optimizer.choices:
            return repr(float(optimizer.choice(x, fixed[x])))
        if x in optimizer.follows:  # the product unpacks an optional
            return f"np.float64({optimizer.follows[x]} if {x} is None else 1.0 * {x})"
        return f"np.float64({x})"

    return f"({''.join(f'{expression(x)}, ' for x in optimizer.rule.hyper)})"


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


@functools.cache
def _loop(rule: Rule, options: tuple[tuple[Any, ...], ...], branch: str | None, contiguous: bool) -> Callable[..., Any]:
    """The loop; with two `options` the second is for a hyper-parameter `branch` that is not 0."""
    chosen: list[Callable[..., Any]] = [elementwise.loop_for_callers(rule, x, contiguous) for x in options]
    if branch is None or len(options) == 1:
        return chosen[0]
    at = list(rule.hyper).index(branch)
    return subroutine(by_branch.bind(zero_loop=chosen[0], other_loop=chosen[1], BRANCH=at))


@functools.cache
def _refusal(name: str, rule: Rule) -> Callable[..., Any]:
    """`refuse(status, wrong, hyper)` raises."""
    first = ("params", "grads", *rule.states)
    bound = refuse.bind(
        SHAPES=tuple(f"{name}: {x} must have the shape of params" for x in ("grads", *rule.states)),
        OVERLAP=f"{name}: {', '.join(first[:-1])} and {first[-1]} must not overlap in memory: pass copies",
        HYPER=tuple(f"{name}: {x} must be {rule.range_of(x)}" for x in rule.hyper),
        RANGE=f"{name}: {', '.join(rule.hyper)} together leave the range of the arrays' dtype",
        **elementwise.limits(rule),
    )
    return subroutine(bound)


@subroutine
def _unfit(params, others):
    """The place of the first of these shapes that is not that of params; -1 if none."""
    for k in range(len(others)):
        if others[k] != params:
            return k
    return -1


@template
def checked_constants(constants, OPTIONS, LOW, BELOW, refuse):
    def checked_constants(hyper, dtype):
        made = constants(hyper, dtype, OPTIONS)
        if not (elementwise.acceptable(hyper, LOW, BELOW) and elementwise.all_finite(made)):
            if heard():
                refuse(elementwise.HYPER, -1, hyper)
            return nans_like(made)
        return made

    return checked_constants


@template
def by_branch(zero_loop, other_loop, BRANCH):
    def by_branch(params, grads, states, hyper):
        if hyper[BRANCH] == 0:
            return zero_loop(params, grads, states, hyper)
        return other_loop(params, grads, states, hyper)

    return by_branch


@template
def refuse(SHAPES, OVERLAP, HYPER, RANGE, LOW, BELOW):
    def refuse(status, wrong, hyper):
        if status == elementwise.LENGTH:
            raise ValueError(SHAPES[wrong])
        if status == elementwise.OVERLAP:
            raise ValueError(OVERLAP)
        for k in range(len(hyper)):
            if not (hyper[k] >= LOW[k] and hyper[k] < BELOW[k]):
                raise ValueError(HYPER[k])
        raise ValueError(RANGE)

    return refuse


@inlined
def _itself(array):
    return array


@inlined
def _flattened(array):
    return array.reshape(-1)


@inlined
def _any_layout(array):
    return array[::1]  # of one type, contiguous or not


def _check_arrays(name: str, arrays: dict[str, Any]) -> None:
    params = arrays["params"]
    for x, kind in arrays.items():
        if not isinstance(kind, types.Array) or kind.dtype not in (types.float32, types.float64):
            raise TypingError(f"{name}: {x} is {kind}; an array of float32 or float64 is needed")
        if kind.dtype != params.dtype or kind.ndim != params.ndim:
            raise TypingError(
                f"{name}: {x} is {kind} and params {params}; one dtype and number of dimensions is needed"
            )
        if x != "grads" and not kind.mutable:
            raise TypingError(f"{name}: {x} is read-only and would be updated in place")


def _check_absent(name: str, kinds: dict[str, Any]) -> None:
    of = {"stream": "CUDA arrays", "master": "arrays of small storage"}
    of |= dict.fromkeys(("rounding", "compensation"), of["master"])
    for x, kind in kinds.items():
        if not is_none(kind):
            what = of.get(x, "steps that are")
            raise TypingError(f"{name}: {x} is for {what}{',' if 'arrays' in what else ''} called from Python")


def check_number(name: str, parameter: str, kind: Any, whole: bool, optional: bool) -> None:
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
    return kind is None or isinstance(kind, types.NoneType) or (isinstance(kind, types.Omitted) and kind.value is None)


def constant(name: str, parameter: str, kind: Any) -> Any:
    if isinstance(kind, types.Type) and not isinstance(kind, types.Literal | types.Omitted):
        raise TypingError(f"{name}: {parameter} must be a constant inside compiled code, got {kind}")
    if isinstance(kind, types.Literal):
        return kind.literal_value
    return kind.value if isinstance(kind, types.Omitted) else kind
