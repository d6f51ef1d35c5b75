"""The kernel that makes a rule's constants of hyper-parameters that lie in the device's memory.

One thread runs the rule's own `constants` in float64, as the host does, so that a captured graph follows what is
written to those numbers: the kernels of the step read what this one wrote.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import types

from ..kernels.elementwise import acceptable, all_finite, limits
from ..kernels.pointers import pointer
from ..kernels.rule import Rule
from ..kernels.template import template
from .compiler import Kernel
from .guard_kernels import SKIP
from .pointer_tuples import load_strided, store_strided
from .pointers import address, doubles_at, load, pointer_at, store


@functools.cache
def prepare_kernel(rule: Rule, options: tuple[Any, ...], exact: str) -> Kernel:
    """See `prepare`; for arrays whose arithmetic is in the dtype `exact`."""
    scalar, count = getattr(types, exact), len(rule.hyper)
    function = prepare.bind(
        constants=rule.constants,
        OPTIONS=options,
        HYPER=count,
        COUNTER=list(rule.hyper).index("t") if rule.counts_steps else -1,
        SCALAR=scalar,
        EXACT=rule.exact,
        **limits(rule),
    )
    values, addresses = types.UniTuple(types.float64, count), types.UniTuple(types.int64, count)
    pointers = types.CPointer(scalar), types.CPointer(types.int64), types.CPointer(types.float64)
    return Kernel(function, f"{rule.kernel_name(options)}_prepare_{exact}", (values, addresses, *pointers), threads=1)


@template
def prepare(constants, OPTIONS, HYPER, COUNTER, SCALAR, EXACT, LOW, BELOW):
    from .target import cuda

    def prepare(values, addresses, out, count, control):
        """Whether there is a step, then its constants, to `out`.

        Where an address is not 0 the hyper-parameter is what stands there; the number of the step an int64, which
        becomes one more where there is a step.  There is none where `control`, if its address is not 0, says so, or
        where a hyper-parameter is out of its range: then that is written there.  `count` only tells a type, and with
        EXACT so does `out`: float64 are written there.
        """
        found = cuda.local.array(HYPER, types.float64)
        for k in range(HYPER):
            found[k] = values[k]
            if addresses[k] != 0:
                if k == COUNTER:
                    found[k] = np.float64(load(pointer_at(addresses[k], count), 0))
                else:
                    found[k] = np.float64(load(pointer_at(addresses[k], out), 0))
        hyper = load_strided(pointer(found), 0, 1, HYPER)
        valid = acceptable(hyper, LOW, BELOW)
        if valid:
            made = constants(hyper, SCALAR, OPTIONS)
            valid = all_finite(made)
            if EXACT:
                store_strided(doubles_at(out, 0), 1, 1, made)
            else:
                store_strided(out, 1, 1, made)
        guarded = address(control) != 0
        wanted = not guarded or load(control, SKIP) == 0.0
        if guarded and not valid:
            store(control, SKIP, 1.0)
        if EXACT:
            store(doubles_at(out, 0), 0, 1.0 if valid and wanted else 0.0)
        else:
            store(out, 0, SCALAR(1) if valid and wanted else SCALAR(0))
        if COUNTER >= 0 and valid and wanted and addresses[COUNTER] != 0:
            t = pointer_at(addresses[COUNTER], count)
            store(t, 0, load(t, 0) + 1)

    return prepare
