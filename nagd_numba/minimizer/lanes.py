"""A problem in each lane of vectors: what one lane does, compiled for all of them.

`program` is the algorithm, around it what takes the next problem when one has ended, so that lanes stay full.  It is
compiled for each choice of settings and each n up to `UNROLLED`, and kept on disk; it calls the user's functions at an
address, all lanes in one call.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable

import numpy as np
from numba import carray, types

from ..kernels.jit import inlined, subroutine
from ..kernels.lanes import merge, modules
from ..kernels.lanes.analysis import Value
from ..kernels.lanes.marks import attempted, evaluate, evaluation, private, take, written
from ..kernels.lanes.memory import Memory
from ..kernels.lanes.modules import Loaded
from ..kernels.pointers import pointer, pointer_at, shifted
from ..kernels.template import template
from . import algorithm, objective, prox, vectors
from .specialize import SETTINGS, bound_parts

NONE, SHRINKS, CLIPS = range(3)  # proximal maps
MAPS = {None: NONE, "l1": SHRINKS, "box": CLIPS, "nonneg": CLIPS}
UNROLLED = 12  # the n up to which there is code for that n alone


@inlined
def _evaluate(x, g, counts, wanted, bounded, first, second, calls):
    point, gradient, out, _ = calls
    for i in range(x.size):
        point[i] = x[i]
    evaluate(wanted)
    for i in range(x.size):
        g[i] = gradient[i]
    return out[0]


@inlined
def _value(x, scratch, counts, calls):
    return 0.0  # nobody asks: where F is tracked, problems are not solved in lanes


_soft_threshold, _clip, _weighted_l1 = inlined(prox.soft_threshold), inlined(prox.clip), inlined(prox.weighted_l1)


@inlined
def _prox(z, step, first, second, calls):
    if calls[3] == SHRINKS:
        _soft_threshold(z, step, first, second)
    elif calls[3] == CLIPS:
        _clip(z, step, first, second)


@inlined
def _penalty(x, first, second, calls):
    return _weighted_l1(x, first, second) if calls[3] == SHRINKS else 0.0


@inlined
def _proximal(calls):
    return calls[3] != NONE


@inlined
def _copy_row(to, source, m, count):
    for i in range(count):
        to[i] = source[m * count + i]


def reals(n: int) -> int:
    """Numbers that a lane works on, beside its counts and its rows."""
    return (algorithm.VECTORS + 3) * n + algorithm.NUMBERS + 1


@template
def program(attempt):
    VECTORS, NUMBERS, COUNTS, G = algorithm.VECTORS, algorithm.NUMBERS, objective.COUNTS, algorithm.G

    def program(
        X,
        gradients,
        numbers,
        counts,
        statuses,
        settings,
        first,
        second,
        n,
        end,
        counter,
        columns,
        table,
        rows,
        own,
        counted,
        map_,
        function,
        context,
    ):
        """Solve problems, by their numbers from the counter on, until `end`.

        X and so on are addresses.  `table` has for each of the `columns` the address of its rows, the elements of each
        and their size, and where in the lanes' memory from `rows` on the one of a lane's problem is; `own` and
        `counted` are the lanes' memory too.  `function` evaluates, with the user's arguments at `context`.
        """
        memory = private(pointer_at(own, np.float64))
        x, work = carray(memory, n), carray(shifted(memory, n), (VECTORS, n))
        values = carray(shifted(memory, (VECTORS + 1) * n), NUMBERS)
        rest = shifted(memory, (VECTORS + 1) * n + NUMBERS)
        point, gradient, out = carray(rest, n), carray(shifted(rest, n), n), carray(shifted(rest, 2 * n), 1)
        counting = carray(private(pointer_at(counted, np.int64)), COUNTS)
        low, high = pointer_at(first, np.float64), pointer_at(second, np.float64)
        where = pointer(out), pointer(point), pointer(gradient)
        evaluation(function, (*where, n, pointer(counting), settings.bounded != 0, low, high, context))
        calls, lower, upper = (point, gradient, out, map_), carray(low, n), carray(high, n)
        starts, ends, totals = (
            pointer_at(X, np.float64),
            pointer_at(gradients, np.float64),
            pointer_at(numbers, np.float64),
        )
        counters, codes, entries = (
            pointer_at(counts, np.int64),
            pointer_at(statuses, np.int64),
            pointer_at(table, np.int64),
        )
        while True:
            m = take(counter)
            if m >= end:
                return 0
            for k in range(columns):
                source, count, size, place = entries[4 * k], entries[4 * k + 1], entries[4 * k + 2], entries[4 * k + 3]
                place += rows
                if size == 8:
                    _copy_row(private(pointer_at(place, np.int64)), pointer_at(source, np.int64), m, count)
                elif size == 4:
                    _copy_row(private(pointer_at(place, np.int32)), pointer_at(source, np.int32), m, count)
                elif size == 2:
                    _copy_row(private(pointer_at(place, np.int16)), pointer_at(source, np.int16), m, count)
                else:
                    _copy_row(private(pointer_at(place, np.int8)), pointer_at(source, np.int8), m, count)
            for i in range(n):
                x[i] = starts[m * n + i]
            status = attempt(x, work, values, counting, settings, lower, upper, calls)
            for i in range(n):
                starts[m * n + i] = x[i]
                ends[m * n + i] = work[G, i]
            for k in range(NUMBERS):
                totals[m * NUMBERS + k] = values[k]
            for k in range(COUNTS):
                counters[m * COUNTS + k] = counting[k]
            codes[m] = status

    return program


PROGRAM = (*[types.int64] * 5, SETTINGS, *[types.int64] * 13)
_ENTRY = "program"


@functools.cache
def _written() -> str:
    """The module of `program` for one lane, under this name."""
    slots: dict[str, Callable] = {
        "evaluate": _evaluate,
        "value": _value,
        "prox": _prox,
        "penalty": _penalty,
        "proximal": _proximal,
        **vectors.inlined_operations(),
    }
    solve = subroutine(algorithm.solve.bind(**bound_parts(subroutine, slots, subroutine)))
    text, name = written(program.bind(attempt=attempted(solve, algorithm.RAISED)), PROGRAM)
    return modules.alone(text, name).replace(name, _ENTRY)


def known(settings: algorithm.Settings, map_: int, n: int) -> tuple[tuple[str, str], ...]:
    """The arguments that there is code for: what says which branches are taken, and a small n."""
    chosen: dict[str, float] = {"map_": map_}
    if n <= UNROLLED:
        chosen["n"] = n
    for k, (name, x) in enumerate(zip(settings._fields, settings, strict=True)):
        # A real setting that is not positive says that there is none.
        if name not in ("maxiter", "tol", "noise") and (isinstance(x, int) or x <= 0.0):
            chosen[f"settings.{k}"] = x
    return tuple((f"%arg.{name}", _constant(x)) for name, x in chosen.items())


@functools.lru_cache(maxsize=64)
def compiled_program(constants: tuple[tuple[str, str], ...], lanes: int) -> Loaded:
    """`program` for so many lanes and for `known` arguments."""

    def make() -> bytes:
        text = modules.kept(_ENTRY, lambda: _written().encode()).decode()
        unroll = "%arg.n" in dict(constants)
        text = merge.merged(modules.specialized(text, _ENTRY, dict(constants), unroll), _ENTRY)
        # The arguments are the same for all lanes; of those that Numba adds, nobody reads what is written there.
        kinds: list[Memory | Value] = [Memory.IGNORED] * 2
        kinds += [Value.UNIFORM] * (len(PROGRAM) - 1 + len(algorithm.Settings._fields))
        return modules.in_lanes(text, _ENTRY, kinds, lanes, (f"%{merge.SITE}",), trusted=True)

    return modules.loaded(modules.kept(_ENTRY, make, str(constants), str(lanes), *modules.processor()))


def _constant(x: float) -> str:
    return str(x) if isinstance(x, int) else f"0x{struct.unpack('<Q', struct.pack('<d', x))[0]:016X}"
