"""The processor's limits: multiply-adds in registers, and a matrix product of NumPy's BLAS."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic

from nagd_numba.kernels.jit import user_function

CHAINS = 12  # of multiply-adds, which do not wait for one another, and fit into 16 registers
ROUNDS = 5_000_000  # of a call, for each thread: some 10 ms


def lanes() -> int:
    """How many float32 a vector of this processor holds, for Numba."""
    settings: Any = config  # numba's types do not list its settings
    features = str(settings.CPU_FEATURES or binding.get_host_cpu_features().flatten())
    return 16 if "+avx512f" in features else 8 if "+avx" in features else 4


@intrinsic
def multiply_adds(typingctx, rounds, x):
    """`s = x x + s`, CHAINS vectors in every round, in registers alone; returns one of the sums."""

    def build(context, builder, signature, operands):
        count, number = operands
        vector, index = ir.VectorType(number.type, lanes()), ir.IntType(32)
        kind = ir.FunctionType(vector, (vector,) * 3)
        fma = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{vector.count}f32")
        factor = ir.Constant(vector, ir.Undefined)
        for lane in range(vector.count):
            factor = builder.insert_element(factor, number, index(lane))
        starts = [ir.Constant(vector, [float(chain)] * vector.count) for chain in range(CHAINS)]  # none like another
        before, body, after = builder.block, builder.append_basic_block("body"), builder.append_basic_block("after")
        builder.branch(body)
        builder.position_at_end(body)
        k, sums = builder.phi(count.type), [builder.phi(vector) for _ in range(CHAINS)]
        results = [builder.call(fma, (factor, factor, total)) for total in sums]
        following = builder.add(k, count.type(1))
        builder.cbranch(builder.icmp_signed("<", following, count), body, after)
        for value, start, result in zip([k, *sums], [count.type(0), *starts], [following, *results], strict=True):
            value.add_incoming(start, before)
            value.add_incoming(result, body)
        builder.position_at_end(after)
        total = results[0]
        for result in results[1:]:
            total = builder.fadd(total, result)
        return builder.extract_element(total, index(0))

    return types.float32(types.int64, types.float32), build


@user_function
def chains(rounds, x):
    return multiply_adds(rounds, x)


class Registers:
    """Multiply-adds in registers, by so many threads at once: no program makes more in the time."""

    def __init__(self, threads: int) -> None:
        self.flop = 2 * CHAINS * lanes() * ROUNDS * threads
        self.pool = ThreadPoolExecutor(threads)
        self.counts = [ROUNDS] * threads

    def __call__(self) -> object:
        return list(self.pool.map(chains, self.counts, [np.float32(2.0**-20)] * len(self.counts)))


class Product:
    """A product of two square float32 matrices by NumPy's BLAS."""

    SIDE = 1024
    flop = 2 * SIDE**3

    def __init__(self) -> None:
        self.a, self.b, self.out = (np.full((self.SIDE, self.SIDE), 2.0**-10, np.float32) for _ in range(3))

    def __call__(self) -> object:
        return np.matmul(self.a, self.b, out=self.out)
