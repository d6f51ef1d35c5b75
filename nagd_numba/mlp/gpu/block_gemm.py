"""Matrix products of one thread block in its shared memory, for the persistent training kernel.

A thread makes ROWS x 4 results: ROWS is 4 (of float64, 2), or 1 where the products are too small to give every thread
as many.  The lanes of a warp make a rectangle of such squares.  Four terms come with an access of 16 bytes for each
row of A and each column of B (where four neighbours of a row are wanted: for each term), so 64 fma need 8 of them.
All sum as the CPU does: a chain of fma over BLOCK terms, then the next block added; so the bits are those of
`gemm.product`.

The pitch of every row is 4 modulo 8 elements: accesses of 16 bytes are aligned, and of the lanes that are served
together, which read eight rows below each other or one row, no two meet in a bank.  What a pitch adds to a row is read
and computed with like the rest of the row, and never used.
"""

from __future__ import annotations

import numpy as np

from ...gpu.pointers import fetch, less, load, narrow, quotient
from ...kernels.jit import inlined
from ...kernels.rounding import add, fma
from ...kernels.template import template
from ..sums import BLOCK
from .outer import add_outer

COLUMNS = 4
STEP = 4  # terms loaded at once


@inlined
def rounded(length):
    """A length as a multiple of 4 elements."""
    return (length + 3) & -4


@inlined
def pitch_of(width):
    """The pitch of rows of so many elements."""
    return (width + 3) & -4 | 4


@template
def product(large, small):
    def product(space, a, a_pitch, b, b_pitch, rows, columns, inner, thread, threads, to):
        """The epilogue of every element of A B, of shape (rows, columns), with offsets in `space`."""
        if not less(((rows + 3) >> 2) * ((columns + 3) >> 2), threads >> 2):
            large(space, a, a_pitch, b, b_pitch, rows, columns, inner, thread, threads, to)
        else:
            small(space, a, a_pitch, b, b_pitch, rows, columns, inner, thread, threads, to)

    return product


@template
def tiles(SCALAR, ROWS, TRANS_A, TRANS_B, epilogue):
    from ...gpu.target import cuda

    RESULTS, FACTORS, OTHERS = ROWS * COLUMNS, ROWS * STEP, COLUMNS * STEP
    ROWS_SHIFT = ROWS.bit_length() - 1
    # Of rows and of terms in `left`, of columns and of terms in `right`.
    STRIDES = (*((1, ROWS) if TRANS_A else (STEP, 1)), *((STEP, 1) if TRANS_B else (1, COLUMNS)))

    def tiles(space, a, a_pitch, b, b_pitch, rows, columns, inner, thread, threads, to):
        """A product by squares of ROWS x COLUMNS.

        `A[i, k]` is `space[a + i a_pitch + k]`, or `space[a + k a_pitch + i]` with TRANS_A; `B[k, j]` is
        `space[b + k b_pitch + j]`, or `space[b + j b_pitch + k]` with TRANS_B.  The epilogue is called as
        `epilogue(i, j, sums, at, to)` for `sums[at], ...` of the elements `(i, j), ..., (i, j + 3)`; with TRANS_B, as
        `epilogue(i, j, sum, to)` for each.
        """
        sums, totals = cuda.local.array(RESULTS, SCALAR), cuda.local.array(RESULTS, SCALAR)
        left, right = cuda.local.array(FACTORS, SCALAR), cuda.local.array(OTHERS, SCALAR)
        above, beside = cuda.local.array(ROWS, np.int64), cuda.local.array(COLUMNS, np.int64)
        rows, columns, inner, thread = narrow(rows), narrow(columns), narrow(inner), narrow(thread)
        groups = (columns + 3) >> 2
        shift = 3 if groups > 4 else 2 if groups > 2 else groups - 1
        wide, tall = 1 << shift, 32 >> shift  # of a warp, in threads
        across = (groups + wide - 1) >> shift
        count = narrow(((rows + tall * ROWS - 1) >> (5 - shift + ROWS_SHIFT)) * across)
        tile, lane = thread >> 5, thread & 31
        while less(tile, count):
            line = quotient(tile, across)
            corner = (tile - line * across) << shift
            group = corner + (lane & (wide - 1))
            # Rows of a thread lie `tall` apart, so that lanes read rows that follow one another; or side by side, where
            # they are neighbours in memory.  The same with columns.
            row, apart = line * tall * ROWS + (lane >> shift), tall
            if TRANS_A:
                row, apart = line * tall * ROWS + ((lane >> shift) << ROWS_SHIFT), 1
            column = corner * COLUMNS + (lane & (wide - 1))
            # What is beyond the edges repeats the last: cheaper than a branch in the loop.
            if TRANS_A:
                above[0] = a + min(narrow(row), (rows - 1) & -ROWS)
            else:
                for r in range(ROWS):
                    above[r] = a + min(narrow(row + r * tall), rows - 1) * a_pitch
            if TRANS_B:
                for c in range(COLUMNS):
                    beside[c] = b + min(narrow(column + c * wide), columns - 1) * b_pitch
            else:
                beside[0] = b + min(narrow(group), groups - 1) * COLUMNS
            block = 0
            while less(block, inner):
                end = min(inner, narrow(block + BLOCK))
                for e in range(RESULTS):
                    sums[e] = SCALAR(0)
                k = block
                while less(k + (STEP - 1), end):
                    for r in range(STEP if TRANS_A else ROWS):
                        if not TRANS_A:
                            fetch(space, above[r] + k, left, r * STEP, STEP)
                        elif ROWS == 1:
                            left[r] = load(space, above[0] + (k + r) * a_pitch)
                        else:
                            fetch(space, above[0] + (k + r) * a_pitch, left, r * ROWS, ROWS)
                    for c in range(COLUMNS):
                        if TRANS_B:
                            fetch(space, beside[c] + k, right, c * STEP, STEP)
                        else:
                            fetch(space, beside[0] + (k + c) * b_pitch, right, c * COLUMNS, COLUMNS)
                    add_outer(sums, left, right, ROWS, COLUMNS, STEP, STRIDES)
                    k += STEP
                while less(k, end):
                    for c in range(COLUMNS):
                        right[c] = load(space, beside[c] + k if TRANS_B else beside[0] + k * b_pitch + c)
                    for r in range(ROWS):
                        x = load(space, above[0] + k * a_pitch + r if TRANS_A else above[r] + k)
                        for c in range(COLUMNS):
                            sums[r * COLUMNS + c] = fma(x, right[c], sums[r * COLUMNS + c])
                    k += 1
                if block == 0:
                    for e in range(RESULTS):
                        totals[e] = sums[e]
                else:
                    for e in range(RESULTS):
                        totals[e] = add(totals[e], sums[e])
                block += BLOCK
            for r in range(ROWS):
                i = row + r * apart
                if TRANS_B:
                    for c in range(COLUMNS):
                        j = column + c * wide
                        if less(i, rows) and less(j, columns):
                            epilogue(i, j, totals[r * COLUMNS + c], to)
                elif less(i, rows) and less(group, groups):
                    epilogue(i, group * COLUMNS, totals, r * COLUMNS, to)
            tile += threads >> 5

    return tiles


@template
def column_sum(SCALAR):
    def column_sum(space, start, pitch, rows):
        """The sum of one column: of the deltas of an output, which is the gradient of its bias."""
        total, block = SCALAR(0), 0
        rows = narrow(rows)
        while less(block, rows):
            part, i, end = SCALAR(0), block, min(rows, narrow(block + BLOCK))
            while less(i + (STEP - 1), end):
                at = start + i * pitch
                first, second = load(space, at), load(space, at + pitch)
                third, fourth = load(space, at + 2 * pitch), load(space, at + 3 * pitch)
                part = add(add(add(add(part, first), second), third), fourth)
                i += STEP
            while less(i, end):
                part = add(part, load(space, start + i * pitch))
                i += 1
            total = part if block == 0 else add(total, part)
            block += BLOCK
        return total

    return column_sum
