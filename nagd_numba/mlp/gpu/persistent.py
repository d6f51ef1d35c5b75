"""A network trained for many steps in one launch: one thread block, everything in its shared memory.

Parameters, velocities, the batch, activations and deltas stay in the memory of one multiprocessor; data come from and
go to the device's memory only as rows of X and as losses.  Block m trains network m of a sweep.  The sums are the
CPU's, in its order (`block_gemm.py`), and so are the bits.

Space in shared memory, in elements of the network's dtype, each part at a multiple of 4 (`Plan`):

    weights and biases of each layer, then their velocities in the same layout
    two batches of inputs: one in use, one on its way
    activations and deltas of each hidden layer, then outputs (later their slopes), then three numbers for each row
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.np.numpy_support import from_dtype

from ...gpu.compiler import Kernel
from ...gpu.pointer_tuples import tuple_at
from ...gpu.pointers import doubles_at, dynamic_shared, load, quotient, store
from ...kernels.jit import callee, plain
from ...kernels.mathfuncs import flush_subnormal
from ...kernels.rounding import add, fma, mul
from ...kernels.rule import Rule
from ..activations import ACTIVATIONS
from ..cpu.microkernel import BLOCK
from ..dropout import drop, drop_delta, layer_key, splitmix
from ..losses import LOSSES
from . import block_gemm, block_losses
from .block_gemm import pitch_of, weights_pitch

THREADS = 512
SQUARES = 64  # lanes of the penalty's sum: passes.LANES

# Bound when compiled.
cuda: Any = None
SCALAR: Any = None
DROPOUT: Any = None
OPTIONS: Any = None
CONSTANTS: Any = None
LABELS: Any = None
MEASURE: Any = None
activate: Any = None
slope: Any = None
update: Any = None
hidden_product: Any = None
output_product: Any = None
delta_product: Any = None
weights_product: Any = None
column_sum: Any = None
bring: Any = None
outputs_pass: Any = None
squares_of: Any = None
step_weight: Any = None
copy_network: Any = None


class Plan(NamedTuple):
    """Where everything lies: what the kernel works out for itself, for the host to know how much there is."""

    network: int  # elements of the parameters, and of the velocities
    total: int

    @classmethod
    def of(cls, sizes: Sequence[int], rows: int) -> Plan:
        pitch_of, weights_pitch = plain(block_gemm.pitch_of), plain(block_gemm.weights_pitch)
        network = sum(
            pitch_of(inputs * weights_pitch(outputs)) + pitch_of(outputs)
            for inputs, outputs in itertools.pairwise(sizes)
        )
        widths = 2 * pitch_of(sizes[0]) + 2 * sum(map(pitch_of, sizes[1:-1])) + 2 * pitch_of(sizes[-1])
        return cls(network, 2 * network + rows * widths + pitch_of(3 * rows) + pitch_of(2 * SQUARES))


@functools.cache
def kernel(
    dtype: str,
    inputs: str,
    activation: str,
    loss: str,
    dropout: bool,
    weighted: bool,
    measure: bool,
    rule: Rule,
    options: tuple[Any, ...],
) -> Kernel:
    """The kernel for networks of this kind, with X of the dtype `inputs`."""
    from numba import cuda

    scalar = from_dtype(np.dtype(dtype))
    chosen, target = ACTIVATIONS[activation], LOSSES[loss]
    common: dict[str, Any] = {"cuda": cuda, "SCALAR": scalar, "DROPOUT": dropout, "OPTIONS": options}
    common |= {"LABELS": target.labels, "MEASURE": measure, "BINARY": target.binary, "WEIGHTED": weighted}

    step_weight = callee(step_weight_, update=rule.update, **common)

    def product(finish: Any, across: bool = False) -> Any:
        bound = callee(finish, activate=chosen.value, slope=chosen.slope, step_weight=step_weight, **common)
        narrow = callee(block_gemm.narrow_, ACROSS=across, SCALAR=scalar)
        return callee(block_gemm.product, finish=bound, ACROSS=across, narrow=narrow, cuda=cuda, SCALAR=scalar)

    y = types.int64 if target.labels else scalar
    pointer, long, whole = types.CPointer, types.int64, types.CPointer(types.int64)
    signature = (
        *(pointer(scalar), pointer(scalar), long),  # params, vel, from one network to the next
        *(pointer(from_dtype(np.dtype(inputs))), pointer(y), pointer(scalar), scalar),  # X, y, weights, scale
        *(whole, long, long, long, long),  # order, rows, first, last, batch
        *(whole, long),  # sizes, layers
        pointer(scalar),  # for each step: factor, decay, the rule's constants
        *(pointer(types.uint64), scalar, scalar),  # seeds and first steps, keep's inverse, keep
        types.uint64,  # threshold
        *(pointer(types.float64), pointer(types.float64), pointer(types.float64)),  # losses, measures, squares
    )
    parts = {
        "hidden_product": product(finish_hidden),
        "output_product": product(finish_output),
        "delta_product": product(finish_delta),
        "weights_product": product(finish_weights, across=True),
        "step_weight": step_weight,
        "column_sum": callee(column_sum_, SCALAR=scalar),
        "bring": callee(bring_, SCALAR=scalar),
        "squares_of": callee(squares_of_, cuda=cuda, SCALAR=scalar),
        "copy_network": callee(copy_network_, SCALAR=scalar),
        "outputs_pass": block_losses.outputs_pass(dtype, loss, measure, weighted),
    }
    kind = f"{activation}_{loss}_{'dropout' if dropout else 'plain'}_{'weighted' if weighted else 'even'}"
    name = f"mlp_resident_{kind}_{'measured' if measure else 'unmeasured'}_{dtype}_{inputs}_{rule.kernel_name(options)}"
    bound = {**common, **parts, "CONSTANTS": rule.constant_count}
    return Kernel(resident, name, signature, source=rule.update, threads=THREADS, **bound)


def resident(
    params,
    vel,
    stride,
    X,
    y,
    weights,
    scale,
    order,
    n,
    first,
    last,
    batch,
    sizes,
    layers,
    rates,
    words,
    unkeep,
    keep,
    threshold,
    losses,
    measures,
    squares,
):
    """Steps `first` to `last` of an epoch over the rows `order`.

    Row m of `params` and `vel` (`stride` apart), `order`, `words`, `losses`, `measures` is that of network m.
    `rates` has for each step of each network: the factor of the slopes, the weight decay, the rule's constants; so has
    `squares`, to which goes the sum of the squared weights.  `words`: seed and number of the epoch's first step.
    """
    thread, threads, m = cuda.threadIdx.x, cuda.blockDim.x, cuda.blockIdx.x
    space = dynamic_shared(params)
    inputs, outputs = load(sizes, 0), load(sizes, layers)
    x_pitch, z_pitch = pitch_of(inputs), pitch_of(outputs)
    size = copy_network(space, 0, params, m * stride, sizes, layers, thread, threads, True)
    copy_network(space, size, vel, m * stride, sizes, layers, thread, threads, True)
    x = 2 * size
    hidden = x + 2 * batch * x_pitch
    z = hidden
    for layer in range(1, layers):
        z += 2 * batch * pitch_of(load(sizes, layer))
    scratch = z + 2 * batch * z_pitch
    lanes = scratch + pitch_of(3 * batch)
    steps = quotient(n + batch - 1, batch)
    mine = m * n
    seed, number = load(words, 2 * m), load(words, 2 * m + 1)
    bring(
        space,
        x + (first & 1) * batch * x_pitch,
        X,
        order,
        mine + first * batch,
        min(batch, n - first * batch),
        inputs,
        scale,
        thread,
        threads,
    )
    cuda.syncthreads()
    for s in range(first, last):
        begin = mine + s * batch
        rows = min(batch, n - s * batch)
        row = (m * steps + s) * (2 + CONSTANTS)
        factor, decay = load(rates, row), load(rates, row + 1)
        scalars = tuple_at(rates, row + 2, CONSTANTS)
        key = splitmix(seed, number + np.uint64(s))
        batch_x = x + (s & 1) * batch * x_pitch
        # Forward.
        below, below_pitch, start, place = batch_x, x_pitch, 0, hidden
        for layer in range(layers):
            ins, outs = load(sizes, layer), load(sizes, layer + 1)
            pitch, out_pitch = weights_pitch(outs), pitch_of(outs)
            biases = start + pitch_of(ins * pitch)
            if layer == layers - 1:
                to = space, biases, z, out_pitch
                output_product(space, below, below_pitch, start, pitch, 1, rows, outs, ins, thread, threads, to)
            else:
                to_hidden = space, biases, place, out_pitch, outs, layer_key(key, layer), threshold, unkeep
                hidden_product(space, below, below_pitch, start, pitch, 1, rows, outs, ins, thread, threads, to_hidden)
                below, below_pitch = place, out_pitch
                place += 2 * batch * out_pitch
            start = biases + out_pitch
            cuda.syncthreads()
        # Loss and slopes; the next batch is brought at the same time.
        if s + 1 < last:
            after = begin + batch
            count = min(batch, n - (s + 1) * batch)
            bring(space, x + ((s + 1) & 1) * batch * x_pitch, X, order, after, count, inputs, scale, thread, threads)
        delta = z + batch * z_pitch
        outputs_pass(
            *(space, z, delta, scratch, z_pitch, y, weights, order, begin, rows, outputs, factor),
            *(losses, measures, thread, threads),
        )
        cuda.syncthreads()
        # Deltas of the hidden layers, from above.
        end, above, above_pitch, place = start, delta, z_pitch, z
        for layer in range(layers - 1, 0, -1):
            ins, outs = load(sizes, layer), load(sizes, layer + 1)
            pitch = weights_pitch(outs)
            end -= pitch_of(outs) + pitch_of(ins * pitch)
            h_pitch = pitch_of(ins)
            place -= 2 * batch * h_pitch
            here = place + batch * h_pitch
            to_delta = space, place, here, h_pitch, ins, layer_key(key, layer - 1), threshold, unkeep, keep
            delta_product(space, above, above_pitch, end, 1, pitch, rows, ins, outs, thread, threads, to_delta)
            above, above_pitch = here, h_pitch
            cuda.syncthreads()
        if decay != SCALAR(0):
            squares_of(space, sizes, layers, lanes, squares, m * steps + s, thread)
            cuda.syncthreads()
        # Gradients, each given to the rule at once.
        below, below_pitch, start, place = batch_x, x_pitch, 0, hidden
        for layer in range(layers):
            ins, outs = load(sizes, layer), load(sizes, layer + 1)
            pitch, out_pitch = weights_pitch(outs), pitch_of(outs)
            biases = start + pitch_of(ins * pitch)
            slopes = delta if layer == layers - 1 else place + batch * out_pitch
            to_weights = space, start, size, pitch, decay, scalars
            weights_product(
                space, below, below_pitch, slopes, out_pitch, 1, ins, outs, rows, thread, threads, to_weights
            )
            j = thread
            while j < outs:
                step_weight(space, biases + j, size, column_sum(space, slopes + j, out_pitch, rows), SCALAR(0), scalars)
                j += threads
            below, below_pitch = place, out_pitch
            place += 2 * batch * out_pitch
            start = biases + out_pitch
        cuda.syncthreads()
    copy_network(space, 0, params, m * stride, sizes, layers, thread, threads, False)
    copy_network(space, size, vel, m * stride, sizes, layers, thread, threads, False)


def bring_(space, to, X, order, begin, rows, inputs, scale, thread, threads):
    """A batch of the rows of X, times `scale`."""
    pitch = pitch_of(inputs)
    e = thread
    while e < rows * inputs:
        i = quotient(e, inputs)
        q = e - i * inputs
        value = load(X, load(order, begin + i) * inputs + q)
        store(space, to + i * pitch + q, mul(SCALAR(value), scale))
        e += threads


def copy_network_(space, to, flat, start, sizes, layers, thread, threads, inwards):
    """Parameters or velocities between the device's memory, where they are dense, and the block's; how many there."""
    place, here = start, to
    for layer in range(layers):
        ins, outs = load(sizes, layer), load(sizes, layer + 1)
        pitch = weights_pitch(outs)
        e = thread
        while e < (ins + 1) * outs:
            i = quotient(e, outs)
            j = e - i * outs
            at = here + i * pitch + j if i < ins else here + pitch_of(ins * pitch) + j
            if inwards:
                store(space, at, load(flat, place + e))
            else:
                store(flat, place + e, load(space, at))
            e += threads
        place += (ins + 1) * outs
        here += pitch_of(ins * pitch) + pitch_of(outs)
    return here - to


def column_sum_(space, start, pitch, rows):
    """The slopes of one output, summed over the batch: the gradient of its bias."""
    total = SCALAR(0)
    for block_ in range(0, rows, BLOCK):
        part = SCALAR(0)
        for i in range(block_, min(rows, block_ + BLOCK)):
            part = fma(SCALAR(1), load(space, start + i * pitch), part)
        total = part if block_ == 0 else add(total, part)
    return total


def squares_of_(space, sizes, layers, lanes, squares, slot, thread):
    """The sum of the squared weights in float64, as `passes.penalty` forms it."""
    partial = doubles_at(space, lanes)
    total, start = 0.0, 0
    for layer in range(layers):
        ins, outs = load(sizes, layer), load(sizes, layer + 1)
        pitch = weights_pitch(outs)
        if thread < SQUARES:
            sum_ = 0.0
            e = thread
            while e < ins * outs:
                i = quotient(e, outs)
                value = np.float64(load(space, start + i * pitch + e - i * outs))
                sum_ = fma(value, value, sum_)
                e += SQUARES
            store(partial, thread, sum_)
        cuda.syncthreads()
        if thread == 0:
            layer_total = 0.0
            for e in range(SQUARES):
                layer_total = add(layer_total, load(partial, e))
            total += layer_total
        cuda.syncthreads()
        start += pitch_of(ins * pitch) + pitch_of(outs)
    if thread == 0:
        store(squares, slot, total)


def finish_hidden(i, j, total, to):
    space, biases, out, pitch, width, key, threshold, unkeep = to
    value = activate(add(total, load(space, biases + j)))
    if DROPOUT:
        value = drop(value, key, i * width + j, threshold, unkeep)
    store(space, out + i * pitch + j, value)


def finish_output(i, j, total, to):
    space, biases, out, pitch = to
    store(space, out + i * pitch + j, add(total, load(space, biases + j)))


def finish_delta(i, j, total, to):
    space, h, out, pitch, width, key, threshold, unkeep, keep = to
    at = i * pitch + j
    value = load(space, h + at)
    if DROPOUT:
        value = drop_delta(mul(total, slope(mul(value, keep))), key, i * width + j, threshold, unkeep)
    else:
        value = mul(total, slope(value))
    store(space, out + at, value)


def finish_weights(i, j, total, to):
    space, start, size, pitch, decay, scalars = to
    step_weight(space, start + i * pitch + j, size, total, decay, scalars)


def step_weight_(space, at, size, gradient, decay, scalars):
    """Update one parameter, whose velocity lies `size` elements further."""
    p, v = load(space, at), load(space, at + size)
    g = fma(decay, p, gradient) if decay != SCALAR(0) else gradient
    p, state = update(p, g, (v,), scalars, OPTIONS)
    store(space, at, p)
    store(space, at + size, flush_subnormal(state[0]))
