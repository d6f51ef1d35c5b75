"""The steps inside users' compiled code: what `@overload` needs of a public step is made from its signature.

The implementation has the signature of the step and does no more than to hand its arguments, sorted, to one compiled
function of the rule, which checks what types do not tell, and runs the rule's serial loop: it may stand inside the
caller's `prange`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types
from numba.core.errors import TypingError
from numba.extending import overload

from ..kernels import elementwise
from ..kernels.jit import callee, inlined
from ..kernels.rule import Rule

# Bound below.
loop: Any = None
undecayed_loop: Any = None
decayed_loop: Any = None
refuse: Any = None
constants: Any = None
OPTIONS: Any = None
DECAY: Any = None
LOW: Any = None
BELOW: Any = None
GRADS: Any = None
STATES: Any = None
OVERLAP: Any = None
HYPER: Any = None
RANGE: Any = None


def in_compiled_code(
    step: Callable,
    rule: Rule,
    fixed: tuple[str, ...],
    options: Callable[..., tuple[Any, ...]],
    hyper: Callable[..., dict[str, str]] = lambda *constants: {},
    decayed: bool = False,
) -> None:
    """Let compiled code call `step(params, grads, *states, ...)`.

    fixed    the parameters of `step` that must be constants there
    options  what makes the rule's options of these; with `decayed` also of whether the weight decay is 0
    hyper    what makes of these constants expressions for hyper-parameters that are not parameters of `step`, or not
             just numbers
    """
    signature = inspect.signature(step)
    name = f"nagd_numba.{step.__name__}"
    arrays = ("params", "grads", *rule.states)
    numbers = [x for x in signature.parameters if x not in (*arrays, *fixed, "stream", "master", "guard")]

    def typed(*args: Any, **keywords: Any) -> Callable:
        given = signature.bind(*args, **keywords)
        given.apply_defaults()
        kinds = given.arguments
        _check_arrays(name, {x: kinds[x] for x in arrays})
        _check_absent(name, kinds["stream"], kinds["master"], kinds["guard"])
        for x in numbers:
            _check_number(name, x, kinds[x], rule.range_of(x).whole, optional=signature.parameters[x].default is None)
        constants = tuple(_constant(name, x, kinds[x]) for x in fixed)
        contiguous = all(kinds[x].layout == "C" for x in arrays)
        try:
            chosen = [options(*constants, True), options(*constants, False)] if decayed else [options(*constants)]
            expressions = {x: f"np.float64({x})" for x in rule.hyper} | hyper(*constants)
        except (TypeError, ValueError) as error:
            raise TypingError(f"{name}: {error}") from error
        if decayed and isinstance(kinds["weight_decay"], types.Omitted | float):
            chosen = chosen[:1]  # it is 0
        source = (
            f"def {step.__name__}{signature}:\n"
            f"    check(params.shape, grads.shape, ({''.join(f'{x}.shape, ' for x in rule.states)}))\n"
            f"    states = ({''.join(f'vector({x}), ' for x in rule.states)})\n"
            f"    run(vector(params), vector(grads), states, ({', '.join(expressions[x] for x in rule.hyper)}))\n"
            f"    return params\n"
        )
        namespace: dict[str, Any] = {
            "check": _shape_check(name, rule),
            "run": _checked_loop(name, rule, tuple(chosen), contiguous),
            "vector": _any_layout if not contiguous else _flattened if kinds["params"].ndim > 1 else _itself,
            "np": np,
        }
        exec(source, namespace)  # numba wants a function with these very parameters
        made: Callable = namespace[step.__name__]
        return made

    typed.__signature__ = signature  # type: ignore[attr-defined]
    overload(step, prefer_literal=True)(typed)


def constants_in_compiled_code(
    function: Callable,
    rule: Rule,
    fixed: tuple[str, ...],
    options: Callable[..., tuple[Any, ...]],
    hyper: Callable[..., dict[str, str]] = lambda *constants: {},
) -> None:
    """Let compiled code call `function(dtype, ...)`, which makes the rule's constants; else as `in_compiled_code`."""
    signature = inspect.signature(function)
    name = f"nagd_numba.{function.__name__}"

    def typed(*args: Any, **keywords: Any) -> Callable:
        given = signature.bind(*args, **keywords)
        given.apply_defaults()
        kinds = dict(given.arguments)
        dtype = kinds.pop("dtype")
        if not isinstance(dtype, types.NumberClass) or dtype.dtype not in (types.float32, types.float64):
            raise TypingError(f"{name}: dtype is {dtype}; np.float32 or np.float64 is needed")
        constants = tuple(_constant(name, x, kinds.pop(x)) for x in fixed)
        for x, kind in kinds.items():
            _check_number(name, x, kind, rule.range_of(x).whole, optional=False)
        try:
            chosen = options(*constants)
            expressions = {x: f"np.float64({x})" for x in rule.hyper} | hyper(*constants)
        except (TypeError, ValueError) as error:
            raise TypingError(f"{name}: {error}") from error
        source = (
            f"def {function.__name__}{signature}:\n"
            f"    return make(({', '.join(expressions[x] for x in rule.hyper)}), dtype)\n"
        )
        refuse = _refusal(name, rule)
        make = callee(_checked_constants, constants=rule.constants, OPTIONS=chosen, refuse=refuse, **_ranges(rule))
        namespace: dict[str, Any] = {"make": make, "np": np}
        exec(source, namespace)
        made: Callable = namespace[function.__name__]
        return made

    typed.__signature__ = signature  # type: ignore[attr-defined]
    overload(function, prefer_literal=True)(typed)


@functools.cache
def compiled_loop(rule: Rule, options: tuple[Any, ...], contiguous: bool) -> Callable:
    """The rule's loop for a caller's arrays, serial: `loop(params, grads, states, hyper) -> status`."""
    bound = elementwise.bindings(rule, options)
    if contiguous:
        return callee(elementwise.contiguous, **bound)
    return callee(elementwise.strided_checked, strided=callee(elementwise.strided, **bound))


@functools.cache
def _shape_check(name: str, rule: Rule) -> Callable:
    message = f"{name}: {{}} must have the shape of params"
    return callee(_check_shapes, GRADS=message.format("grads"), STATES=tuple(map(message.format, rule.states)))


@functools.cache
def _checked_loop(name: str, rule: Rule, options: tuple[tuple[Any, ...], ...], contiguous: bool) -> Callable:
    """The loop, or raising; with two `options` the second is for a weight decay that is not 0."""
    chosen = [compiled_loop(rule, x, contiguous) for x in options]
    run = chosen[0]
    if len(options) > 1:
        at = list(rule.hyper).index("weight_decay")
        run = callee(_by_decay, undecayed_loop=chosen[0], decayed_loop=chosen[1], DECAY=at)
    return callee(_run, loop=run, refuse=_refusal(name, rule))


@functools.cache
def _refusal(name: str, rule: Rule) -> Callable:
    """`refuse(status, hyper)` raises."""
    others = ", ".join(("params", "grads", *rule.states[:-1]))
    return callee(
        _refuse,
        **_ranges(rule),
        OVERLAP=f"{name}: {others} and {rule.states[-1]} must not overlap in memory: pass copies",
        HYPER=tuple(f"{name}: {x} must be {rule.range_of(x)}" for x in rule.hyper),
        RANGE=f"{name}: {', '.join(rule.hyper)} together leave the range of the arrays' dtype",
    )


def _ranges(rule: Rule) -> dict[str, Any]:
    bound = elementwise.bindings(rule, rule.defaults())
    return {name: bound[name] for name in ("LOW", "BELOW")}


def _check_shapes(params, grads, states):
    if grads != params:
        raise ValueError(GRADS)
    for k in range(len(states)):
        if states[k] != params:
            raise ValueError(STATES[k])


def _run(params, grads, states, hyper):
    status = loop(params, grads, states, hyper)
    if status != elementwise.OK:
        refuse(status, hyper)


def _checked_constants(hyper, dtype):
    made = constants(hyper, dtype, OPTIONS)
    if not (elementwise.acceptable(hyper, LOW, BELOW) and elementwise.all_finite(made)):
        refuse(elementwise.HYPER, hyper)
    return made


def _by_decay(params, grads, states, hyper):
    if hyper[DECAY] == 0:
        return undecayed_loop(params, grads, states, hyper)
    return decayed_loop(params, grads, states, hyper)


def _refuse(status, hyper):
    if status == elementwise.OVERLAP:
        raise ValueError(OVERLAP)
    for k in range(len(hyper)):
        if not (hyper[k] >= LOW[k] and hyper[k] < BELOW[k]):
            raise ValueError(HYPER[k])
    raise ValueError(RANGE)


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


def _check_absent(name: str, stream: Any, master: Any, guard: Any) -> None:
    if not _is_none(guard):
        raise TypingError(f"{name}: guard is for steps that are called from Python")
    if not _is_none(stream):
        raise TypingError(f"{name}: stream is for CUDA arrays, called from Python")
    if not _is_none(master):
        raise TypingError(f"{name}: master is for CUDA arrays of half precision, called from Python")


def _check_number(name: str, parameter: str, kind: Any, whole: bool, optional: bool) -> None:
    value = kind.value if isinstance(kind, types.Omitted) else kind
    if optional and _is_none(value):
        return
    if isinstance(value, types.Optional) and optional:
        value = value.type
    known = types.unliteral(value) if isinstance(value, types.Type) else value
    allowed = types.Integer | types.Boolean if whole else types.Integer | types.Float | types.Boolean | float
    if not isinstance(known, allowed):
        raise TypingError(f"{name}: {parameter} is {kind}; a {'whole ' if whole else ''}number is needed")


def _is_none(kind: Any) -> bool:
    return kind is None or isinstance(kind, types.NoneType) or (isinstance(kind, types.Omitted) and kind.value is None)


def _constant(name: str, parameter: str, kind: Any) -> Any:
    if isinstance(kind, types.Type) and not isinstance(kind, types.Literal | types.Omitted):
        raise TypingError(f"{name}: {parameter} must be a constant inside compiled code, got {kind}")
    if isinstance(kind, types.Literal):
        return kind.literal_value
    return kind.value if isinstance(kind, types.Omitted) else kind
