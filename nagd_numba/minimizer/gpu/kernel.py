"""The kernel: the algorithm bound to the user's functions, one problem to a thread.

The vectors of all problems lie element by element, those of one element side by side: neighbouring threads then read
neighbouring memory.  A launch ends problems, or leaves them after some iterations, from where the next one goes on.

A thread for each problem, not a warp.  `fun` is one program for a whole vector: the lanes of a warp could only all run
it.  And of our own operations on vectors the sums are chains in the order of the CPU, whose bits they have: lanes do
not shorten a chain.  What is left, the operations on each element alone, is coalesced as it is: 32 problems in step ask
for 7.9 sectors of 32 bytes at a time where 7.8 is the least (`python -m tests.ptx.minimize_launch`, from the machine
code).  Rows of the user's arrays are not: one sector for each problem, which serves its next three elements too.  So a
device pays where there are thousands of problems; one with many parameters is for the CPU.
"""

from __future__ import annotations

import math
from typing import Any

from numba import typeof, types

from ...gpu.compiler import Kernel, device_function
from ...gpu.pointers import load, store
from ...kernels.jit import inlined
from ...kernels.template import template
from .. import algorithm, objective, prox, vectors
from ..objective import COUNTS, NFEV, NIT, NJEV, RESTARTS
from ..specialize import Functions, bound_parts, objective_of, row
from .arrays import arrays_of, placed, strided

THREADS = 128  # of a block, at most: a thread may take 168 registers, of which it needs all; with 128 it would spill
FRESH, BEGUN, INSIDE, ENDED = range(4)  # stages of a problem; one found INSIDE was left by an exception
STATUSES = 12  # of `ended`: how many problems ended with each status, from RUNNING on
UNFIT = STATUSES  # and the first element of a start that is not finite


def kernel(functions: Functions, starts: types.Type, columns: tuple[Any, ...], common: tuple[Any, ...]) -> Kernel:
    """The kernel for functions of the user's, starts of a dtype, and arguments of these types."""
    take = device_function(objective.take_elements)
    evaluate, value = objective_of(functions, take)
    map_, penalty = (inlined(x) for x in prox.chosen(functions.prox, functions.penalty, take))
    slots = {
        "evaluate": device_function(evaluate),
        "value": device_function(value),
        "prox": inlined(with_args.bind(function=map_)),
        "penalty": inlined(of_point.bind(function=penalty)),
        "proximal": inlined(_always if functions.prox is not None else _never),
        **vectors.inlined_operations(),
    }
    parts = bound_parts(device_function, slots, device_function)
    function = solve_each.bind(**parts, prox=map_)
    pointer, real, whole = types.CPointer, types.float64, types.int64
    signature = (
        *(pointer(starts), *[pointer(real)] * 3, *[pointer(whole)] * 3),
        types.Tuple((*[pointer(real)] * 4, *[pointer(whole)] * 5, pointer(types.uint8))),
        *(SETTINGS, pointer(real), pointer(real)),
        *[whole] * 7,
        *(types.Tuple([placed(kind) for kind in arguments]) for arguments in (columns, common)),
    )
    name = f"minimize_{functions.form}_{functions.prox if isinstance(functions.prox, str) else 'prox'}"
    return Kernel(function, name, signature, threads=THREADS, users=True)


SETTINGS = typeof(algorithm.Settings(0, 0, 0, 0, 0, 0, 0, 0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0))


@template
def with_args(function):
    def prox_with_args(z, step, first, second, args):
        function(z, step, first, second)

    return prox_with_args


@template
def of_point(function):
    def penalty_of_point(x, first, second, args):
        return function(x, first, second)

    return penalty_of_point


def _always(args):
    return True


def _never(args):
    return False


@template
def solve_each(start, advance, conclude, prox):
    from ...gpu.target import cuda

    def solve_each(
        starts,
        places,
        works,
        numbers,
        counts,
        stages,
        ended,
        results,
        settings,
        first,
        second,
        n,
        begin,
        count,
        width,
        fresh,
        steps,
        stop,
        columns,
        common,
    ):
        """Problems `begin` to `begin + count`, whose state has room for `width`: at most `steps` iterations of each.

        `stop` is the status with which those end that would go on, or RUNNING.
        """
        m = cuda.grid(1)
        if m >= count:
            return
        stage = FRESH if fresh != 0 else load(stages, m)
        if stage == ENDED:
            return
        at = begin + m
        xs, gs, totals, curvatures, nits, nfevs, njevs, restarted, statuses, successes = results
        x = strided(places, m, (n,), (width,))
        work = strided(works, m, (algorithm.VECTORS, n), (n * width, width))
        values = strided(numbers, m, (algorithm.NUMBERS,), (width,))
        counted = strided(counts, m, (COUNTS,), (width,))
        low, high = strided(first, 0, (n,), (1,)), strided(second, 0, (n,), (1,))
        status = algorithm.RAISED
        if stage != INSIDE:
            store(stages, m, INSIDE)
            args = row(arrays_of(columns), at) + arrays_of(common)
            status = algorithm.RUNNING
            if stage == FRESH:
                for i in range(n):
                    x[i] = load(starts, at * n + i)
                    if not math.isfinite(x[i]):
                        cuda.atomic.min(strided(ended, 0, (UNFIT + 1,), (1,)), UNFIT, at * n + i)
                if settings.bounded != 0:
                    prox(x, 1.0, low, high)
                status = start(x, work, values, counted, settings, low, high, 0, args)
            if status == algorithm.RUNNING:
                status = advance(x, work, values, counted, settings, low, high, steps, args)
            if status == algorithm.RUNNING:
                status = stop
            if status == algorithm.RUNNING:
                store(stages, m, BEGUN)
                return
            status = conclude(x, work, values, counted, settings, low, high, status, args)
        raised = status == algorithm.RAISED
        for i in range(n):
            store(xs, at * n + i, float(load(starts, at * n + i)) if raised else x[i])
            store(gs, at * n + i, math.nan if raised else work[algorithm.G][i])
        store(totals, at, math.nan if raised else values[algorithm.TOTAL])
        store(curvatures, at, math.nan if raised else values[algorithm.CURVATURE])
        store(nits, at, counted[NIT])
        store(nfevs, at, counted[NFEV])
        store(njevs, at, counted[NJEV])
        store(restarted, at, counted[RESTARTS])
        store(statuses, at, status)
        store(successes, at, types.uint8(status <= algorithm.DECREASE))
        store(stages, m, ENDED)
        cuda.atomic.add(strided(ended, 0, (UNFIT + 1,), (1,)), status - algorithm.RUNNING, 1)

    return solve_each
