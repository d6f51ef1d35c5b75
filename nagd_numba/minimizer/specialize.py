"""The algorithm bound to the user's functions: compiled, or in Python.

Compiled, the algorithm does not contain the user's functions: it is compiled once, kept on disk, and calls them at
their addresses (`Calls`), with the user's `args` behind an address too.  For each set of functions only what evaluates
them is compiled, and an entry that takes the arguments.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import carray, prange, typeof, types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import intrinsic, is_jitted, overload

from ..kernels.jit import OVER_USERS, inlined, over_user_functions, subroutine
from ..kernels.lanes import target
from ..kernels.linking import Interface, Linked, address_of, linked
from ..kernels.pointers import pointer, restorer
from ..kernels.raising import NEVER
from ..kernels.template import template
from . import algorithm, objective, prox, vectors

TOGETHER, INPLACE, APART, DIFFERENCES = "together", "inplace", "apart", "differences"  # where the gradient comes from


class Functions(NamedTuple):
    """The user's functions, and the names of what is ours: what the algorithm is bound to."""

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
    """`algorithm.start`, `advance` and `conclude` for some functions."""

    start: Callable
    advance: Callable
    conclude: Callable


class Calls(NamedTuple):
    """What the compiled algorithm calls: addresses, 0 for no map or no penalty; `context` is where `args` are."""

    evaluate: int
    value: int
    prox: int
    penalty: int
    context: int


def objective_of(functions: Functions, take: Callable) -> tuple[Any, Any]:
    """`evaluate` and `value` for where the gradient comes from."""
    fun = functions.fun
    if functions.form == TOGETHER:
        return objective.evaluate_together.bind(fun=fun, take=take), objective.value_together.bind(fun=fun)
    if functions.form == INPLACE:
        return objective.evaluate_inplace.bind(fun=fun), objective.value_inplace.bind(fun=fun)
    value = objective.value_alone.bind(fun=fun)
    if functions.form == APART:
        return objective.evaluate_apart.bind(fun=fun, jac=functions.jac, take=take), value
    return objective.evaluate_differences.bind(fun=fun), value


def bound_parts(make: Callable, slots: dict[str, Any], helper: Callable) -> dict[str, Any]:
    """`start`, `advance` and `conclude`, each with the slots that it has; `helper` makes what `advance` calls."""
    steepness = algorithm.steepness.bind(**{slot: slots[slot] for slot in algorithm.steepness.slots})
    slots = {**slots, "steepness": helper(steepness)}
    templates = (algorithm.start, algorithm.advance, algorithm.conclude)
    return {made.__name__: make(made.bind(**{slot: slots[slot] for slot in made.slots})) for made in templates}


def interpreted(functions: Functions) -> Loop:
    """The algorithm as Python.  Its vectors are float64 and contiguous, as its kernels need them."""
    return bound_in_python(functions, vectors.kernels(), prox.kernels())


def bound_in_python(functions: Functions, operations: dict[str, Callable], maps: dict[Callable, Callable]) -> Loop:
    """The algorithm with these operations on vectors, and `maps` in the place of our own proximal maps."""
    evaluate, value = objective_of(functions, objective.take_array)
    map_, penalty = prox.chosen(functions.prox, functions.penalty, objective.take_array)
    map_, penalty = maps.get(map_, map_), maps.get(penalty, penalty)
    slots = {
        "evaluate": evaluate,
        "value": value,
        "prox": lambda z, step, first, second, args: map_(z, step, first, second),
        "penalty": lambda x, first, second, args: penalty(x, first, second),
        "proximal": lambda args: functions.prox is not None,
        **operations,
    }
    return Loop(**bound_parts(lambda function: function, slots, lambda function: function))


_vector, _real, _whole = types.float64[::1], types.float64, types.int64
_x, _counts, _matrix = types.CPointer(types.float64), types.CPointer(types.int64), types.float64[:, ::1]
SETTINGS = typeof(algorithm.Settings(0, 0, 0, 0, 0, 0, 0, 0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0))
_calls = typeof(Calls(0, 0, 0, 0, 0))

EVALUATE = Interface(_real(_x, _x, _whole, _counts, types.boolean, types.boolean, _x, _x, _whole))
VALUE = Interface(_real(_x, _x, _whole, _counts, _whole))
PROX = Interface(types.void(_vector, _real, _vector, _vector))
PENALTY = Interface(_real(_vector, _vector, _vector))
# Of `start`, `advance` and `conclude`, and of `solve`.
PART = Interface(_whole(_vector, _matrix, _vector, _whole[::1], SETTINGS, _vector, _vector, _whole, _calls))
SOLVE = Interface(_whole(_vector, _matrix, _vector, _whole[::1], SETTINGS, _vector, _vector, _calls))


@inlined
def _evaluate(x, g, counts, wanted, bounded, first, second, calls):
    lower, upper = pointer(first), pointer(second)
    at, n, close = pointer(x), x.size, bounded != 0
    return EVALUATE_CALL(calls.evaluate, at, pointer(g), n, pointer(counts), wanted, close, lower, upper, calls.context)


@inlined
def _value(x, scratch, counts, calls):
    return VALUE_CALL(calls.value, pointer(x), pointer(scratch), x.size, pointer(counts), calls.context)


@inlined
def _prox(z, step, first, second, calls):
    if calls.prox != 0:
        PROX_CALL(calls.prox, z, step, first, second)


@inlined
def _penalty(x, first, second, calls):
    return PENALTY_CALL(calls.penalty, x, first, second) if calls.penalty != 0 else 0.0


@inlined
def _proximal(calls):
    return calls.prox != 0


EVALUATE_CALL, VALUE_CALL, PROX_CALL, PENALTY_CALL = EVALUATE.call, VALUE.call, PROX.call, PENALTY.call


@functools.cache
def compiled_parts() -> dict[str, Linked]:
    """The algorithm, compiled once for all functions."""
    slots = {
        "evaluate": _evaluate,
        "value": _value,
        "prox": _prox,
        "penalty": _penalty,
        "proximal": _proximal,
        **vectors.inlined_operations(),
    }
    return bound_parts(lambda function: linked(function, PART), slots, inlined)


@functools.cache
def compiled_solve() -> Linked:
    """All of it in one call."""
    parts = {name: part.call for name, part in compiled_parts().items()}
    return linked(algorithm.solve.bind(**parts), SOLVE)


@template
def evaluate_at(evaluate, restore):
    def evaluate_at(x, g, n, counts, wanted, bounded, lower, upper, context):
        counted, low, high = carray(counts, objective.COUNTS), carray(lower, n), carray(upper, n)
        return evaluate(carray(x, n), carray(g, n), counted, wanted, bounded, low, high, restore(context))

    return evaluate_at


@template
def value_at(value, restore):
    def value_at(x, scratch, n, counts, context):
        return value(carray(x, n), carray(scratch, n), carray(counts, objective.COUNTS), restore(context))

    return value_at


def _map_address(function: Callable, interface: Interface) -> int:
    """The address of a map or a penalty; 0 for those that do nothing."""
    if function in (prox.nothing, prox.no_penalty):
        return 0
    if function in prox.SIGNATURES:
        return int(prox.compiled(function).address)
    return address_of(over_user_functions(function), interface)


class _Calls:
    """`calls(args)` for compiled code: `Calls` for some functions, compiled for the type of `args` when first typed."""

    def __init__(self, functions: Functions) -> None:
        take = subroutine(objective.take_elements)
        self.evaluate, self.value = map(inlined, objective_of(functions, take))
        chosen = prox.chosen(functions.prox, functions.penalty, take)
        self.maps = [_map_address(made, interface) for made, interface in zip(chosen, (PROX, PENALTY), strict=True)]
        self._made: dict[Any, Any] = {}

        def calls(typingctx, args):
            addresses = self._addresses(args)

            def build(context, builder, signature, operands):
                parts = [
                    builder.ptrtoint(context.add_dynamic_addr(builder, made, info="a user's function"), size)
                    if made
                    else size(0)
                    for made in addresses
                ]
                slot = cgutils.alloca_once(builder, context.get_data_type(args))
                builder.store(context.data_model_manager[args].as_data(builder, operands[0]), slot)
                parts.append(builder.ptrtoint(slot, size))
                return context.make_tuple(builder, _calls, parts)

            size = cgutils.intp_t
            return _calls(args), build

        self.intrinsic: Any = intrinsic(calls)

    def _addresses(self, args: types.Type) -> list[int]:
        if args not in self._made:
            restore = restorer(args)
            evaluate = evaluate_at.bind(evaluate=self.evaluate, restore=restore)
            value = value_at.bind(value=self.value, restore=restore)
            kept = _alone(evaluate, EVALUATE), _alone(value, VALUE)
            self._made[args] = kept, [address for _, address in kept]
        return [*self._made[args][1], *self.maps]


def _alone(function: Callable, interface: Interface) -> tuple[Any, int]:
    """A function over the user's with its address: with the `exp` and `log` that it has in lanes, where it can be."""
    try:
        made = target.jit(**OVER_USERS)(function)
        return made, address_of(made, interface)
    except Exception:  # Numba's, of any type: something that only its own CPU has, which is the place to say what
        made = over_user_functions(function)
        return made, address_of(made, interface)


@template
def entry(part, calls):
    """From Python: one of the parts of the algorithm, at its address."""

    def entry(address, x, work, numbers, counts, settings, first, second, number, args):
        return part(address, x, work, numbers, counts, settings, first, second, number, calls(args))

    return entry


@template
def solve_with(solve, calls):
    def solve_with(x, work, numbers, counts, settings, first, second, args):
        return solve(x, work, numbers, counts, settings, first, second, calls(args))

    return solve_with


# Bounded: a user who makes functions in a loop would fill the memory.
@functools.lru_cache(maxsize=128)
def compiled(functions: Functions) -> Loop:
    """For functions that are compiled themselves.  What it is compiled for is kept while it is."""
    run = over_user_functions(entry.bind(part=PART.call, calls=_calls_of(functions).intrinsic))
    return Loop(**{name: functools.partial(run, part.address) for name, part in compiled_parts().items()})


@functools.lru_cache(maxsize=128)
def compiled_solver(functions: Functions, raises: int) -> Callable:
    """`algorithm.solve` for such functions, for compiled code; where it does not raise, the status is RAISED."""
    call = compiled_solve().for_users_or(algorithm.RAISED, raises)
    solve = solve_with.bind(solve=call, calls=_calls_of(functions).intrinsic)
    return over_user_functions(solve)


@functools.lru_cache(maxsize=128)
def _calls_of(functions: Functions) -> _Calls:
    return _Calls(functions)


@template
def solve_rows(solve):
    """The problems `begin` to `end`, each in its row, with its row of each array in `columns`."""

    def solve_rows(X, G, numbers, counts, statuses, settings, first, second, begin, end, columns, common):
        for m in prange(begin, end):
            work = np.empty((algorithm.VECTORS, X.shape[1]))
            own = row(columns, m) + common
            statuses[m] = solve(X[m], work, numbers[m], counts[m], settings, first, second, own)
            G[m] = work[algorithm.G]

    return solve_rows


@functools.lru_cache(maxsize=128)
def rows(functions: Functions, parallel: bool) -> Callable:
    """`solve_rows`."""
    return over_user_functions(solve_rows.bind(solve=compiled_solver(functions, NEVER)), parallel)


def threads_take(common: tuple[Any, ...]) -> bool:
    """Can Numba's parallel loops be given what all problems have in common?  They take no tuples within a tuple."""
    return not any(isinstance(x, tuple) for x in common)


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
