"""Matrix products of one thread block in its shared memory, for the persistent training kernel.

A thread makes ROWS x 4 results: ROWS is 4 (of float64, 2), or 1 where squares of 4 x 4 would occupy less than an eighth
of the threads.  The lanes of a warp make a rectangle of such squares.  Four terms come with an access of 16 bytes for
each row of A and each column of B (where four neighbours of a row are wanted: for each term), so 64 fma need 8 of them.
All sum as the CPU does: a chain of fma over BLOCK terms, then the next block added; so the bits are those of
`gemm.product`.

Almost half of what a step issues is arithmetic not on elements but on places.  So these are kept to 32 bits (`narrow`,
`less`, `least`), and the loop over terms moves the places of elements instead of computing them.  (To move addresses
saves 4 % more of a step, but over pointers made of integers nvJitLink 13.0 did not end within five minutes.)

The pitch of every row is 4 modulo 8 elements: accesses of 16 bytes are aligned, and of the lanes that are served
together, which read eight rows below each other or one row, no two meet in a bank.  What a pitch adds to a row is read
and computed with like the rest of the row, and never used.
"""

from __future__ import annotations

import numpy as np

from ...gpu.pointers import fetch, least, less, load, narrow, small_quotient
from ...kernels.jit import inlined
from ...kernels.rounding import add, fma
from ...kernels.template import template
from ..sums import BLOCK
from .outer import add_outer, forget

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
        if not less((narrow(rows + 3) >> 2) * (narrow(columns + 3) >> 2), threads >> 3):
            large(space, a, a_pitch, b, b_pitch, rows, columns, inner, thread, threads, to)
        else:
            small(space, a, a_pitch, b, b_pitch, rows, columns, inner, thread, threads, to)

    return product


@template
def tiles(SCALAR, ROWS, TRANS_A, TRANS_B, epilogue):
    from ...gpu.target import cuda

    RESULTS, FACTORS, OTHERS, LINES = ROWS * COLUMNS, ROWS * STEP, COLUMNS * STEP, 1 if TRANS_A else ROWS
    PARTS = COLUMNS if TRANS_B else 1
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
        above, beside = cuda.local.array(LINES, np.int64), cuda.local.array(PARTS, np.int64)
        rows, columns, inner, thread = narrow(rows), narrow(columns), narrow(inner), narrow(thread)
        groups = narrow(columns + 3) >> 2
        last_row, last_column, last_group = narrow(rows - 1), narrow(columns - 1), narrow(groups - 1)
        # Of a warp, in threads.
        shift = 3 if less(4, groups) else 2 if less(2, groups) else last_group
        wide = 8 if less(4, groups) else 4 if less(2, groups) else groups
        tall = 4 if less(4, groups) else 8 if less(2, groups) else 16 if less(1, groups) else 32
        across = narrow(groups + wide - 1) >> shift
        count = narrow((narrow(rows + tall * ROWS - 1) >> narrow(5 - shift + ROWS_SHIFT)) * across)
        a_term, b_term = a_pitch if TRANS_A else 1, 1 if TRANS_B else b_pitch
        tile, lane = thread >> 5, thread & 31
        down, right_by = lane >> shift, lane & narrow(wide - 1)
        while less(tile, count):
            line = small_quotient(tile, across)
            corner = narrow(narrow(tile - line * across) * wide)
            group = narrow(corner + right_by)
            # Rows of a thread lie `tall` apart, so that lanes read rows that follow one another; or side by side, where
            # they are neighbours in memory.  The same with columns.
            row, apart = narrow(line * tall * ROWS + down), tall
            if TRANS_A:
                row, apart = narrow((line * tall + down) * ROWS), 1
            column = narrow(corner * COLUMNS + right_by)
            # What is beyond the edges repeats the last: cheaper than a branch in the loop.
            if TRANS_A:
                above[0] = a + least(row, last_row & -ROWS)
            else:
                for r in range(ROWS):
                    above[r] = a + least(row + r * tall, last_row) * a_pitch
            if TRANS_B:
                for c in range(COLUMNS):
                    beside[c] = b + least(column + c * wide, last_column) * b_pitch
            else:
                beside[0] = b + least(group, last_group) * COLUMNS
            k = block = 0
            forget(totals, RESULTS)
            while True:
                end = least(inner, block + BLOCK)
                for e in range(RESULTS):
                    sums[e] = SCALAR(0)
                while less(k, end & -STEP):
                    for r in range(STEP if TRANS_A else ROWS):
                        if not TRANS_A:
                            fetch(space, above[r], left, r * STEP, STEP)
                        elif ROWS == 1:
                            left[r] = load(space, above[0] + r * a_pitch)
                        else:
                            fetch(space, above[0] + r * a_pitch, left, r * ROWS, ROWS)
                    for c in range(COLUMNS):
                        if TRANS_B:
                            fetch(space, beside[c], right, c * STEP, STEP)
                        else:
                            fetch(space, beside[0] + c * b_pitch, right, c * COLUMNS, COLUMNS)
                    add_outer(sums, left, right, ROWS, COLUMNS, STEP, STRIDES)
                    for r in range(LINES):
                        above[r] += STEP * a_term
                    for c in range(PARTS):
                        beside[c] += STEP * b_term
                    k = narrow(k + STEP)
                while less(k, end):
                    for c in range(COLUMNS):
                        right[c] = load(space, beside[c if TRANS_B else 0] + (0 if TRANS_B else c))
                    for r in range(ROWS):
                        x = load(space, above[0 if TRANS_A else r] + (r if TRANS_A else 0))
                        for c in range(COLUMNS):
                            sums[r * COLUMNS + c] = fma(x, right[c], sums[r * COLUMNS + c])
                    for r in range(LINES):
                        above[r] += a_term
                    for c in range(PARTS):
                        beside[c] += b_term
                    k = narrow(k + 1)
                if block != 0:
                    for e in range(RESULTS):
                        sums[e] = add(totals[e], sums[e])
                block = end
                if not less(block, inner):
                    break
                for e in range(RESULTS):
                    totals[e] = sums[e]
            for r in range(ROWS):
                i = narrow(row + r * apart)
                if TRANS_B:
                    for c in range(COLUMNS):
                        j = narrow(column + c * wide)
                        if less(i, rows) and less(j, columns):
                            epilogue(i, j, sums[r * COLUMNS + c], to)
                elif less(i, rows) and less(group, groups):
                    epilogue(i, group * COLUMNS, sums, r * COLUMNS, to)
            tile = narrow(tile + (threads >> 5))

    return tiles


@template
def column_sum(SCALAR):
    def column_sum(space, start, pitch, rows):
        """The sum of one column: of the deltas of an output, which is the gradient of its bias."""
        total, block = SCALAR(0), 0
        rows = narrow(rows)
        while less(block, rows):
            part, i, end = SCALAR(0), block, least(rows, block + BLOCK)
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
