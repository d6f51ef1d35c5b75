"""Drives the compiled training steps of one network, or of many: memory, calls of about 100 ms, evaluation.

What is to be trained and when it ends is decided above (`fit.py`, the adapters); here an epoch is an order of the rows
and the rates of its updates.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba import typeof

from ...kernels import threading_layer
from ...kernels.autotune import CALL_SECONDS, Pace
from ..dataset import Data, read_only
from ..losses import LOSSES
from ..plan import Plan
from ..spec import NetworkSpec
from ..sums import LOSS, SUMS
from . import specialize, train_kernels

PARALLEL_FLOP = 6e6  # per step, from which on two threads beat one (benchmarks/training.py measures it)


_signatures: dict[tuple[Any, ...], tuple[Any, ...]] = {}


class Trainer:
    """The kernels and the memory to train the networks in the rows of `params`, or the one in a vector `params`.

    `params` and `vel` are changed in place; `vel` holds the states of the rule, one after the other.
    """

    def __init__(self, spec: NetworkSpec, params: np.ndarray, vel: np.ndarray, data: Data, plan: Plan) -> None:
        self.spec, self.plan, self.data = spec, plan, data
        self.params, self.vel = params, vel
        self.networks = 0 if params.ndim == 1 else len(params)  # 0: one, and no first dimension
        rows = min(plan.batch, len(data.X))
        flop = 6.0 * rows * spec.size
        # One network's steps have threads of their own if they are long; many networks share the threads.
        wide = threading_layer.parallel_allowed()
        if self.networks > 0:
            forms: tuple[str, ...] = ("many",) if wide else ("many_serial",)
            self.shares = min(self.networks, numba.get_num_threads()) if wide else 1
        else:
            forms = ("parallel", "serial") if wide and flop >= PARALLEL_FLOP else ("serial",)
            self.shares = numba.get_num_threads() if len(forms) > 1 else 1
        self._space = workspace(spec, rows, data.y.ndim, self.shares, self.networks > 0)
        self._pace = Pace(forms, flop * max(self.networks, 1) / self.shares / 2e10)
        self._kernels: dict[str, Callable] = {}

    def epoch(
        self,
        order: np.ndarray,
        hyper: np.ndarray,
        seed: Any,
        first_step: int,
        on_call: Callable[[int], None] | None = None,
    ) -> np.ndarray:
        """Train over the rows in `order`; returns the sums (see `train_kernels.steps`).

        `hyper` has a row for each update; with many networks `order`, `hyper` and `seed` have one entry for each.
        `on_call(steps done)` follows every call of a kernel.
        """
        many = self.networks > 0
        spec, plan = self.spec, self.plan
        sums = np.zeros((self.networks, SUMS) if many else SUMS)
        numbers = np.array(
            [
                *(spec.l2, plan.normalization.l2_by_samples, plan.clip, 1.0 - spec.dropout),
                plan.normalization.gradient_factor,
                plan.normalization.loss_factor,
                self.data.scale,
                plan.normalization.gradient_divisor,
            ],
            np.float64,
        )
        words = np.array([0, first_step, spec.threshold], np.uint64)
        if many:
            numbers, words = np.tile(numbers, (self.networks, 1)), np.tile(words, (self.networks, 1))
        words[..., 0] = seed
        total = plan.steps(order.shape[-1])
        first = 0
        while first < total:
            form, count = self._pace.next(total - first)
            arguments = (
                *(self.params, self.vel, self.data.views(), order),
                (first, first + count, plan.batch, plan.accumulate, int(plan.measure)),
                *(spec.dims, hyper, numbers, words, self._space, sums, 1 if form == "serial" else self.shares),
            )
            if form not in self._kernels:
                self._kernels[form] = train_kernels.training_kernel(
                    *(spec.dtype_name, spec.activation, spec.loss, spec.dropout > 0),
                    *(plan.rule, plan.options, self._signature(arguments), form),
                    plan.accumulate == 1 and plan.clip == np.inf and len(plan.rule.states) == 1,
                )
            start = time.perf_counter()
            self._kernels[form](*arguments)
            self._pace.took(form, count, time.perf_counter() - start)
            first += count
            if on_call is not None:
                on_call(first)
        return sums

    def _signature(self, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        """The types of the arguments.  Asking Numba for them takes a millisecond: they are kept."""
        given = (self.params, self.vel, *self.data.views())
        key = (self.networks > 0, *((x.dtype, x.ndim, x.flags.aligned, x.flags.writeable) for x in given))
        if key not in _signatures:
            _signatures[key] = tuple(map(typeof, arguments))
        return _signatures[key]


def shuffled(order: np.ndarray, rows: np.ndarray, seed: int, epoch: int) -> None:
    """`order` becomes a permutation of `rows`: a function of the seed and the epoch."""
    train_kernels.shuffle_kernel()(order, rows, np.uint64(seed), np.uint64(epoch))


def evaluate(spec: NetworkSpec, params: np.ndarray, data: Data, rows: np.ndarray) -> np.ndarray:
    """The sums of `train_kernels.steps` over these rows, without dropout and penalty."""
    results = np.zeros((-(-len(rows) // train_kernels.PART), SUMS))
    flop = 2.0 * train_kernels.PART * spec.size
    parallel = threading_layer.parallel_allowed() and flop * len(results) >= PARALLEL_FLOP
    at_once = max(1, int(CALL_SECONDS * 2e10 / flop))  # parts
    for first in range(0, len(results), at_once):
        arguments = (
            *(
                params,
                data.views(),
                read_only(rows[first * train_kernels.PART : (first + at_once) * train_kernels.PART]),
            ),
            *(spec.dims, data.scale, results[first : first + at_once]),
        )
        signature = tuple(map(typeof, arguments))
        kernel = train_kernels.evaluation_kernel(spec.dtype_name, spec.activation, spec.loss, signature, parallel)
        kernel(*arguments)
    sums = results.sum(axis=0)
    outputs = 1 if LOSSES[spec.loss].labels else spec.sizes[-1]
    sums[LOSS] /= outputs
    return sums


def workspace(spec: NetworkSpec, rows: int, target_dimensions: int, shares: int, many: bool) -> tuple[np.ndarray, ...]:
    """The memory of the training steps with batches of so many rows; see `train_kernels.steps` for its parts."""
    hidden, outputs = sum(spec.sizes[1:-1]), spec.sizes[-1]
    buffer, panel = specialize.buffer_sizes(spec.dtype_name, max(*spec.sizes, rows))
    lead = (shares,) if many else ()

    def space(*shape: int, dtype: Any = spec.dtype) -> np.ndarray:
        return aligned((*lead, *shape), dtype)

    targets = space(rows, dtype=np.int64) if target_dimensions == 1 else space(rows, outputs)
    buffers, panels = (aligned((shares, size), spec.dtype) for size in (buffer, panel))
    one = space(1)
    one[...] = 1
    return (
        *(space(rows * spec.sizes[0]), targets, space(rows), space(rows * hidden)),
        *(space(rows * (hidden + outputs)), space(rows * outputs)),
        *(space(rows, dtype=np.float64), space(rows, 3, dtype=np.float64), buffers, panels),
        *(space(spec.size), space(64, dtype=np.float64), one),
    )


def aligned(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Zeros that begin at a line of the cache."""
    kind = np.dtype(dtype)
    size = int(np.prod(shape)) * kind.itemsize
    block = np.zeros(size + 64, np.uint8)
    start = -block.ctypes.data % 64
    return block[start : start + size].view(kind).reshape(shape)
