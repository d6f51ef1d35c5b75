"""The gradient of some rows of a batch, compiled: what one rank of many computes, its sums and nothing updated.

A row of a batch has the same place, dropout and arithmetic whichever rank works on it: the portion of a batch is worked
on where it lies in the memory of the batch.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from numba import typeof, types
from numba.np.numpy_support import from_dtype

from ...kernels.jit import kernel
from ...kernels.linking import Interface, Linked, linked
from ...kernels.mathfuncs import flush_subnormal
from ...kernels.parallel import BODY, PARALLEL_FOR
from ...kernels.pointers import pointer_at, restorer, shifted, spill
from ...kernels.template import template
from ..dropout import splitmix
from ..sums import ABSOLUTE, HIT, LOSS, PENALTY, SQUARE, SUMS, WEIGHT
from .inference import penalty_interface
from .train_kernels import STEPS, rows_of_batch, weight_of
from .tree_gemm import leaves_weights

_n = types.int64


class Portion(NamedTuple):
    """Consecutive rows of a batch: addresses, but for `low`, `leaves` and `penalised`; see `tree_gemm`."""

    low: int  # the first row in the batch
    leaves: int
    bounds: Any  # of the leaves, from `low` on
    merges: Any
    ends: Any
    penalised: int  # has the first leaf the gradient of the penalty too?
    grads: Any
    sums: Any  # of each leaf, a row of `SUMS`


PORTION = typeof(Portion(*[0] * len(Portion._fields)))


@template
def leaves_of_portion(restore, restore_step, leaves_share, T):
    """The gradients of one of `shares` portions of the weights."""

    def leaves_of_portion(context, share):
        base, rows, shares, l2, more = restore_step(context)
        network, memory, portion = restore(base)
        leaves = (
            pointer_at(portion.bounds, np.int64),
            pointer_at(portion.merges, np.int64),
            pointer_at(portion.ends, np.int64),
            portion.leaves,
        )
        leaves_share(
            *(pointer_at(network.params, T), pointer_at(memory.x, T), pointer_at(memory.one, T)),
            *(pointer_at(network.sizes, np.int64), network.layers, rows, portion.low),
            *(pointer_at(memory.hidden, T), pointer_at(memory.deltas, T), leaves, share, shares),
            (
                shifted(pointer_at(memory.buffers, T), share * memory.buffer),
                shifted(pointer_at(memory.panels, T), share * memory.panel),
            ),
            (pointer_at(portion.grads, T), network.size, l2, more),
        )

    return leaves_of_portion


@template
def portion_of_batch(rows_share, rows_locate, leaves, leaves_locate, parallel_for, penalty, T):
    """The gradients of a portion of batch `s` of an epoch; the sums of its leaves grow by what they find."""

    def portion_of_batch(network, samples, batches, memory, functions, portion, s, shares):
        base = spill((network, samples, batches, memory, functions))
        order, sums = pointer_at(network.order, np.int64), pointer_at(portion.sums, np.float64)
        row_losses, measures = pointer_at(memory.losses, np.float64), pointer_at(memory.measures, np.float64)
        batch_weights, lanes = pointer_at(memory.weights, T), pointer_at(memory.lanes, np.float64)
        bounds, params = pointer_at(portion.bounds, np.int64), pointer_at(network.params, T)
        n, together = network.rows, batches.batch * batches.accumulate
        begin = s * batches.batch
        rows = min(n, begin + batches.batch) - begin
        update = s // batches.accumulate
        group_begin, group_end = update * together, min(n, (update + 1) * together)
        total = weight_of(samples.weighted, pointer_at(samples.weights, T), order, group_begin, group_end)
        factor = T(batches.gradient_factor / (total * batches.gradient_divisor))
        l2 = batches.l2 / total if batches.l2_by_samples != 0 else batches.l2
        key = splitmix(pointer_at(network.seed, np.uint64)[0], batches.first_step + np.uint64(s))
        high = portion.low + bounds[portion.leaves]
        step = spill((base, begin, rows, portion.low, high, shares, key, factor))
        parallel = functions.parallel_for != 0
        if parallel:
            parallel_for(functions.parallel_for, rows_locate(), step, shares)
        else:
            for share in range(shares):
                rows_share(step, share)
        penalty_now = 0.0
        if l2 != 0:
            penalty_now = penalty(
                functions.penalty, params, pointer_at(network.sizes, np.int64), network.layers, l2, lanes
            )
        for m in range(portion.leaves):
            result = shifted(sums, m * SUMS)
            loss, mass = 0.0, 0.0
            for i in range(portion.low + bounds[m], portion.low + bounds[m + 1]):
                weight = 1.0
                if samples.weighted != 0:
                    weight = np.float64(batch_weights[i])
                loss += row_losses[i]
                mass += weight
                if batches.measure != 0:
                    result[HIT] += weight * measures[3 * i]
                    result[ABSOLUTE] += weight * measures[3 * i + 1]
                    result[SQUARE] += weight * measures[3 * i + 2]
            result[LOSS] += batches.loss_factor * loss
            result[WEIGHT] += mass
            result[PENALTY] += mass * penalty_now
        more = begin > group_begin
        base = spill((network, memory, portion))
        step = spill((base, rows, shares, T(0) if more or portion.penalised == 0 else T(l2), more))
        if parallel:
            parallel_for(functions.parallel_for, leaves_locate(), step, shares)
        else:
            for share in range(shares):
                leaves(step, share)

    return portion_of_batch


@template
def flush():
    """Subnormal elements of a vector become 0."""

    def flush(x):
        for i in range(x.size):
            x[i] = flush_subnormal(x[i])

    return flush


@functools.cache
def portion_kernel(dtype: str) -> Linked:
    """`portion_of_batch`."""
    kind, T = from_dtype(np.dtype(dtype)), np.dtype(dtype).type
    network, _, _, memory, _ = STEPS
    rows = rows_of_batch(dtype)
    leaves = linked(
        leaves_of_portion.bind(
            restore=restorer(types.Tuple((network, memory, PORTION))),
            restore_step=restorer(types.Tuple((_n, _n, _n, kind, types.boolean))),
            leaves_share=leaves_weights(dtype).call,
            T=T,
        ),
        BODY,
    )
    bound = portion_of_batch.bind(
        rows_share=rows.call,
        rows_locate=rows.locate,
        leaves=leaves.call,
        leaves_locate=leaves.locate,
        parallel_for=PARALLEL_FOR.call,
        penalty=penalty_interface(dtype).call,
        T=T,
    )
    return linked(bound, Interface(types.void(*STEPS, PORTION, _n, _n)), from_python=True)


@functools.cache
def flush_kernel(dtype: str) -> Any:
    """`flush`."""
    return kernel(flush.bind(), types.void(from_dtype(np.dtype(dtype))[::1]))
