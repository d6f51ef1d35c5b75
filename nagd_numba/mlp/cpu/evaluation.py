"""Loss and metrics of a network over rows of the data, without dropout and penalty."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import types

from ...kernels.jit import kernel
from ...kernels.linking import linked
from ...kernels.parallel import BODY, PARALLEL_FOR
from ...kernels.pointers import (
    keep_alive,
    pointer,
    pointer_at,
    restorer,
    row,
    shifted,
    spill,
)
from ...kernels.template import template
from ..sums import ABSOLUTE, HIT, LOSS, PART, SQUARE, SUMS, WEIGHT
from . import backprop, losses, minibatch, sparse_layer
from .inference import aligned, scratch, widths
from .kernel_arguments import EVALUATION, FUNCTIONS, SAMPLES

_n = types.int64


@template
def evaluate_part(
    restore, gather_inputs, gather_targets, first_layer, forward_rows, measure, loss, T, BUFFER, panels_size
):
    """Without dropout and penalty: row `part` of `results` becomes what `train_steps` sums up, of that part."""

    def evaluate_part(context, part):
        evaluation, samples, functions = restore(context)
        begin = part * PART
        rows = min(PART, evaluation.rows - begin)
        sizes, layers = pointer_at(evaluation.sizes, np.int64), evaluation.layers
        outputs = sizes[layers]
        order = shifted(pointer_at(evaluation.order, np.int64), begin)
        width, widest = widths(sizes, layers)
        sparse = functions.first_layer != 0
        x, hidden = aligned(0 if sparse else rows * sizes[0], T), aligned(rows * width, T)
        z, deltas = aligned(rows * outputs, T), aligned(rows * outputs, T)
        buffer, panels = aligned(BUFFER, T), aligned(panels_size(rows, widest), T)
        sums, measures = np.empty(rows), np.zeros(3 * rows)
        wanted = row(evaluation.targets, part, evaluation.stride)
        params, dropout = pointer_at(evaluation.params, T), (np.uint64(0), np.uint64(0), 1.0)
        if sparse:
            first_layer(
                *(functions.first_layer, functions.forward, params, samples.X, samples.columns_of_X),
                *(samples.starts_of_X, order, sizes, layers, pointer(hidden), pointer(z), 0, rows),
                *(pointer(buffer), dropout),
            )
        else:
            gather_inputs(functions.gather_inputs, samples.X, order, 0, rows, sizes[0], pointer(x), samples.scale)
        gather_targets(functions.gather_targets, samples.y, order, 0, rows, samples.columns, wanted)
        forward_rows(
            *(functions.forward, params, pointer(x), sizes, layers, rows),
            *(pointer(hidden), pointer(z), 0, rows, pointer(buffer), pointer(panels), dropout, np.int64(sparse)),
        )
        measure(functions.measure, pointer(z), wanted, pointer(measures), 0, rows, outputs)
        loss(functions.loss, pointer(z), wanted, pointer(deltas), pointer(sums), 0, rows, outputs, T(1))
        result = shifted(pointer_at(evaluation.results, np.float64), part * SUMS)
        for i in range(rows):
            weight = 1.0
            if samples.weighted != 0:
                weight = np.float64(pointer_at(samples.weights, T)[order[i]])
            result[LOSS] += weight * sums[i]
            result[WEIGHT] += weight
            result[HIT] += weight * measures[3 * i]
            result[ABSOLUTE] += weight * measures[3 * i + 1]
            result[SQUARE] += weight * measures[3 * i + 2]
        keep_alive(x, hidden, z, deltas, buffer, panels, sums, measures)

    return evaluate_part


@template
def evaluate(evaluate_part, part_locate, parallel_for):
    def evaluate(evaluation, samples, functions, parts):
        context = spill((evaluation, samples, functions))
        if functions.parallel_for != 0:
            parallel_for(functions.parallel_for, part_locate(), context, parts)
        else:
            for part in range(parts):
                evaluate_part(context, part)

    return evaluate


@functools.cache
def evaluation_kernel(dtype: str) -> Any:
    """`evaluate`."""
    context = types.Tuple((EVALUATION, SAMPLES, FUNCTIONS))
    body = linked(
        evaluate_part.bind(
            restore=restorer(context),
            gather_inputs=minibatch.inputs_interface(dtype).call,
            gather_targets=minibatch.GATHER_TARGETS.call,
            first_layer=sparse_layer.first_layer_interface(dtype).call,
            forward_rows=backprop.forward(dtype).call,
            measure=minibatch.measure_interface(dtype).call,
            loss=losses.interface(dtype).call,
            **scratch(dtype),
        ),
        BODY,
        allocates=True,
    )
    bound = evaluate.bind(evaluate_part=body.call, part_locate=body.locate, parallel_for=PARALLEL_FOR.call)
    return kernel(bound, types.void(EVALUATION, SAMPLES, FUNCTIONS, _n))
