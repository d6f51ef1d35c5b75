"""A network trained for many steps in one launch: one thread block, everything in its shared memory.

Parameters, states, the batch, activations and deltas stay in the memory of one multiprocessor; data come from and go to
the device's memory only as rows of X and as losses.  Block m trains network m of many.  The sums are the CPU's, in its
order (`block_gemm.py`), and so are the bits.

Shared memory, in elements of the network's dtype, each part at a multiple of 4 (`SharedMemory`):

    weights and biases of each layer, then each state of the rule in the same layout
    two batches of inputs: one in use, one being loaded
    activations and deltas of each hidden layer, then outputs and their deltas, then three numbers for each row

A network that needs more than the shared memory of one block is trained by `multi_launch.py`, not by a cluster of
blocks that read each other's shared memory (sm_90).  It could be had: cuda.core launches clusters, and `mapa`,
`ld.shared::cluster` and `barrier.cluster` can be written as inline PTX, though numba-cuda 0.30 knows no more of
clusters than a limit for their size (`launch_bounds`).  But nothing of it can be executed without such a device, where
blocks wait for each other; and each layer would have to be split over the blocks, with a barrier of the cluster before
every product, forward and back.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.np.numpy_support import from_dtype

from ...gpu.compiler import Kernel, device_function
from ...gpu.pointer_tuples import load_strided
from ...gpu.pointers import WIDE, doubles_at, dynamic_shared, element, less, load, narrow, quotient, store
from ...kernels.jit import inlined, plain
from ...kernels.reductions import LANES
from ...kernels.rounding import fma
from ...kernels.rule import Rule
from ...kernels.template import template
from ..activations import ACTIVATIONS
from ..dropout import layer_key, splitmix
from ..elements import hidden_delta, hidden_unit
from ..losses import LOSSES
from . import block_epilogues, block_gemm, block_losses, block_memory
from .block_gemm import pitch_of, rounded
from .reductions import sum_of_lanes

THREADS = 512
COLUMNS = 2  # of the table of rates, before the rule's constants
SEED, FIRST_STEP = range(2)  # columns of the table of seeds


class SharedMemory(NamedTuple):
    """The elements of shared memory that the kernel lays out for itself."""

    network: int  # of the parameters, and of each state
    total: int

    @classmethod
    def of(cls, sizes: Sequence[int], rows: int, states: int) -> SharedMemory:
        """That of a network, batches of so many rows, and a rule with so many states."""
        pitch_of, rounded = plain(block_gemm.pitch_of), plain(block_gemm.rounded)
        network = sum(inputs * pitch_of(outputs) + rounded(outputs) for inputs, outputs in itertools.pairwise(sizes))
        widths = 2 * pitch_of(sizes[0]) + 2 * sum(map(pitch_of, sizes[1:-1])) + 2 * pitch_of(sizes[-1])
        return cls(network, (1 + states) * network + rows * widths + rounded(3 * rows) + 2 * LANES)


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
    """The kernel for networks of this kind, with X of the dtype `inputs`; see `train_steps`."""
    scalar = from_dtype(np.dtype(dtype))
    staged = WIDE // np.dtype(dtype).itemsize  # more, and registers are spilled
    chosen, target, states = ACTIVATIONS[activation], LOSSES[loss], len(rule.states)
    unit = inlined(hidden_unit.bind(activate=chosen.value, DROPOUT=dropout))
    delta = inlined(hidden_delta.bind(derivative=chosen.derivative, DROPOUT=dropout))
    given = element(types.CPointer(from_dtype(np.dtype(inputs))))
    step: dict[str, Any] = {"update": rule.update, "OPTIONS": options, "STATES": states}
    function = train_steps.bind(
        STAGED=staged,
        STATES=states,
        CONSTANTS=rule.constant_count,
        SCALAR=scalar,
        GIVEN=given,
        hidden_product=_product(scalar, block_epilogues.write_hidden.bind(SCALAR=scalar, unit=unit)),
        output_product=_product(scalar, block_epilogues.write_output.bind(SCALAR=scalar)),
        delta_product=_product(scalar, block_epilogues.write_delta.bind(delta=delta), trans_b=True),
        weights_product=_product(scalar, block_epilogues.write_weight.bind(SCALAR=scalar, **step), trans_a=True),
        step_bias=device_function(block_epilogues.step_bias.bind(**step)),
        column_sum=device_function(block_gemm.column_sum.bind(SCALAR=scalar)),
        read_rows=inlined(block_memory.read_rows.bind(STAGED=staged)),
        write_rows=inlined(block_memory.write_rows.bind(SCALAR=scalar, STAGED=staged)),
        copy_network=device_function(block_memory.copy_network),
        loss_pass=block_losses.loss_pass(dtype, loss, measure, weighted),
        sum_weight_squares=device_function(sum_weight_squares.bind()),
    )
    y = types.int64 if target.labels else scalar
    pointer, long, whole = types.CPointer, types.int64, types.CPointer(types.int64)
    signature = (
        *(pointer(scalar), pointer(scalar), long),  # params, vel, stride
        *(pointer(from_dtype(np.dtype(inputs))), pointer(y), pointer(scalar), scalar),  # X, y, weights, scale
        *(whole, long, long, long, long),  # order, n, first, last, batch
        *(whole, long),  # sizes, layers
        pointer(scalar),  # rates
        *(pointer(types.uint64), scalar, scalar),  # seeds, drop_scale, keep
        types.uint64,  # threshold
        *(pointer(types.float64), pointer(types.float64), pointer(types.float64)),  # losses, measures, squares
    )
    kind = f"{activation}_{loss}_{'dropout' if dropout else 'plain'}_{'weighted' if weighted else 'even'}"
    kind += f"_{'measured' if measure else 'unmeasured'}_{dtype}_{inputs}"
    name = f"mlp_persistent_{kind}_{rule.kernel_name(options)}"
    return Kernel(function, name, signature, threads=THREADS)


def _product(scalar: types.Float, epilogue: Callable, trans_a: bool = False, trans_b: bool = False) -> Callable:
    """A matrix product of the block that ends with an epilogue."""
    large, small = (
        device_function(
            block_gemm.tiles.bind(
                SCALAR=scalar, ROWS=rows, TRANS_A=trans_a, TRANS_B=trans_b, epilogue=device_function(epilogue)
            )
        )
        for rows in (WIDE * 8 // scalar.bitwidth, 1)
    )
    return device_function(block_gemm.product.bind(large=large, small=small))


@template
def train_steps(
    STAGED,
    STATES,
    CONSTANTS,
    SCALAR,
    GIVEN,
    hidden_product,
    output_product,
    delta_product,
    weights_product,
    step_bias,
    column_sum,
    read_rows,
    write_rows,
    copy_network,
    loss_pass,
    sum_weight_squares,
):
    from ...gpu.target import cuda

    def train_steps(
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
        seeds,
        drop_scale,
        keep,
        threshold,
        losses,
        measures,
        squares,
    ):
        """Steps `first` to `last` of an epoch over the rows `order`.

        Network m has row m of `params`, of `vel` (`stride` elements a state), of `order`, `losses`, `measures`, and of
        `seeds`: the dropout's seed, and the number of the epoch's first step, counted through all epochs.  `rates` has
        a row for each step of each network: the factor of the derivatives, the weight of the penalty, the rule's
        constants; `squares` takes the sum of the squared weights before each.
        """
        thread, threads, m = np.int64(cuda.threadIdx.x), np.int64(cuda.blockDim.x), np.int64(cuda.blockIdx.x)
        thread, threads, batch, layers = narrow(thread), narrow(threads), narrow(batch), narrow(layers)
        warp, lane = thread >> 5, thread & 31
        space = dynamic_shared(params)
        coming = cuda.local.array(STAGED, GIVEN)
        inputs, outputs = narrow(load(sizes, 0)), narrow(load(sizes, layers))
        x_pitch, z_pitch = narrow(pitch_of(inputs)), narrow(pitch_of(outputs))
        states = m * STATES * stride
        size = copy_network(space, 0, params, m * stride, sizes, layers, thread, threads, True)
        if STATES > 0:  # the first outside of the loop: one pass of a loop costs registers
            copy_network(space, size, vel, states, sizes, layers, thread, threads, True)
        for k in range(1, STATES):
            copy_network(space, (k + 1) * size, vel, states + k * stride, sizes, layers, thread, threads, True)
        x = narrow((1 + STATES) * size)
        hidden = narrow(x + 2 * batch * x_pitch)
        z = hidden
        for layer in range(1, layers):
            z += 2 * batch * pitch_of(load(sizes, layer))
        z = narrow(z)
        scratch = narrow(z + 2 * batch * z_pitch)
        lanes = scratch + rounded(3 * batch)
        steps = quotient(n + batch - 1, batch)
        mine = m * n
        seed, first_step = load(seeds, 2 * m + SEED), load(seeds, 2 * m + FIRST_STEP)
        row, column, count = warp, lane, narrow(min(batch, n - first * batch))
        while less(row, count):
            to, after = x + (first & 1) * batch * x_pitch, mine + first * batch
            following = read_rows(coming, X, order, after, count, inputs, row, column, thread, threads)
            write_rows(space, to, coming, count, inputs, scale, row, column, thread, threads)
            row, column = following
        cuda.syncthreads()
        for s in range(first, last):
            begin = mine + s * batch
            rows = narrow(min(batch, n - s * batch))
            row = (m * steps + s) * (COLUMNS + CONSTANTS)
            factor, decay = load(rates, row), load(rates, row + 1)
            scalars = load_strided(rates, row + COLUMNS, 1, CONSTANTS)
            key = splitmix(seed, first_step + np.uint64(s))
            batch_x = narrow(x + (s & 1) * batch * x_pitch)
            # The first elements of the next batch are on the way during the forward pass.
            after, count = begin + batch, narrow(min(batch, n - (s + 1) * batch)) if s + 1 < last else 0
            row, column = warp, lane
            following = row, column
            if less(row, count):
                following = read_rows(coming, X, order, after, count, inputs, row, column, thread, threads)
            # Forward.
            below, below_pitch, start, place = batch_x, x_pitch, 0, hidden
            layer = 0
            while less(layer, layers):
                ins, outs = narrow(load(sizes, layer)), narrow(load(sizes, layer + 1))
                layer = narrow(layer + 1)
                out_pitch = narrow(pitch_of(outs))
                biases = narrow(start + ins * out_pitch)
                if layer == layers:
                    to_output = space, biases, z, out_pitch
                    output_product(
                        space, below, below_pitch, start, out_pitch, rows, outs, ins, thread, threads, to_output
                    )
                else:
                    to_hidden = space, biases, place, out_pitch, outs, layer_key(key, layer - 1), threshold, drop_scale
                    hidden_product(
                        space, below, below_pitch, start, out_pitch, rows, outs, ins, thread, threads, to_hidden
                    )
                    below, below_pitch = place, out_pitch
                    place = narrow(place + 2 * batch * out_pitch)
                start = narrow(biases + rounded(outs))
                cuda.syncthreads()
            while less(row, count):
                to = x + ((s + 1) & 1) * batch * x_pitch
                write_rows(space, to, coming, count, inputs, scale, row, column, thread, threads)
                row, column = following
                if less(row, count):
                    following = read_rows(coming, X, order, after, count, inputs, row, column, thread, threads)
            # Losses and their derivatives.
            delta = narrow(z + batch * z_pitch)
            loss_pass(
                *(space, z, delta, scratch, z_pitch, y, weights, order, begin, rows, outputs, factor),
                *(losses, measures, thread, threads),
            )
            cuda.syncthreads()
            # Deltas of the hidden layers, from above.
            end, above, above_pitch, place = start, delta, z_pitch, z
            layer = narrow(layers - 1)
            while layer != 0:
                ins, outs = narrow(load(sizes, layer)), narrow(load(sizes, layer + 1))
                pitch, h_pitch = narrow(pitch_of(outs)), narrow(pitch_of(ins))
                end = narrow(end - ins * pitch - rounded(outs))
                place = narrow(place - 2 * batch * h_pitch)
                here = narrow(place + batch * h_pitch)
                to_delta = space, place, here, h_pitch, ins, layer_key(key, layer - 1), threshold, drop_scale, keep
                delta_product(space, above, above_pitch, end, pitch, rows, ins, outs, thread, threads, to_delta)
                above, above_pitch, layer = here, h_pitch, narrow(layer - 1)
                cuda.syncthreads()
            if decay != SCALAR(0):
                sum_weight_squares(space, sizes, layers, lanes, squares, m * steps + s, thread)
            # Gradients, each given to the rule at once.
            below, below_pitch, start, place = batch_x, x_pitch, 0, hidden
            layer = 0
            while less(layer, layers):
                ins, outs = narrow(load(sizes, layer)), narrow(load(sizes, layer + 1))
                layer = narrow(layer + 1)
                out_pitch = narrow(pitch_of(outs))
                biases = narrow(start + ins * out_pitch)
                above = delta if layer == layers else narrow(place + batch * out_pitch)
                to_weights = space, start, size, out_pitch, decay, scalars
                weights_product(
                    space, below, below_pitch, above, out_pitch, ins, outs, rows, thread, threads, to_weights
                )
                j = thread
                while less(j, outs):
                    step_bias(space, biases + j, size, column_sum(space, above + j, out_pitch, rows), scalars)
                    j = narrow(j + threads)
                below, below_pitch = place, out_pitch
                place = narrow(place + 2 * batch * out_pitch)
                start = narrow(biases + rounded(outs))
            cuda.syncthreads()
        copy_network(space, 0, params, m * stride, sizes, layers, thread, threads, False)
        if STATES > 0:
            copy_network(space, size, vel, states, sizes, layers, thread, threads, False)
        for k in range(1, STATES):
            copy_network(space, (k + 1) * size, vel, states + k * stride, sizes, layers, thread, threads, False)

    return train_steps


@template
def sum_weight_squares():
    from ...gpu.target import cuda

    def sum_weight_squares(space, sizes, layers, lanes, squares, slot, thread):
        """The sum of the squared weights in float64, in the order of the CPU."""
        partial = doubles_at(space, lanes)
        total, start = 0.0, 0
        for layer in range(layers):
            ins, outs = narrow(load(sizes, layer)), narrow(load(sizes, layer + 1))
            pitch = pitch_of(outs)
            if thread < LANES:
                sum_ = 0.0
                e = thread
                while e < ins * outs:
                    i = quotient(e, outs)
                    value = np.float64(load(space, start + i * pitch + e - i * outs))
                    sum_ = fma(value, value, sum_)
                    e += LANES
                store(partial, thread, sum_)
            cuda.syncthreads()
            if thread == 0:
                total += sum_of_lanes(partial)
            cuda.syncthreads()
            start += ins * pitch + rounded(outs)
        if thread == 0:
            store(squares, slot, total)

    return sum_weight_squares
