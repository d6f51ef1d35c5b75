"""Training steps, compiled: gather a batch, forward, loss, backward, update; as many as are asked for in one call.

A step has two phases, each in `shares` that threads can take: the rows of the batch (outputs, loss, deltas), then the
weights (gradient and update).  Nothing is allocated here.  All arrays are given by their addresses, and so are the
functions that depend on activation, loss, rule and the dtype of the data: these kernels are compiled once for a dtype.

Batch `s` of an epoch is rows `order[s b : (s+1) b]` of X.  With `accumulate = k` the gradients of k batches make one
update, as if they were one batch.  Without accumulation and clipping each tile of the weights is updated while its
gradient is in the cache, which gives the same bits.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numba import types
from numba.np.numpy_support import from_dtype

from ...kernels import reductions
from ...kernels.jit import inlined, kernel
from ...kernels.linking import Interface, Linked, linked
from ...kernels.parallel import BODY, PARALLEL_FOR
from ...kernels.pointers import (
    pointer_at,
    restorer,
    row,
    shifted,
    spill,
)
from ...kernels.rounding import mul
from ...kernels.template import template
from ...optimizers.scaled import limits
from ..clipping import DOWN
from ..dropout import splitmix
from ..sums import ABSOLUTE, HIT, LOSS, PENALTY, SQUARE, WEIGHT
from . import backprop, losses, minibatch, sparse_layer, updates
from .inference import penalty_interface, widths
from .kernel_arguments import BATCHES, FUNCTIONS, MEMORY, NETWORK, SAMPLES, Functions, Memory, Network

_n = types.int64
STEPS = (NETWORK, SAMPLES, BATCHES, MEMORY, FUNCTIONS)  # what steps are given


@template
def rows_share(
    restore, restore_step, gather_inputs, gather_targets, first_layer, forward_rows, measure, loss, backward_rows, T
):
    """Everything up to the deltas for one of `shares` equal portions of rows `low` to below `high` of a batch."""

    def rows_share(context, share):
        base, begin, rows, low, high, shares, key, factor = restore_step(context)
        network, samples, batches, memory, functions = restore(base)
        size = (high - low + shares - 1) // shares
        first, last = min(high, low + share * size), min(high, low + (share + 1) * size)
        if first < last:
            sizes, layers = pointer_at(network.sizes, np.int64), network.layers
            outputs = sizes[layers]
            order = shifted(pointer_at(network.order, np.int64), begin)
            params, x, hidden = pointer_at(network.params, T), pointer_at(memory.x, T), pointer_at(memory.hidden, T)
            z, deltas = pointer_at(memory.z, T), pointer_at(memory.deltas, T)
            buffer = shifted(pointer_at(memory.buffers, T), share * memory.buffer)
            panels = shifted(pointer_at(memory.panels, T), share * memory.panel)
            dropout, sparse = (key, batches.threshold, batches.keep), functions.first_layer != 0
            if sparse:
                first_layer(
                    *(functions.first_layer, functions.forward, params, samples.X, samples.columns_of_X),
                    *(samples.starts_of_X, order, sizes, layers, hidden, z, first, last, buffer, dropout),
                )
            else:
                gather_inputs(functions.gather_inputs, samples.X, order, first, last, sizes[0], x, samples.scale)
            gather_targets(functions.gather_targets, samples.y, order, first, last, samples.columns, memory.targets)
            forward_rows(
                *(functions.forward, params, x, sizes, layers, rows, hidden, z, first, last, buffer, panels, dropout),
                np.int64(sparse),
            )
            if batches.measure != 0:
                measures = pointer_at(memory.measures, np.float64)
                measure(functions.measure, z, memory.targets, measures, first, last, outputs)
            width, _ = widths(sizes, layers)
            sums = pointer_at(memory.losses, np.float64)
            loss(functions.loss, z, memory.targets, shifted(deltas, rows * width), sums, first, last, outputs, factor)
            if samples.weighted != 0:
                given, weights = pointer_at(samples.weights, T), pointer_at(memory.weights, T)
                for i in range(first, last):
                    weights[i] = given[order[i]]
                    sums[i] *= np.float64(weights[i])
                    for j in range(rows * width + i * outputs, rows * width + (i + 1) * outputs):
                        deltas[j] = mul(deltas[j], weights[i])
            backward_rows(
                *(functions.backward, params, network.size, sizes, layers, rows, width, hidden, deltas, first, last),
                *(buffer, panels, dropout),
            )

    return rows_share


@template
def weights_share(restore, restore_step, first_weights, weights_share, T):
    """The gradients of one of `shares` portions of the weights, or their update."""

    def share_of_weights(context, share):
        base, rows, shares, l2, more, first_scalar = restore_step(context)
        network, _, batches, memory, functions = restore(base)
        target = pointer_at(network.states if batches.fused != 0 else memory.grads, T)
        to = (target, l2, more, shifted(pointer_at(network.scalars, T), first_scalar))
        sparse = functions.first_weights != 0
        if sparse:
            first_weights(
                *(functions.first_weights, functions.weights, pointer_at(network.params, T), network.size),
                *(memory.ends, memory.rows_of, memory.values, pointer_at(network.sizes, np.int64)),
                *(pointer_at(memory.deltas, T), share, shares),
                *(shifted(pointer_at(memory.buffers, T), share * memory.buffer), to),
            )
        weights_share(
            *(functions.weights, pointer_at(network.params, T), network.size, pointer_at(memory.x, T)),
            *(pointer_at(memory.one, T), pointer_at(network.sizes, np.int64), network.layers, rows),
            *(pointer_at(memory.hidden, T), pointer_at(memory.deltas, T), share, shares),
            shifted(pointer_at(memory.buffers, T), share * memory.buffer),
            *(shifted(pointer_at(memory.panels, T), share * memory.panel), to, np.int64(sparse)),
        )

    return share_of_weights


@template
def train_steps(
    rows_share,
    rows_locate,
    by_columns,
    weights_share,
    weights_locate,
    parallel_for,
    apply,
    penalty,
    squares,
    T,
    DOWN,
    SMALLEST,
):
    """Steps `first` to below `last` of an epoch of one network; `sums` grows by what they find."""

    def train_steps(network, samples, batches, memory, functions, first, last, shares):
        base = spill((network, samples, batches, memory, functions))
        order, sums = pointer_at(network.order, np.int64), pointer_at(network.sums, np.float64)
        sample_weights, batch_weights = pointer_at(samples.weights, T), pointer_at(memory.weights, T)
        row_losses, measures = pointer_at(memory.losses, np.float64), pointer_at(memory.measures, np.float64)
        lanes, params = pointer_at(memory.lanes, np.float64), pointer_at(network.params, T)
        n, together = network.rows, batches.batch * batches.accumulate
        seed, parallel = pointer_at(network.seed, np.uint64)[0], functions.parallel_for != 0
        for s in range(first, last):
            begin, end = s * batches.batch, min(n, (s + 1) * batches.batch)
            rows = end - begin
            update = s // batches.accumulate
            group_begin, group_end = update * together, min(n, (update + 1) * together)
            total_weight = weight_of(samples.weighted, sample_weights, order, group_begin, group_end)
            factor = T(batches.gradient_factor / (total_weight * batches.gradient_divisor))
            l2 = batches.l2 / total_weight if batches.l2_by_samples != 0 else batches.l2
            key = splitmix(seed, batches.first_step + np.uint64(s))
            step = spill((base, begin, rows, np.int64(0), rows, shares, key, factor))
            if parallel:
                parallel_for(functions.parallel_for, rows_locate(), step, shares)
            else:
                for share in range(shares):
                    rows_share(step, share)
            loss, mass = 0.0, np.float64(rows)
            for i in range(rows):
                loss += row_losses[i]
            if samples.weighted != 0:
                mass = 0.0
                for i in range(rows):
                    mass += np.float64(batch_weights[i])
            sums[LOSS] += batches.loss_factor * loss
            sums[WEIGHT] += mass
            if batches.measure != 0:
                for i in range(rows):
                    weight = 1.0
                    if samples.weighted != 0:
                        weight = np.float64(batch_weights[i])
                    sums[HIT] += weight * measures[3 * i]
                    sums[ABSOLUTE] += weight * measures[3 * i + 1]
                    sums[SQUARE] += weight * measures[3 * i + 2]
            if l2 != 0:
                sums[PENALTY] += mass * penalty(
                    functions.penalty, params, pointer_at(network.sizes, np.int64), network.layers, l2, lanes
                )
            if functions.by_columns != 0:
                by_columns(
                    *(functions.by_columns, samples.X, samples.columns_of_X, samples.starts_of_X),
                    *(shifted(order, begin), rows, pointer_at(network.sizes, np.int64)[0]),
                    *(memory.ends, memory.rows_of, memory.values),
                )
            more = batches.fused == 0 and begin > group_begin
            step = spill((base, rows, shares, T(0) if more else T(l2), more, update * batches.scalars))
            if parallel:
                parallel_for(functions.parallel_for, weights_locate(), step, shares)
            else:
                for share in range(shares):
                    weights_share(step, share)
            if batches.fused == 0 and end == group_end:
                grads = pointer_at(memory.grads, T)
                if batches.clip < math.inf:
                    norm = math.sqrt(squares(functions.squares, grads, 0, network.size, lanes))
                    if norm > batches.clip:
                        shrink = batches.clip / norm
                        if shrink < SMALLEST:
                            multiply(grads, network.size, T(DOWN))
                            norm = math.sqrt(squares(functions.squares, grads, 0, network.size, lanes))
                            multiply(grads, network.size, T(1.0 / norm))
                            shrink = batches.clip
                        multiply(grads, network.size, T(shrink))
                scalars = shifted(pointer_at(network.scalars, T), update * batches.scalars)
                apply(functions.apply, params, grads, pointer_at(network.states, T), network.size, scalars)

    return train_steps


@inlined
def weight_of(weighted, weights, order, first, last):
    """The weight of the samples that make an update; 1 where all weights are 0, and so is the gradient."""
    total = np.float64(last - first)
    if weighted != 0:
        total = 0.0
        for i in range(first, last):
            total += np.float64(weights[order[i]])
    return 1.0 if total == 0 else total


@inlined
def multiply(x, size, factor):
    """Each element of `x` by a factor, in place."""
    for i in range(size):
        x[i] = mul(x[i], factor)


@template
def networks_share(restore, train_steps):
    """Thread `share` of `shares` trains networks share, share + shares, ... in its own part of the memory.

    `stride` and `part` say how many bytes the arrays of two networks, and the memory of two threads, are apart.
    """

    def networks_share(context, share):
        network, stride, samples, batches, memory, part, functions, first, last, networks, shares = restore(context)
        own_memory = Memory(
            row(memory.x, share, part.x),
            row(memory.targets, share, part.targets),
            row(memory.weights, share, part.weights),
            row(memory.hidden, share, part.hidden),
            row(memory.deltas, share, part.deltas),
            row(memory.z, share, part.z),
            row(memory.losses, share, part.losses),
            row(memory.measures, share, part.measures),
            row(memory.buffers, share, part.buffers),
            row(memory.panels, share, part.panels),
            row(memory.grads, share, part.grads),
            row(memory.lanes, share, part.lanes),
            row(memory.ends, share, part.ends),
            row(memory.rows_of, share, part.rows_of),
            row(memory.values, share, part.values),
            memory.one,
            memory.buffer,
            memory.panel,
        )
        for m in range(share, networks, shares):
            own = Network(
                row(network.params, m, stride.params),
                row(network.states, m, stride.states),
                network.sizes,
                network.layers,
                network.size,
                row(network.order, m, stride.order),
                network.rows,
                row(network.scalars, m, stride.scalars),
                row(network.sums, m, stride.sums),
                row(network.seed, m, stride.seed),
            )
            train_steps(own, samples, batches, own_memory, functions, first, last, 1)

    return networks_share


@template
def train_networks(networks_share, networks_locate, parallel_for):
    """`train_steps` for many networks; `functions.parallel_for` is of these, and each network's steps are serial."""

    def train_networks(network, stride, samples, batches, memory, part, functions, first, last, networks, shares):
        alone = serial(functions)
        context = spill((network, stride, samples, batches, memory, part, alone, first, last, networks, shares))
        if functions.parallel_for != 0:
            parallel_for(functions.parallel_for, networks_locate(), context, shares)
        else:
            for share in range(shares):
                networks_share(context, share)

    return train_networks


@inlined
def serial(functions):
    """The functions for steps on one thread."""
    return Functions(
        functions.gather_inputs,
        functions.gather_targets,
        functions.forward,
        functions.loss,
        functions.measure,
        functions.backward,
        functions.weights,
        functions.apply,
        functions.penalty,
        functions.squares,
        0,
        functions.first_layer,
        functions.by_columns,
        functions.first_weights,
    )


@functools.cache
def rows_of_batch(dtype: str) -> Linked:
    """`rows_share`, the body of a loop over shares."""
    kind = from_dtype(np.dtype(dtype))
    return linked(
        rows_share.bind(
            restore=restorer(types.Tuple(STEPS)),
            restore_step=restorer(types.Tuple((*[_n] * 6, types.uint64, kind))),
            gather_inputs=minibatch.inputs_interface(dtype).call,
            gather_targets=minibatch.GATHER_TARGETS.call,
            first_layer=sparse_layer.first_layer_interface(dtype).call,
            forward_rows=backprop.forward(dtype).call,
            measure=minibatch.measure_interface(dtype).call,
            loss=losses.interface(dtype).call,
            backward_rows=backprop.backward(dtype).call,
            T=np.dtype(dtype).type,
        ),
        BODY,
    )


@functools.cache
def steps_kernel(dtype: str) -> Linked:
    """`train_steps`, for calls from Python and from `train_networks`."""
    kind = from_dtype(np.dtype(dtype))
    T = np.dtype(dtype).type
    restore = restorer(types.Tuple(STEPS))
    rows = rows_of_batch(dtype)
    weights = linked(
        weights_share.bind(
            restore=restore,
            restore_step=restorer(types.Tuple((_n, _n, _n, kind, types.boolean, _n))),
            first_weights=sparse_layer.first_weights_interface(dtype).call,
            weights_share=backprop.weights(dtype).call,
            T=T,
        ),
        BODY,
    )
    bound = train_steps.bind(
        rows_share=rows.call,
        rows_locate=rows.locate,
        by_columns=sparse_layer.BY_COLUMNS.call,
        weights_share=weights.call,
        weights_locate=weights.locate,
        parallel_for=PARALLEL_FOR.call,
        apply=updates.apply_interface(dtype).call,
        penalty=penalty_interface(dtype).call,
        squares=reductions.squares_interface(dtype).call,
        T=T,
        DOWN=DOWN[dtype],
        SMALLEST=limits(dtype)[0],
    )
    return linked(bound, Interface(types.void(*STEPS, _n, _n, _n)), from_python=True)


@functools.cache
def networks_kernel(dtype: str) -> Any:
    """`train_networks`."""
    context = (NETWORK, NETWORK, SAMPLES, BATCHES, MEMORY, MEMORY, FUNCTIONS, _n, _n, _n, _n)
    body = linked(
        networks_share.bind(restore=restorer(types.Tuple(context)), train_steps=steps_kernel(dtype).call), BODY
    )
    bound = train_networks.bind(networks_share=body.call, networks_locate=body.locate, parallel_for=PARALLEL_FOR.call)
    return kernel(bound, types.void(*context))
