"""Masks, bounds, proximal maps, averages and rates for elements of steps in users' compiled code.

What a step does beside its rule is known when it is compiled: by the types of its arguments a `Call` has the rule that
is composed for it, and what the caller's arrays and numbers are for that rule.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from numba import types
from numba.core.errors import TypingError

from ..kernels import statuses
from ..kernels.composed import Parts, composed
from ..kernels.jit import subroutine
from ..kernels.rule import Rule
from ..kernels.template import template
from ._overload_types import check_array, check_number, constant, is_none, typing_errors
from .bounds import bounds_of, kind_of, prox_of
from .optimizer import COMPOSITION, Optimizer

GROUPS = "groups are named in Python: inside compiled code call the step for each segment, with its settings"
ANY_ARRAY: list[Any] = []  # in the place of an array, whose values are not known


class Call(NamedTuple):
    """What a step is called with, beside the parameters that its rule alone has.

    rule      the rule, composed with all that is asked for
    states    expressions of the arrays of the rule behind the gradients that are written, by name, in its order
    inputs    the same of those that are only read
    mask      an expression of the mask, or ""
    numbers   expressions of the hyper-parameters that the step does not have
    kinds     the types of the arrays, as the caller has them
    """

    rule: Rule
    states: Mapping[str, str]
    inputs: Mapping[str, str]
    mask: str
    numbers: Mapping[str, str]
    kinds: tuple[types.Array, ...]

    @property
    def contiguous(self) -> bool:
        """Are all arrays vectors in memory, in C order?"""
        return all(x.layout == "C" for x in self.kinds)

    @property
    def seen(self) -> tuple[types.Array, ...]:
        """The types of the arrays as the loop has them."""
        if not self.contiguous:
            return tuple(x.copy(layout="A") for x in self.kinds)
        return tuple(x if x.ndim == 1 else x.copy(ndim=1) for x in self.kinds)

    @property
    def shaped(self) -> dict[str, str]:
        """Expressions of all arrays that need the shape of the parameters, but those."""
        mask = {"mask": "mask"} if self.rule.mask == "bytes" else {}
        return {"grads": "grads", **self.states, **self.inputs, **mask}


def call_of(optimizer: Optimizer, kinds: Mapping[str, Any]) -> Call:
    """The call with arguments of these types, which are checked."""
    rule, name, params = optimizer.rule, optimizer.name, kinds["params"]
    given = {x: kinds[x] for x in COMPOSITION if x in kinds and x not in optimizer.settings and not is_none(kinds[x])}
    rates = tuple(x for x in rule.elementwise if isinstance(kinds[x], types.Array))
    states = {x: x for x in rule.states}
    if not given and not rates:
        return Call(rule, states, {}, "", {}, tuple(kinds[x] for x in optimizer.arrays))
    if "groups" in given:
        raise TypingError(f"{name}: {GROUPS}")
    for x in rates:
        check_array(name, x, kinds[x], params)
    with typing_errors(name):
        prox = _prox(name, given.get("prox"))
        lower, upper = (_bound(name, x, given.get(x), params) for x in ("lower", "upper"))
        bounds = bounds_of(lower, upper, prox)
        if "prox_weight" in given:
            check_number(name, "prox_weight", given["prox_weight"], whole=False, optional=False)
        parts = Parts(
            lower=kind_of(bounds.get("lower")),
            upper=kind_of(bounds.get("upper")),
            prox=prox_of(prox, 0.0 if "prox_weight" in given else None, on_device=False),
            average="average" in given,
            rates=rates,
            mask=_mask(name, given["mask"], params) if "mask" in given else "",
        )
        made = composed(rule, parts)
    numbers = {x: f"np.float64({x})" if x in given else repr(value) for x, value in bounds.items()}
    numbers["prox_weight"] = "np.float64(prox_weight)"
    if parts.average:
        _check_average(name, given["average"], params)
        states["average"], numbers["average_weight"] = "average[0]", "np.float64(average[1])"
    inputs = {x: x for x in made.inputs}
    arrays = [kinds[x] for x in optimizer.arrays]
    arrays += [given["average"][0]] if parts.average else []
    arrays += [kinds[x] for x in inputs]
    if parts.mask == "places" and not all(x.layout == "C" for x in arrays):
        raise TypingError(f"{name}: mask has places in C-contiguous arrays, and these are not: pass a mask of bool")
    mask, kind = _mask_of(given.get("mask"))
    return Call(made, states, inputs, mask, numbers, (*arrays, *kind))


def _bound(name: str, parameter: str, kind: Any, params: types.Array) -> Any:
    """A bound of this type: None, a number, or `ANY_ARRAY`."""
    if kind is None:
        return None
    if isinstance(kind, types.Array):
        check_array(name, parameter, kind, params)
        return ANY_ARRAY
    check_number(name, parameter, kind, whole=False, optional=False)
    return 0.0


def _prox(name: str, kind: Any) -> Any:
    return kind.dispatcher if isinstance(kind, types.Dispatcher) else constant(name, "prox", kind)


def _mask(name: str, kind: Any, params: types.Array) -> str:
    if isinstance(kind, types.Array):
        if kind.dtype in (types.boolean, types.uint8) and kind.ndim == params.ndim:
            return "bytes"
        if isinstance(kind.dtype, types.Integer) and kind.dtype != types.uint8 and kind.ndim == 1:
            return "places"
    raise TypingError(
        f"{name}: mask is {kind}; an array of bool or uint8 of the shape of params is needed, or a vector of the "
        f"places (int64) of the elements to step"
    )


def _mask_of(kind: Any) -> tuple[str, tuple[types.Array, ...]]:
    """An expression of the mask in the form of kernels, and its type; nothing where there is none."""
    if kind is None:
        return "", ()
    if kind.dtype == types.boolean:
        return "mask.view(np.uint8)", (kind.copy(dtype=types.uint8),)
    if kind.dtype == types.uint8 or (kind.dtype, kind.layout) == (types.int64, "C"):
        return "mask", (kind,)
    return "mask.astype(np.int64)", (types.Array(types.int64, 1, "C"),)


def _check_average(name: str, kind: Any, params: types.Array) -> None:
    if not isinstance(kind, types.Tuple | types.UniTuple) or len(kind) != 2:
        raise TypingError(
            f"{name}: average is {kind}; inside compiled code a pair of an array and the weight of the parameters in "
            f"it is needed: (average.value, average.weight)"
        )
    value, weight = kind
    check_array(name, "average[0]", value, params, written=True)
    check_number(name, "average[1]", weight, whole=False, optional=False)


@functools.cache
def refusal_of_composed(name: str, rule: Rule, written: tuple[str, ...], refuse: Callable[..., Any]) -> Any:
    """`refuse(status, wrong, hyper)` of the rule, also for the statuses of `composed_for_callers`."""
    ranges = " and ".join(f"{x} {rule.range_of(x)}" for x in rule.inputs if x not in ("lower", "upper"))
    bound = refuse_composed.bind(
        refuse=refuse,
        OVERLAP=f"{name}: {', '.join(('params', *written))} must not overlap with another array in memory: pass copies",
        PLACES=f"{name}: mask has places out of order or out of range; whole numbers from 0 to below the size of "
        f"params are needed, each once, ascending",
        RATES=f"{name}: for each element must be {ranges}",
        BOUNDS=f"{name}: lower is above upper; lower <= upper is needed for each element",
    )
    return subroutine(bound)


@template
def refuse_composed(refuse: Any, OVERLAP: str, PLACES: str, RATES: str, BOUNDS: str) -> Any:
    def refuse_composed(status: Any, wrong: Any, hyper: Any) -> None:
        if status == statuses.OVERLAP:
            raise ValueError(OVERLAP)
        if status == statuses.PLACES:
            raise ValueError(PLACES)
        if status == statuses.RATES:
            raise ValueError(RATES)
        if status == statuses.BOUNDS:
            raise ValueError(BOUNDS)
        refuse(status, wrong, hyper)

    return refuse_composed
