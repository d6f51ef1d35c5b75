"""Training steps, compiled: gather a batch, forward, loss, backward, update; as many as are asked for in one call.

Templates, bound by `training_kernels`.  A step has two phases, each a loop over `shares` that threads can take: the
rows of the batch (outputs, loss, deltas), then the weights (gradient and update).  Nothing is allocated here: `space`
is a `Space` (see `workspace.py`) of flat arrays.

Batch `s` of an epoch is rows `order[s b : (s+1) b]` of X.  With `accumulate = k` the gradients of k batches make one
update, as if they were one batch.  Without accumulation and clipping each tile of the weights is updated while its
gradient is in the cache, which gives the same bits; rules with more states than a velocity step the whole vector
after its gradient.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import prange, types
from numba.extending import overload

from ...kernels import elementwise
from ...kernels.jit import callee, cpu_kernel
from ...kernels.mathfuncs import flush_subnormal
from ...kernels.rounding import mul
from ...kernels.rule import Rule
from ..dropout import splitmix
from ..losses import LOSSES
from ..sums import ABSOLUTE, HIT, LOSS, PENALTY, ROWS_SEEN, SQUARE, WEIGHT
from . import losses, minibatch, specialize
from .inference import space_
from .inference import widths as widths_
from .microkernel import ROWS

# Bound below.
share_of_rows: Any = None
share_of_weights: Any = None
forward_rows: Any = None
backward_rows: Any = None
output: Any = None
weigh: Any = None
gather_inputs: Any = None
gather_targets: Any = None
measure_rows: Any = None
penalty: Any = None
sum_of_squares: Any = None
apply_all: Any = None
clip_gradient: Any = None
element: Any = None
constants: Any = None
train_steps: Any = None
OPTIONS: Any = None
HYPER: Any = None
STATES: Any = None
FUSED: Any = None
one_part: Any = None
new_targets: Any = None
space: Any = None
widths: Any = None
BUFFER: Any = None
COLUMNS: Any = None

PART = 64  # rows evaluated at once

_SHUFFLE = np.uint64(1 << 63)


@functools.cache
def training_kernel(
    dtype: str,
    activation: str,
    loss: str,
    dropout: bool,
    rule: Rule,
    options: tuple[Any, ...],
    signature: tuple[Any, ...],
    form: str = "serial",
    fused: bool = True,
) -> Callable:
    """`train_steps` for these options; `form` is "serial", "parallel", "many" or "many_serial" (`many` networks).

    `fused` kernels neither accumulate nor clip, and their rule has one state: they update each tile of the weights as
    its gradient is made.
    """
    rows = callee(
        rows_share,
        forward_rows=specialize.forward_rows(dtype, activation, dropout),
        backward_rows=specialize.backward_rows(dtype, activation, dropout),
        output=specialize.output(loss),
        weigh=specialize.shared(losses.weigh)["weigh"],
        **_gathering(loss),
    )
    parts: dict[str, Any] = {
        "share_of_rows": rows,
        "share_of_weights": specialize.update_share(dtype, rule, options)
        if fused
        else specialize.gradients_share(dtype),
        "FUSED": fused,
        "penalty": specialize.penalty(),
        "clip_gradient": callee(clip_to_norm, **specialize.shared(losses.sum_of_squares)),
        "apply_all": callee(
            apply_to_all, element=elementwise.bindings(rule, options)["element"], STATES=len(rule.states)
        ),
        "constants": rule.constants,
        "OPTIONS": options,
        "HYPER": len(rule.hyper),
    }
    kind = f"{'fused' if fused else 'apart'}_{activation}_{loss}_{'dropout' if dropout else 'plain'}_{dtype}"
    name = f"mlp_train_{form}_{kind}_{rule.kernel_name(options)}"
    parallel = form in ("parallel", "many")
    if form in ("many", "many_serial"):
        return cpu_kernel(many, name, signature, parallel, source=rule.update, train_steps=callee(steps, **parts))
    return cpu_kernel(steps, name, signature, parallel, source=rule.update, **parts)


@functools.cache
def evaluation_kernel(
    dtype: str, activation: str, loss: str, signature: tuple[Any, ...], parallel: bool = False
) -> Callable:
    """`evaluate` for these options."""
    labels = LOSSES[loss].labels
    part = callee(
        evaluate_part,
        forward_rows=specialize.forward_rows(dtype, activation, False),
        output=specialize.output(loss),
        new_targets=callee(minibatch.new_labels if labels else minibatch.new_matrix),
        space=callee(space_),
        widths=callee(widths_),
        BUFFER=specialize.buffer_sizes(dtype, 0)[0],
        COLUMNS=specialize.columns(dtype),
        **_gathering(loss),
    )
    name = f"mlp_evaluate_{activation}_{loss}_{dtype}"
    return cpu_kernel(evaluate, name, signature, parallel, one_part=part)


def _gathering(loss: str) -> dict[str, Any]:
    labels = LOSSES[loss].labels
    return {
        "gather_inputs": callee(minibatch.gather_rows),
        "gather_targets": callee(minibatch.gather_labels if labels else minibatch.gather_matrix),
        "measure_rows": callee(
            minibatch.measure_labels if labels else minibatch.measure_elements, BINARY=LOSSES[loss].binary
        ),
        "ROWS": ROWS,
    }


@functools.cache
def shuffle_kernel() -> Callable:
    """`shuffle`, for int64 vectors."""
    vector = types.Array(types.int64, 1, "C")
    return cpu_kernel(
        shuffle, "mlp_shuffle", types.void(vector, vector.copy(readonly=True), types.uint64, types.uint64)
    )


def shuffle(order, rows, seed, epoch):
    """`order` becomes a permutation of `rows`, a function of the seed and the epoch (Fisher and Yates)."""
    key = splitmix(splitmix(seed, _SHUFFLE), epoch)
    half = np.uint64(32)
    for i in range(order.size):
        order[i] = rows[i]
    for i in range(order.size - 1, 0, -1):
        # A number below i + 1 from the upper 32 bits: fewer than 2^32 rows are needed.
        k = np.int64(((splitmix(key, i) >> half) * np.uint64(i + 1)) >> half)
        order[i], order[k] = order[k], order[i]


def steps(params, vel, data, order, plan, sizes, hyper, numbers, words, space, sums, shares):
    """Steps `plan[0]` to `plan[1]` of an epoch.

    data     X (n, inputs), targets, weights of the samples (n,) or ()
    plan     first, last, batch size, accumulate, measure
    hyper    for each update of the epoch the rule's hyper-parameters
    vel      the rule's states, one after the other
    numbers  l2, whether it is divided by the samples of a batch, clip, keep, factors of slope and loss, scale
             of X, what the slope is divided by beside the samples
    words    seed of the dropout, number of the epoch's first step, threshold of the dropout
    """
    X, y, weights = data
    first, last, batch, accumulate, measure = plan
    l2, by_samples, clip, keep = numbers[0], numbers[1], numbers[2], numbers[3]
    slope_factor, loss_factor, scale, outputs = numbers[4], numbers[5], numbers[6], numbers[7]
    seed, step_number, threshold = words[0], words[1], words[2]
    x, targets, batch_weights, hidden, deltas, z, losses, measures, buffers, panels, grads, lanes, one = space
    T = params.dtype.type
    n = order.size
    together = batch * accumulate
    for s in range(first, last):
        begin, end = s * batch, min(n, (s + 1) * batch)
        rows = end - begin
        update = s // accumulate
        group_begin, group_end = update * together, min(n, (update + 1) * together)
        samples = np.float64(group_end - group_begin)
        if weights.size > 0:
            samples = 0.0
            for i in range(group_begin, group_end):
                samples += np.float64(weights[order[i]])
        if samples == 0:
            samples = 1.0  # every weight is 0, and so is the gradient
        factor = T(slope_factor / (samples * outputs))
        decay = l2 / samples if by_samples != 0 else l2
        key = splitmix(seed, step_number + np.uint64(s))
        for share in prange(shares):
            share_of_rows(
                *(params, X, y, weights, order, begin, rows, sizes, share, shares, x, targets, batch_weights),
                *(hidden, deltas, z, losses, measures, buffers[share], panels[share]),
                *(key, threshold, keep, factor, scale, measure),
            )
        total, mass = 0.0, np.float64(rows)
        for i in range(rows):
            total += losses[i]
        if weights.size > 0:
            mass = 0.0
            for i in range(rows):
                mass += np.float64(batch_weights[i])
        sums[LOSS] += loss_factor * total
        sums[WEIGHT] += mass
        sums[ROWS_SEEN] += np.float64(rows)
        if measure:
            for i in range(rows):
                sums[HIT] += measures[i, 0]
                sums[ABSOLUTE] += measures[i, 1]
                sums[SQUARE] += measures[i, 2]
        if decay != 0:
            sums[PENALTY] += mass * penalty(params, sizes, decay, lanes)
        scalars = constants(elementwise.unpacked(hyper[update], HYPER), T, OPTIONS)
        if FUSED:
            for share in prange(shares):
                share_of_weights(
                    *(params, x, one, sizes, rows, hidden, deltas, share, shares, buffers[share], panels[share]),
                    *(T(decay), vel, scalars),
                )
        else:
            more = begin > group_begin
            added = T(0) if more else T(decay)
            for share in prange(shares):
                share_of_weights(
                    *(params, x, one, sizes, rows, hidden, deltas, share, shares, buffers[share], panels[share]),
                    *(added, grads, more),
                )
            if end == group_end:
                clip_gradient(grads, clip, lanes)
                apply_all(params, grads, vel, scalars)


def clip_to_norm(grads, clip, lanes):
    """Scale `grads` so that its Euclidean norm is at most `clip`."""
    if clip < math.inf:
        norm = math.sqrt(sum_of_squares(grads, 0, grads.size, lanes))
        if norm > clip:
            shrink = grads.dtype.type(clip / norm)
            for i in range(grads.size):
                grads[i] = mul(grads[i], shrink)


def many(params, vel, data, order, plan, sizes, hyper, numbers, words, space, sums, shares):
    """The same steps of many networks: row `m` of `params`, `vel`, `order`, `hyper`, `numbers`, `words` and `sums`.

    Thread `t` of `shares` trains networks t, t + shares, ... in its own row of the space.
    """
    x, targets, batch_weights, hidden, deltas, z, losses, measures, buffers, panels, grads, lanes, one = space
    networks = params.shape[0]
    for share in prange(shares):
        for m in range(share, networks, shares):
            own = (
                *(x[share], targets[share], batch_weights[share], hidden[share], deltas[share], z[share]),
                *(losses[share], measures[share], buffers[share : share + 1], panels[share : share + 1]),
                *(grads[share], lanes[share], one[share]),
            )
            train_steps(
                *(params[m], vel[m], data, order[m], plan, sizes, hyper[m], numbers[m], words[m], own, sums[m], 1),
            )


def rows_share(
    params,
    X,
    y,
    weights,
    order,
    begin,
    rows,
    sizes,
    share,
    shares,
    x,
    targets,
    batch_weights,
    hidden,
    deltas,
    z,
    losses,
    measures,
    buffer,
    panel,
    key,
    threshold,
    keep,
    factor,
    scale,
    measure,
):
    """Everything up to the deltas for one of `shares` equal portions of the rows of a batch."""
    size = (rows + shares - 1) // shares
    size = (size + ROWS - 1) // ROWS * ROWS
    first, last = min(rows, share * size), min(rows, (share + 1) * size)
    if first >= last:
        return
    outputs, count = sizes[sizes.size - 1], last - first
    gather_inputs(X, order, begin, first, last, x, scale)
    gather_targets(y, order, begin, first, last, targets)
    hidden_here = hidden[: rows * (hidden.size // losses.size)]
    deltas_here = deltas[: rows * (deltas.size // losses.size)]
    forward_rows(params, x, sizes, rows, hidden_here, z, first, last, buffer, panel, key, threshold, keep)
    here = z[first * outputs : last * outputs].reshape((count, outputs))
    top = deltas_here.size - rows * outputs
    slopes = deltas_here[top + first * outputs : top + last * outputs].reshape((count, outputs))
    if measure:
        measure_rows(here, targets[first:last], measures[first:last])
    output(here, targets[first:last], slopes, losses[first:last], factor)
    if weights.size > 0:
        for i in range(first, last):
            batch_weights[i] = weights[order[begin + i]]
        weigh(slopes, losses[first:last], batch_weights[first:last])
    backward_rows(params, sizes, rows, hidden_here, deltas_here, first, last, buffer, panel, key, threshold, keep)


def evaluate(params, data, order, sizes, scale, results):
    """Without dropout and penalty: `results[part]` holds what `steps` sums up, of part `part` of the rows `order`."""
    for part in prange(results.shape[0]):
        one_part(params, data, order, sizes, scale, part * PART, results[part])


def evaluate_part(params, data, order, sizes, scale, begin, result):
    X, y, weights = data
    rows, outputs = min(PART, order.size - begin), sizes[sizes.size - 1]
    hidden_width, widest = widths(sizes)
    x, hidden = space(rows * sizes[0], params), space(rows * hidden_width, params)
    z = space(rows * outputs, params).reshape((rows, outputs))
    slopes = space(rows * outputs, params).reshape((rows, outputs))
    buffer, panel = space(BUFFER, params), space((widest + ROWS) * COLUMNS, params)
    targets = new_targets(y, rows)
    losses, measures = np.empty(rows), np.zeros((rows, 3))
    zero = np.uint64(0)
    gather_inputs(X, order, begin, 0, rows, x, scale)
    gather_targets(y, order, begin, 0, rows, targets)
    forward_rows(params, x, sizes, rows, hidden, z.reshape(rows * outputs), 0, rows, buffer, panel, zero, zero, 1.0)
    measure_rows(z, targets, measures)
    output(z, targets, slopes, losses, params.dtype.type(1))
    for i in range(rows):
        weight = np.float64(weights[order[begin + i]]) if weights.size > 0 else 1.0
        result[LOSS] += weight * losses[i]
        result[WEIGHT] += weight
        result[ROWS_SEEN] += 1.0
        result[HIT] += measures[i, 0]
        result[ABSOLUTE] += measures[i, 1]
        result[SQUARE] += measures[i, 2]


def apply_to_all(params, grads, vel, scalars):
    states = parts_of(vel, STATES)
    for i in range(params.size):
        element(params, grads, states, i, scalars)
    for i in range(vel.size):
        vel[i] = flush_subnormal(vel[i])


def parts_of(vel, count):
    """The states in a vector that holds them one after the other."""
    size = vel.size // count
    return tuple(vel[k * size : (k + 1) * size] for k in range(count))


@overload(parts_of, inline="always", prefer_literal=True)
def _overload_parts_of(vel, count):
    return {
        1: lambda vel, count: (vel,),
        2: lambda vel, count: (vel[: vel.size // 2], vel[vel.size // 2 :]),
    }[count.literal_value]
