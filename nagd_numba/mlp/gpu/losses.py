"""The kernels of the output layer: targets, losses with their derivatives, probabilities, classes."""

from __future__ import annotations

import functools

import numpy as np
from numba import types
from numba.np.numpy_support import from_dtype

from ...gpu.compiler import Kernel
from ...gpu.pointers import load, store
from ...gpu.target import intrinsic
from ...kernels.mathfuncs import sigmoid
from ...kernels.rounding import add, div, mul
from ...kernels.template import template
from ..losses import LOSSES, SUM_TOLERANCE, softmax_term
from . import block_losses

THREADS = 128
ROWS = 32  # of a batch, that one block works on
LABELS, ONE_HOT, BINARY, REAL, PROBABILITIES = range(5)  # what targets are


@functools.cache
def losses_kernel(dtype: str, loss: str, measure: bool, weighted: bool) -> Kernel:
    """See `losses`; a block of THREADS for ROWS rows."""
    scalar = from_dtype(np.dtype(dtype))
    pointer, long, double = types.CPointer, types.int64, types.CPointer(types.float64)
    y = types.int64 if LOSSES[loss].labels else scalar
    signature = (
        *(pointer(scalar), long, long, long, pointer(y), pointer(scalar), pointer(long)),
        *(long, long, scalar, double, double),
    )
    function = losses.bind(loss_pass=block_losses.loss_pass(dtype, loss, measure, weighted))
    name = f"mlp_losses_{loss}_{'measured' if measure else 'plain'}_{'weighted' if weighted else 'even'}_{dtype}"
    return Kernel(function, name, signature, threads=THREADS)


@template
def losses(loss_pass):
    from ...gpu.target import cuda

    def losses(space, z, delta, scratch, y, weights, order, rows, outputs, factor, row_losses, measures):
        """Each row's loss in `row_losses`; its derivatives, times `factor` and its weight, from `delta` on in `space`.

        `z`, `delta` and `scratch`, which has three elements for each row, lie in the space; `z` is overwritten.
        """
        first = np.int64(cuda.blockIdx.x) * ROWS
        loss_pass(
            *(space, z + first * outputs, delta + first * outputs, scratch + 3 * first, outputs, y, weights, order),
            *(first, min(ROWS, rows - first), outputs, factor, row_losses, measures),
            *(np.int64(cuda.threadIdx.x), np.int64(cuda.blockDim.x)),
        )

    return losses


@functools.cache
def targets_kernel(dtype: str, given: str, kind: int) -> Kernel:
    """See `targets`; `given` is the dtype of the targets.  A thread for each row."""
    scalar = from_dtype(np.dtype(dtype))
    pointer, long = types.CPointer, types.int64
    stored = types.uint8 if given == "bool" else from_dtype(np.dtype(given))
    made = long if kind == LABELS else scalar
    signature = (pointer(stored), pointer(made), pointer(long), pointer(types.float64), long, long)
    name = f"mlp_targets_{('labels', 'one_hot', 'binary', 'real', 'probabilities')[kind]}_{given}_{dtype}"
    return Kernel(targets.bind(SCALAR=scalar, KIND=kind), name, signature, threads=THREADS)


@template
def targets(SCALAR, KIND):
    from ...gpu.target import cuda

    def targets(y, made, order, bad, rows, outputs):
        """Targets as the losses take them; `order` becomes 0, 1, ...; `bad` is 1 for rows not allowed, else 0."""
        i = np.int64(cuda.grid(1))
        if i < rows:
            invalid = False
            if KIND in (LABELS, ONE_HOT):
                label = np.int64(raw(y, i))
                invalid = label < 0 or label >= outputs
                if KIND == LABELS:
                    store(made, i, 0 if invalid else label)
                else:
                    for j in range(outputs):
                        store(made, i * outputs + j, SCALAR(1) if j == label else SCALAR(0))
            else:
                total = 0.0
                for j in range(outputs):
                    target = SCALAR(raw(y, i * outputs + j))
                    if KIND == BINARY and target != SCALAR(0) and target != SCALAR(1):
                        invalid = True
                    if KIND == PROBABILITIES:
                        total += np.float64(target)
                        invalid = invalid or target < SCALAR(0)
                    store(made, i * outputs + j, target)
                if KIND == PROBABILITIES and not abs(total - 1.0) <= SUM_TOLERANCE:
                    invalid = True
            store(order, i, i)
            store(bad, i, 1.0 if invalid else 0.0)

    return targets


@intrinsic
def raw(typingctx, pointer, at):
    """Element `at`, whatever its type: 16 bits are an integer here."""

    def build(context, builder, signature, operands):
        return builder.load(builder.gep(operands[0], [operands[1]]))

    return pointer.dtype(pointer, types.int64), build


@functools.cache
def probabilities_kernel(dtype: str, labels: bool) -> Kernel:
    """`kernel(z, rows, outputs)`: softmax of each row, or the sigmoid of each element, in place; a thread a row."""
    scalar = from_dtype(np.dtype(dtype))
    signature = (types.CPointer(scalar), types.int64, types.int64)
    function = (softmax if labels else sigmoids).bind(SCALAR=scalar)
    return Kernel(function, f"mlp_{function.__name__}_{dtype}", signature, threads=THREADS)


@template
def softmax(SCALAR):
    from ...gpu.target import cuda

    def softmax(z, rows, outputs):
        i = np.int64(cuda.grid(1))
        if i < rows:
            here, total = i * outputs, SCALAR(0)
            largest = load(z, here)
            for j in range(1, outputs):
                value = load(z, here + j)
                largest = value if value > largest else largest
            for j in range(outputs):
                term = softmax_term(load(z, here + j), largest)
                store(z, here + j, term)
                total = add(total, term)
            inverse = div(SCALAR(1), total)
            for j in range(outputs):
                store(z, here + j, mul(load(z, here + j), inverse))

    return softmax


@template
def sigmoids(SCALAR):
    from ...gpu.target import cuda

    def sigmoids(z, rows, outputs):
        i = np.int64(cuda.grid(1))
        if i < rows:
            for j in range(outputs):
                store(z, i * outputs + j, sigmoid(load(z, i * outputs + j)))

    return sigmoids


@functools.cache
def classes_kernel(dtype: str, labels: bool) -> Kernel:
    """`kernel(z, out, rows, outputs)`: the first largest output of each row, or which are positive; a thread a row."""
    scalar = from_dtype(np.dtype(dtype))
    signature = (types.CPointer(scalar), types.CPointer(types.int64), types.int64, types.int64)
    function = (largest if labels else positive).bind(SCALAR=scalar)
    return Kernel(function, f"mlp_{function.__name__}_{dtype}", signature, threads=THREADS)


@template
def largest(SCALAR):
    from ...gpu.target import cuda

    def largest(z, out, rows, outputs):
        i = np.int64(cuda.grid(1))
        if i < rows:
            best, top = np.int64(0), load(z, i * outputs)
            for j in range(1, outputs):
                value = load(z, i * outputs + j)
                # The first NaN is the largest, as for NumPy.
                if value > top or (value != value and top == top):
                    best, top = np.int64(j), value
            store(out, i, best)

    return largest


@template
def positive(SCALAR):
    from ...gpu.target import cuda

    def positive(z, out, rows, outputs):
        i = np.int64(cuda.grid(1))
        if i < rows:
            for j in range(outputs):
                store(out, i * outputs + j, np.int64(1) if load(z, i * outputs + j) > SCALAR(0) else np.int64(0))

    return positive
