"""The passes of `cpu.py` as CUDA kernels, over the same scalar pieces.

Matrices lie in flat vectors, each given by a vector and the offset of its first element, so that the parameters are
never cut up on the host.  The matrix product is one template: 16 × 16 tiles in shared memory, transposed operands
and what happens to each element at the end fixed when it is compiled.  Every sum has a fixed order and no atomic
addition, so equal inputs give equal bits.  float32 kernels compute in float32 throughout.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import types
from numba.np.numpy_support import from_dtype

from ..compile import cuda_kernel
from ..elementary import div, sigmoid
from ..rounding import add, fma, mul
from .cells import ACTIVATIONS, LOSSES, drop, drop_delta, softmax_loss, softmax_slope, softmax_term

TILE = 16
PITCH = TILE + 1  # of a tile in shared memory: neighbouring rows then begin in different banks
THREADS = 256  # of the kernels that are not tiled
HIDDEN, OUTPUT, WEIGHTS, DELTA = range(4)  # what a product is for
ONE_HOT, BINARY, REAL = range(3)  # what the targets of a loss of elements are

# Bound by `kernels`.
cuda: Any = None
SCALAR: Any = None  # Numba's type of the elements
activate: Any = None
slope: Any = None
loss_value: Any = None
loss_slope: Any = None
PURPOSE: Any = None
DROPOUT: Any = None
TARGETS: Any = None
SQUARES: Any = None
LABELS: Any = None

_CELLS = (drop, drop_delta, sigmoid, softmax_loss, softmax_slope, softmax_term)
_made: dict[str, Any] = {}  # networks share the kernels that do not depend on their differences


@functools.cache
def kernels(dtype: str, activation: str, loss: str, dropout: bool, one_hot: bool = False) -> dict[str, tuple[Any, Any]]:
    """Every kernel of networks of this kind by name, as (kernel, argument types); each compiles at its first launch.

    With `one_hot` the targets of the mean squared error are labels.  Labels may have any integer type: int64 is given.
    """
    from numba import cuda

    chosen, target = ACTIVATIONS[activation], LOSSES[loss]
    scalar = from_dtype(np.dtype(dtype))
    targets = ONE_HOT if one_hot else BINARY if target.binary else REAL
    vector, integer, word = scalar[::1], types.int64, types.uint64
    y = types.int64[::1] if target.labels or one_hot else vector
    common = {"cuda": cuda, "SCALAR": scalar, **{cell.__name__: cell for cell in _CELLS}}
    table: dict[str, tuple[Any, Any]] = {}

    def define(name: str, template: Any, signature: tuple[Any, ...], **bindings: Any) -> None:
        options = "_".join(str(getattr(value, "__name__", value)) for value in bindings.values())
        full_name = f"mlp_{template.__name__}_{options}_{dtype}"
        if full_name not in _made:
            _made[full_name] = cuda_kernel(template, full_name, **common, **bindings)
        table[name] = (_made[full_name], signature)

    product_types = (
        *(vector, integer, vector, integer, vector, integer),
        *(integer, integer, integer, vector, integer, scalar, scalar, word, word),
    )
    for name, purpose in (("hidden", HIDDEN), ("output", OUTPUT), ("weights", WEIGHTS), ("delta", DELTA)):
        # The others do not depend on the options: one kernel serves all networks of a dtype.
        inner = name in ("hidden", "delta")
        used, drops = (chosen, dropout) if inner else (ACTIVATIONS["identity"], False)
        functions = {"activate": used.value, "slope": used.slope}
        define(name, product, product_types, **functions, PURPOSE=purpose, DROPOUT=drops)
    loss_types = (vector, integer, vector, integer, integer, integer, y, integer, integer, scalar)
    if target.labels:
        define("loss", cross_entropy_rows, loss_types)
    else:
        functions = {"loss_value": target.value, "loss_slope": target.slope}
        define("loss", element_rows, loss_types, **functions, TARGETS=targets)
    define("column_sums", column_sums, (vector, integer, integer, integer, vector, integer))
    for name, squares in (("sum", False), ("sum_of_squares", True)):
        define(name, reduce, (vector, integer, integer, vector, integer), SQUARES=squares)
    define("probabilities", probabilities, (vector, integer, integer), LABELS=target.labels)
    define("classes", classes, (vector, types.int64[::1], integer, integer), LABELS=target.labels)
    return table


def product(a, a_start, b, b_start, c, c_start, rows, columns, inner, other, other_start, factor, keep, key, threshold):
    """One 16 × 16 tile of `C = A B`, of shape (rows, columns), summing over `inner` from the first term to the last.

    HIDDEN   C = dropout(activation(A B + other)): `other` the biases, `factor` the dropout's scale
    OUTPUT   C = A B + other
    WEIGHTS  C = A^T B + factor other, where A is stored as (inner, rows): `other` the weights, `factor` l2
    DELTA    C = (A B^T) * slope(other), where B is stored as (columns, inner): `other` the layer's activations after
             dropout, `factor` and `keep` the dropout's scale and its inverse
    """
    tile_a = cuda.shared.array((TILE, PITCH), SCALAR)
    tile_b = cuda.shared.array((TILE, PITCH), SCALAR)
    x, y = cuda.threadIdx.x, cuda.threadIdx.y
    first_row, first_column = cuda.blockIdx.x * TILE, cuda.blockIdx.y * TILE
    row, column = first_row + y, first_column + x
    zero = SCALAR(0)
    total = zero
    for start in range(0, inner, TILE):
        # Neighbouring threads (in x) read neighbouring elements, whichever way a matrix is stored.
        if PURPOSE == WEIGHTS:
            inside = start + y < inner and first_row + x < rows
            tile_a[x, y] = a[a_start + (start + y) * rows + first_row + x] if inside else zero
        else:
            inside = row < rows and start + x < inner
            tile_a[y, x] = a[a_start + row * inner + start + x] if inside else zero
        if PURPOSE == DELTA:
            inside = first_column + y < columns and start + x < inner
            tile_b[x, y] = b[b_start + (first_column + y) * inner + start + x] if inside else zero
        else:
            inside = start + y < inner and column < columns
            tile_b[y, x] = b[b_start + (start + y) * columns + column] if inside else zero
        cuda.syncthreads()
        for k in range(TILE):
            total = fma(tile_a[y, k], tile_b[k, x], total)
        cuda.syncthreads()
    if row < rows and column < columns:
        at = row * columns + column
        if PURPOSE == WEIGHTS:
            if factor != zero:
                total = fma(factor, other[other_start + at], total)
        elif PURPOSE == DELTA:
            h = other[other_start + at]
            if DROPOUT:
                total = drop_delta(mul(total, slope(mul(h, keep))), key, at, threshold, factor)
            else:
                total = mul(total, slope(h))
        else:
            total = add(total, other[other_start + column])
            if PURPOSE == HIDDEN:
                total = activate(total)
                if DROPOUT:
                    total = drop(total, key, at, threshold, factor)
        c[c_start + at] = total


def cross_entropy_rows(z, z_start, work, delta, losses, bad, y, rows, width, factor):
    """One thread a sample: its loss, the slope `factor (softmax - onehot)`, and whether its label is out of range.

    `delta`, `losses` and `bad` are offsets in `work`.
    """
    i = cuda.grid(1)
    if i < rows:
        one, zero = SCALAR(1), SCALAR(0)
        here, there = z_start + i * width, delta + i * width
        label = np.int64(y[i])
        largest = z[here]
        for j in range(1, width):
            largest = z[here + j] if z[here + j] > largest else largest
        terms = zero
        for j in range(width):
            term = softmax_term(z[here + j], largest)
            work[there + j] = term
            terms = add(terms, term)
        inverse = div(one, terms)
        for j in range(width):
            work[there + j] = softmax_slope(work[there + j], inverse, one if j == label else zero, factor)
        if label >= 0 and label < width:
            work[losses + i] = softmax_loss(z[here + label], largest, terms)
            work[bad + i] = zero
        else:
            work[losses + i] = zero
            work[bad + i] = one


def element_rows(z, z_start, work, delta, losses, bad, y, rows, width, factor):
    """One thread a sample: the sum of its elements' losses, `factor` times their slopes, whether a target is unfit."""
    i = cuda.grid(1)
    if i < rows:
        one, zero = SCALAR(1), SCALAR(0)
        total, unfit = zero, zero
        if TARGETS == ONE_HOT:
            label = np.int64(y[i])
            if label < 0 or label >= width:
                unfit = one
        for j in range(width):
            at = i * width + j
            if TARGETS == ONE_HOT:
                target = one if j == np.int64(y[i]) else zero
            else:
                target = SCALAR(y[at])
            if TARGETS == BINARY and target != zero and target != one:
                unfit = one
            total = add(total, loss_value(z[z_start + at], target))
            work[delta + at] = mul(loss_slope(z[z_start + at], target), factor)
        work[losses + i] = total
        work[bad + i] = unfit


def column_sums(x, start, rows, columns, out, out_start):
    """The sums of 16 columns by a block of 16 × 16: each row of threads takes every 16th row, then a tree."""
    partial = cuda.shared.array((TILE, PITCH), SCALAR)
    column = cuda.blockIdx.x * TILE + cuda.threadIdx.x
    lane = cuda.threadIdx.y
    total = SCALAR(0)
    if column < columns:
        i = lane
        while i < rows:
            total = add(total, x[start + i * columns + column])
            i += TILE
    partial[lane, cuda.threadIdx.x] = total
    cuda.syncthreads()
    span = TILE // 2
    while span > 0:
        if lane < span:
            partial[lane, cuda.threadIdx.x] = add(
                partial[lane, cuda.threadIdx.x], partial[lane + span, cuda.threadIdx.x]
            )
        cuda.syncthreads()
        span >>= 1
    if lane == 0 and column < columns:
        out[out_start + column] = partial[0, cuda.threadIdx.x]


def reduce(x, start, count, out, slot):
    """`out[slot]` = the sum of `count` elements, or of their squares, by one block: strided sums, then a tree."""
    partial = cuda.shared.array(THREADS, SCALAR)
    thread = cuda.threadIdx.x
    total = SCALAR(0)
    i = thread
    while i < count:
        v = x[start + i]
        if SQUARES:
            total = fma(v, v, total)
        else:
            total = add(total, v)
        i += THREADS
    partial[thread] = total
    cuda.syncthreads()
    span = THREADS // 2
    while span > 0:
        if thread < span:
            partial[thread] = add(partial[thread], partial[thread + span])
        cuda.syncthreads()
        span >>= 1
    if thread == 0:
        out[slot] = partial[0]


def probabilities(z, rows, width):
    """Softmax of each row, or the sigmoid of each element, in place; one thread a row."""
    i = cuda.grid(1)
    if i < rows:
        here = i * width
        if LABELS:
            largest = z[here]
            for j in range(1, width):
                largest = z[here + j] if z[here + j] > largest else largest
            terms = SCALAR(0)
            for j in range(width):
                z[here + j] = softmax_term(z[here + j], largest)
                terms = add(terms, z[here + j])
            inverse = div(SCALAR(1), terms)
            for j in range(width):
                z[here + j] = mul(z[here + j], inverse)
        else:
            for j in range(width):
                z[here + j] = sigmoid(z[here + j])


def classes(z, out, rows, width):
    """The first largest logit of each row, or where each is positive; one thread a row."""
    i = cuda.grid(1)
    if i < rows:
        here = i * width
        if LABELS:
            best = 0
            for j in range(1, width):
                if z[here + j] > z[here + best]:
                    best = j
            out[i] = best
        else:
            for j in range(width):
                out[here + j] = 1 if z[here + j] > SCALAR(0) else 0
