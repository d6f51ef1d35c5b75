"""The steps inside users' compiled code: what `@overload` needs of a public step is made from its signature.

The implementation has the signature of the step and does no more than to hand its arguments, sorted, to one compiled
function of the rule, which checks what types do not tell, and runs the rule's serial loop: it may stand inside the
caller's `prange`.  In a thread of Numba's pool nobody hears an exception (`kernels.raising`): the arrays that would be
written become NaN there.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from numba import types
from numba.core.errors import TypingError
from numba.extending import overload

from ..kernels import elementwise, statuses
from ..kernels.composed.in_callers import composed_for_callers
from ..kernels.jit import inlined, subroutine
from ..kernels.raising import fill_with_nan, heard, nans_like
from ..kernels.rule import Rule
from ..kernels.template import template
from ._overload_composed import call_of, refusal_of_composed
from ._overload_types import (
    bound_types,
    cases,
    check_absent,
    check_array,
    check_number,
    constant,
    function_of,
    hyper_of,
    typing_errors,
)
from .optimizer import COMPOSITION, PYTHON_ONLY, Optimizer, bare_signature


def in_compiled_code(optimizer: Optimizer) -> None:
    """Let compiled code call the step of an optimizer, and what makes its constants."""
    _overload_step(optimizer)
    if optimizer.constants is not None:
        _overload_constants(optimizer, optimizer.constants)


def _overload_step(optimizer: Optimizer) -> None:
    step, name = optimizer.step, optimizer.name
    signature = bare_signature(step)
    absent = [x for x in PYTHON_ONLY if x in signature.parameters and x not in (*optimizer.settings, *COMPOSITION)]

    def typed(*args: Any, **keywords: Any) -> Callable[..., Any]:
        kinds = bound_types(signature, args, keywords)
        for x in optimizer.arrays:
            check_array(name, x, kinds[x], kinds["params"], written=x != "grads")
        check_absent(name, {x: kinds[x] for x in absent})
        call = call_of(optimizer, kinds)
        rule = call.rule
        for x in optimizer.settings:
            if optimizer.is_number(x) and x not in call.inputs:
                check_number(name, x, kinds[x], rule.range_of(x).whole, optional=x in optimizer.follows)
        fixed = {x: constant(name, x, kinds[x]) for x in optimizer.fixed}
        with typing_errors(name):
            chosen = [optimizer.options(fixed, zero) for zero in cases(optimizer.branch, kinds)]
            hyper = hyper_of(optimizer, fixed, rule.hyper, call.numbers)
        beside = [*call.states.values(), *call.inputs.values(), *filter(None, [call.mask])]
        plain, contiguous = rule is optimizer.rule, call.contiguous
        written = "states" if plain else f"({''.join(f'states[{k}], ' for k in range(len(call.states)))})"
        refuse = _refusal(name, rule, tuple(call.shaped))
        source = (
            f"def {step.__name__}{signature}:\n"
            f"    wrong = unfit(params.shape, ({''.join(f'{x}.shape, ' for x in call.shaped.values())}))\n"
            f"    states = ({''.join(f'vector({x}), ' for x in beside)})\n"
            f"    hyper, status = {hyper}, {statuses.LENGTH}\n"
            f"    if wrong < 0:\n"
            f"        status = run(vector(params), vector(grads), states, hyper)\n"
            f"    if status != {statuses.OK}:\n"
            f"        if heard():\n"
            f"            refuse(status, wrong, hyper)\n"
            f"        fill_with_nan(params, {written})\n"
            f"    return params\n"
        )
        return function_of(
            source,
            step.__name__,
            unfit=_unfit,
            run=_loop(rule, tuple(chosen), optimizer.branch, contiguous, () if plain else call.seen),
            refuse=refuse if plain else refusal_of_composed(name, rule, tuple(call.states), refuse),
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


@functools.cache
def _loop(
    rule: Rule,
    options: tuple[tuple[Any, ...], ...],
    branch: str | None,
    contiguous: bool,
    arrays: tuple[types.Array, ...],
) -> Callable[..., Any]:
    """The loop; with two `options` the second is for a hyper-parameter `branch` that is not 0.

    `arrays` are the types of those of a composed rule.
    """
    chosen: list[Callable[..., Any]] = [
        composed_for_callers(rule, x, contiguous, arrays)
        if arrays
        else elementwise.loop_for_callers(rule, x, contiguous)
        for x in options
    ]
    if branch is None or len(options) == 1:
        return chosen[0]
    at = list(rule.hyper).index(branch)
    return subroutine(by_branch.bind(zero_loop=chosen[0], other_loop=chosen[1], BRANCH=at))


@functools.cache
def _refusal(name: str, rule: Rule, shaped: tuple[str, ...] = ()) -> Callable[..., Any]:
    """`refuse(status, wrong, hyper)` raises; `shaped` are the arrays that have the shape of the parameters."""
    first = ("params", "grads", *rule.states)
    bound = refuse.bind(
        SHAPES=tuple(f"{name}: {x} must have the shape of params" for x in shaped or ("grads", *rule.states)),
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
                refuse(statuses.HYPER, -1, hyper)
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
        if status == statuses.LENGTH:
            raise ValueError(SHAPES[wrong])
        if status == statuses.OVERLAP:
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
