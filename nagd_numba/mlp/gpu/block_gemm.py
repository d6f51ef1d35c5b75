"""Matrix products of one thread block in its shared memory, for the persistent training kernel.

A thread makes either ROWS x COLUMNS results, whose columns lie 32 apart so that the lanes of a warp read neighbours, or
one result (where the columns would not fill a warp).  Both sum as the CPU does: a chain of fma over BLOCK terms, then
the next block added; so the bits are those of `gemm.product`.

Rows of activations and deltas have a pitch that is a multiple of 4: four of their elements come with one access.  Rows
of weights have an odd pitch: then neither a row nor a column of them has bank conflicts.
"""

from __future__ import annotations

from ...gpu.pointers import fetch, load, quotient
from ...kernels.jit import inlined
from ...kernels.rounding import add, fma
from ...kernels.template import template
from ..sums import BLOCK

ROWS, COLUMNS, WARP = 4, 2, 32
STEP = 4  # terms whose left factors are loaded at once
RESULTS = ROWS * COLUMNS
FACTORS = ROWS * STEP


@inlined
def pitch_of(width):
    """The pitch of a row of activations."""
    return (width + STEP - 1) & -STEP


@inlined
def weights_pitch(outputs):
    """The pitch of a row of weights."""
    return outputs | 1


@template
def product(SCALAR, TRANS_A, element_sum, epilogue):
    from ...gpu.target import cuda

    def product(space, a, a_pitch, b, b_inner, b_column, rows, columns, inner, thread, threads, to):
        """`epilogue(i, j, sum, to)` of every element of A B, of shape (rows, columns), with offsets in `space`.

        `A[i, k]` is `space[a + i a_pitch + k]`, or `space[a + k a_pitch + i]` with TRANS_A; `B[k, j]` is
        `space[b + k b_inner + j b_column]`.
        """
        if columns <= WARP // 2:
            e = thread
            while e < rows * columns:
                i = quotient(e, columns)
                j = e - i * columns
                epilogue(i, j, element_sum(space, a, a_pitch, b + j * b_column, b_inner, i, inner), to)
                e += threads
            return
        sums = cuda.local.array(RESULTS, SCALAR)
        totals = cuda.local.array(RESULTS, SCALAR)
        left = cuda.local.array(FACTORS, SCALAR)
        wide = WARP * COLUMNS
        across = quotient(columns + wide - 1, wide)
        tiles = quotient(rows + ROWS - 1, ROWS) * across
        warp, warps = quotient(thread, WARP), quotient(threads, WARP)
        lane = thread - warp * WARP
        tile = warp
        while tile < tiles:
            line = quotient(tile, across)
            first, column = line * ROWS, (tile - line * across) * wide + lane
            # Rows and columns beyond the edges repeat the last: cheaper than a branch in the loop.
            for block in range(0, inner, BLOCK):
                end = min(inner, block + BLOCK)
                for e in range(RESULTS):
                    sums[e] = SCALAR(0)
                k = block
                while k + STEP <= end:
                    for r in range(ROWS):
                        if TRANS_A:
                            fetch(space, a + (k + r) * a_pitch + first, left, r * STEP, STEP)
                        else:
                            i = min(first + r, rows - 1)
                            fetch(space, a + i * a_pitch + k, left, r * STEP, STEP)
                    for q in range(STEP):
                        for c in range(COLUMNS):
                            j = min(column + c * WARP, columns - 1)
                            right = load(space, b + (k + q) * b_inner + j * b_column)
                            for r in range(ROWS):
                                factor = left[q * STEP + r] if TRANS_A else left[r * STEP + q]
                                sums[r * COLUMNS + c] = fma(factor, right, sums[r * COLUMNS + c])
                    k += STEP
                while k < end:
                    for c in range(COLUMNS):
                        j = min(column + c * WARP, columns - 1)
                        right = load(space, b + k * b_inner + j * b_column)
                        for r in range(ROWS):
                            i = min(first + r, rows - 1)
                            factor = load(space, a + k * a_pitch + i) if TRANS_A else load(space, a + i * a_pitch + k)
                            sums[r * COLUMNS + c] = fma(factor, right, sums[r * COLUMNS + c])
                    k += 1
                for e in range(RESULTS):
                    totals[e] = sums[e] if block == 0 else add(totals[e], sums[e])
            for c in range(COLUMNS):
                j = column + c * WARP
                for r in range(ROWS):
                    if first + r < rows and j < columns:
                        epilogue(first + r, j, totals[r * COLUMNS + c], to)
            tile += warps

    return product


@template
def element_sum(SCALAR, TRANS_A):
    def element_sum(space, a, a_pitch, b, b_inner, i, inner):
        """The sum of one element, in row `i`, from its column of B at `b`."""
        total = SCALAR(0)
        for block in range(0, inner, BLOCK):
            part = SCALAR(0)
            for k in range(block, min(inner, block + BLOCK)):
                factor = load(space, a + k * a_pitch + i) if TRANS_A else load(space, a + i * a_pitch + k)
                part = fma(factor, load(space, b + k * b_inner), part)
            total = part if block == 0 else add(total, part)
        return total

    return element_sum


@template
def column_sum(SCALAR):
    def column_sum(space, start, pitch, rows):
        """The sum of one column: of the deltas of an output, which is the gradient of its bias."""
        total = SCALAR(0)
        for block in range(0, rows, BLOCK):
            part = SCALAR(0)
            for i in range(block, min(rows, block + BLOCK)):
                part = fma(SCALAR(1), load(space, start + i * pitch), part)
            total = part if block == 0 else add(total, part)
        return total

    return column_sum
