"""The matrix products of the networks beside OpenBLAS (NumPy's), and what the processor could do at most.

    python -m benchmarks.gemm                       float32, this processor
    python -m benchmarks.gemm float64 256 512       products of squares
    python -m benchmarks.gemm 32x128x64 32x10x128   rows x columns x terms: the layers of 64-128-10, 32 rows at a time

    NUMBA_CPU_NAME=haswell NUMBA_CPU_FEATURES=+avx,+avx2,+fma OPENBLAS_CORETYPE=Haswell python -m benchmarks.gemm

is what a processor without AVX-512 does.  GFLOP/s for each: chains of fma in registers alone (the peak), OpenBLAS, and
ours (with the epilogue of a layer, which adds a bias), of `A B`, `A^T B` and `A B^T`; one thread beside one, all beside
all.  Contenders take turns; medians.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", str(os.cpu_count()))

import numpy as np
from llvmlite import ir
from numba import get_num_threads, types
from numba.extending import intrinsic
from numba.np.numpy_support import from_dtype

from nagd_numba.bench import timing
from nagd_numba.kernels.aligned import aligned
from nagd_numba.kernels.jit import kernel
from nagd_numba.kernels.linking import linked
from nagd_numba.kernels.parallel import BODY, parallel_for
from nagd_numba.kernels.pointers import pointer, restorer, shifted, spill
from nagd_numba.kernels.template import template
from nagd_numba.mlp.cpu import epilogues, gemm
from nagd_numba.mlp.cpu.microkernel import ROWS, tile
from nagd_numba.mlp.cpu.vectors import BYTES, LONG, Vectors

CUBES = (64, 128, 256, 512, 1024)
SHAPES = ((32, 128, 784), (128, 512, 784), (256, 1024, 784), (256, 1024, 1024), (256, 10, 1024), (784, 128, 32))
ROUNDS, SECONDS = (2, 0.001) if timing.QUICK else (5, 0.02)
CHAINS = 12  # of fma, that do not wait for one another
BUFFER = 1 << 13  # elements of a thread's buffer, or some more
_n = types.int64


def peak_kernel(dtype: str) -> Any:
    """`(n, x)`: n times CHAINS vectors of fma, all in registers."""

    def typing(typingctx, n, x):
        def build(context, builder, signature, operands):
            count, number = operands
            vectors = Vectors(builder, number.type)
            factor, before = vectors.splat(number), builder.block
            body, after = (builder.append_basic_block(name) for name in ("body", "after"))
            builder.branch(body)
            builder.position_at_end(body)
            k, sums = builder.phi(LONG), [builder.phi(vectors.kind) for _ in range(CHAINS)]
            results = [vectors.fma(factor, factor, total) for total in sums]
            following = builder.add(k, ir.Constant(LONG, 1))
            builder.cbranch(builder.icmp_signed("<", following, count), body, after)
            k.add_incoming(ir.Constant(LONG, 0), before)
            k.add_incoming(following, body)
            for total, result in zip(sums, results, strict=True):
                total.add_incoming(vectors.zero, before)
                total.add_incoming(result, body)
            builder.position_at_end(after)
            total = results[0]
            for result in results[1:]:
                total = builder.fadd(total, result)
            return builder.extract_element(total, ir.Constant(ir.IntType(32), 0))

        return x(_n, x), build

    chains = intrinsic(typing)

    def peak(n, x):
        return chains(n, x)

    kind = from_dtype(np.dtype(dtype))
    return kernel(peak, kind(_n, kind))


@template
def product_share(product, restore, function):
    """The rows of one of `shares` threads."""

    def product_share(context, share):
        a, b, memory, part, needs, a_row, a_inner, b_inner, b_column, rows, columns, inner, shares = restore(context)
        own = shifted(memory, share * part)
        product(
            *(a, a_row, a_inner, b, b_inner, b_column, share * rows // shares, (share + 1) * rows // shares),
            *(columns, inner, own, shifted(own, BUFFER), function(), needs),
        )

    return product_share


@template
def products(share, locate, parallel_for):
    def products(count, shares, a, b, bias, out, memory, strides, sizes):
        needs = spill((pointer(bias), 0, pointer(out), 0, sizes[1], True, np.uint64(0), np.uint64(0), 1.0))
        first = pointer(a), pointer(b), pointer(memory), memory.size // shares, needs
        context = spill((*first, *strides, *sizes, shares))
        for _ in range(count):
            if shares > 1:
                parallel_for(locate(), context, shares)
            else:
                share(context, 0)

    return products


def products_kernel(dtype: str) -> Any:
    """`(count, threads, a, b, bias, out, memory, strides, sizes)`: the same product so many times."""
    kind = from_dtype(np.dtype(dtype))
    x, vector = types.CPointer(kind), types.Array(kind, 1, "C")
    body = linked(
        product_share.bind(
            product=gemm.product_of(dtype).call,
            restore=restorer(types.Tuple((x, x, x, *[_n] * 10))),
            function=epilogues.forward(dtype, "relu").locate,
        ),
        BODY,
    )
    bound = products.bind(share=body.call, locate=body.locate, parallel_for=parallel_for().call)
    given = (_n, _n, *[vector] * 5, types.UniTuple(_n, 4), types.UniTuple(_n, 3))
    return kernel(bound, types.void(*given))


def contenders(dtype: str, kind: str, sizes: tuple[int, int, int], threads: int) -> dict[str, Callable[[int], object]]:
    """`call(count)`: BLAS and ours, on the same matrices."""
    rows, columns, inner = sizes
    random = np.random.default_rng(0)
    a, b = (
        aligned(shape, dtype)
        for shape in (
            (inner, rows) if kind == "A^T B" else (rows, inner),
            (columns, inner) if kind == "A B^T" else (inner, columns),
        )
    )
    for x in (a, b):
        x[...] = random.normal(size=x.shape)
    out, blas_out, bias = aligned((rows, columns), dtype), aligned((rows, columns), dtype), np.zeros(columns, dtype)
    size = gemm.panels_size_of(dtype)(rows, max(columns, inner)) + BUFFER
    memory = aligned((threads * size,), dtype)
    strides = (1, rows) if kind == "A^T B" else (inner, 1)
    strides += (1, inner) if kind == "A B^T" else (columns, 1)
    made = products_kernel(dtype)
    left, right = a.T if kind == "A^T B" else a, b.T if kind == "A B^T" else b

    def ours(count: int) -> None:
        made(count, threads, a.reshape(-1), b.reshape(-1), bias, out.reshape(-1), memory, strides, sizes)

    def blas(count: int) -> None:
        for _ in range(count):
            np.dot(left, right, out=blas_out)

    ours(1)
    blas(1)
    error = abs(out.astype(np.float64) - blas_out).max() / abs(blas_out).max()
    if error > 1e-4:
        raise AssertionError(f"the products differ by {error}")
    return {"BLAS": blas, "ours": ours}


def rates(calls: dict[str, Callable[[int], object]], flop: float, expected: float) -> dict[str, list[float]]:
    """GFLOP/s of each, by rounds; `expected` ones tell how many calls are timed.

    Threads that just woke may have one core for some milliseconds, so as many calls go before.
    """
    count = max(1, round(SECONDS * 1e9 * expected / flop))
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            timing.settled()
            call(count)
            start = time.perf_counter()
            call(count)
            found[name].append(flop * count / (time.perf_counter() - start) / 1e9)
    return found


def sizes_of(word: str) -> tuple[int, int, int]:
    """Rows, columns and terms: of `32x128x64`, or three times the number."""
    sizes = [int(number) for number in word.split("x")]
    rows, columns, terms = sizes * 3 if len(sizes) == 1 else sizes
    return rows, columns, terms


def main() -> None:
    from threadpoolctl import threadpool_limits  # asv, whose environments lack it, imports this file

    words = sys.argv[1:]
    dtype = "float64" if "float64" in words else "float32"
    shapes = [sizes_of(word) for word in words if word[0].isdigit()] or [*((n, n, n) for n in CUBES), *SHAPES]
    made, peak = tile(dtype), peak_kernel(dtype)
    chain = CHAINS * made.lanes * 1000
    top = max(rates({"peak": lambda n: peak(1000 * n, np.dtype(dtype).type(0.5))}, 2.0 * chain, 100.0)["peak"])
    print(f"{dtype}, vectors of {BYTES} bytes, tiles of {ROWS} x {made.columns}; one thread's peak {top:.0f} GFLOP/s")
    print(f"{'rows x columns x terms':24}{'product':10}threads   OpenBLAS      ours   of it  of peak")
    for threads in sorted({1, get_num_threads()}):
        with threadpool_limits(threads):
            for sizes in shapes:
                for kind in ("A B", "A^T B", "A B^T"):
                    found = rates(contenders(dtype, kind, sizes, threads), 2.0 * np.prod(sizes), top * threads)
                    ratio = statistics.median(o / b for o, b in zip(found["ours"], found["BLAS"], strict=True))
                    blas, ours = (statistics.median(found[name]) for name in ("BLAS", "ours"))
                    print(
                        f"{' x '.join(map(str, sizes)):24}{kind:10}{threads:<8}{blas:10.1f}{ours:10.1f}{ratio:8.2f}"
                        f"{ours / top / threads:9.2f}",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
