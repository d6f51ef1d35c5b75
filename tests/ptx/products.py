"""What the matrix products cost, from their machine code, with no GPU.

    python -m tests.ptx.products

runs one block of each product's machine code (`sass/`) and prints what a warp does for each fma, of more terms: its
instructions, also where rows of memory do not begin at multiples of 16 bytes, and how often shared memory is read, and
asked for a wavefront; the registers of a thread and the bytes of shared memory of a block, and how many blocks a
multiprocessor of Hopper holds.

A multiprocessor issues four instructions a cycle, of which each may be 32 fma of float32, and shared memory gives one
wavefront: the speed is at most 1 / instructions of that of the fma alone, and more than 0.25 wavefronts hold it up.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from nagd_numba.gpu.compiler import Kernel
from nagd_numba.mlp.gpu import gemm
from nagd_numba.mlp.gpu.gemm import DELTA, GRADIENT, HIDDEN, OUTPUT, UPDATE, Kind
from nagd_numba.mlp.sums import BLOCK
from nagd_numba.optimizers.registry import RULES
from tests.ptx import machine_code
from tests.ptx.sass.floats import fused
from tests.ptx.sass.listing import Listing
from tests.ptx.sass.machine import Block, Counts, constant_bank
from tests.ptx.sass.memory import Device

HOPPER = (9, 0)
REGISTERS, SHARED, THREADS, BLOCKS = 65536, 227 << 10, 2048, 32  # of a multiprocessor
RULE = RULES["nesterov"]


class Case(NamedTuple):
    """A product, and the dtype of the data if `order` picks its samples."""

    purpose: str
    dtype: str
    tile: int
    source: str | None = None

    @property
    def name(self) -> str:
        of = f" of {self.source} samples" if self.source else ""
        return f"{self.purpose} {self.dtype} {self.tile} x {self.tile}{of}"

    def kernel(self) -> Kernel:
        kind = Kind(self.dtype, "relu" if self.purpose in (HIDDEN, DELTA) else "identity", source=self.source)
        if self.purpose == UPDATE:
            kind = kind._replace(rule=RULE, options=RULE.defaults())
        return gemm.kernel(self.purpose, kind, self.tile)


class Cost(NamedTuple):
    """What a block needs, and what a warp does for each fma."""

    registers: int
    shared: int
    spills: int
    threads: int
    instructions: float
    wavefronts: float
    reads: float  # instructions that read shared memory

    @property
    def blocks(self) -> int:
        """As many as a multiprocessor holds at once."""
        registers = -(-self.registers // 8) * 8 * self.threads
        return min(BLOCKS, THREADS // self.threads, REGISTERS // registers, SHARED // (self.shared + 1024))


def cases() -> Iterator[Case]:
    for dtype, tiles in (("float32", (64, 32)), ("float64", (64, 32))):
        for tile in tiles:
            yield from (Case(purpose, dtype, tile) for purpose in (HIDDEN, OUTPUT, DELTA, GRADIENT, UPDATE))
            yield from (Case(purpose, dtype, tile, dtype) for purpose in (HIDDEN, UPDATE))


def run(case: Case, inner: int, aligned: bool = True, seed: int = 0) -> tuple[Counts, np.ndarray, np.ndarray]:
    """One tile of so many terms: counts, what the machine code made of it, and what it should be.

    Of an update these are the parameters; biases, penalty and states are 0.  Where rows of memory do not begin at
    multiples of 16 bytes, the results have one row and one column less than the tile.
    """
    kernel, device = case.kernel(), Device()
    random, dtype = np.random.default_rng(seed), np.dtype(case.dtype)
    across = case.purpose in (GRADIENT, UPDATE)
    rows = columns = case.tile if aligned else case.tile - 1
    lines = rows + across  # the last of A^T are ones: in another tile, or in this
    left, right = (random.uniform(-1, 1, shape).astype(dtype) for shape in ((rows, inner), (inner, columns)))
    a = left.T.copy() if across else left
    order = random.permutation(len(a)) if case.source else np.arange(1)
    stored = a.copy()
    if case.source:
        stored[order] = a
    b = right.T.copy() if case.purpose == DELTA else right
    shape = lines, columns
    given = [stored, order, b, np.full(shape, case.purpose == DELTA, dtype), np.zeros(shape, dtype)]
    at = [device.array(x) for x in (*given, np.zeros(shape, dtype))]
    a_at, order_at, b_at, first, out, vel = (np.uint64(x.address) for x in at)
    one, none, long = dtype.type(1), np.uint64(0), np.int64
    constants = [*map(dtype.type, RULE.scalars((1.0, 0.0, 0.0, 0.0), dtype, RULE.defaults()))]
    to: dict[str, list[Any]] = {
        HIDDEN: [first, out, none, none, one],
        OUTPUT: [first, out],
        DELTA: [first, out, none, none, one, one],
        GRADIENT: [first, out, one, long(0)],
        UPDATE: [out, vel, long(lines * columns), one, *constants],
    }
    parameters = [a_at, order_at, one, b_at, long(lines), long(columns), long(inner), *to[case.purpose]]
    listing = Listing.of(machine_code.disassembled(kernel.image(HOPPER)))
    assert kernel.threads is not None
    counts = Block(listing, device, constant_bank(1, kernel.threads, parameters), kernel.threads).run()
    wanted = np.zeros(shape, dtype)
    wanted[: case.tile] = products(np.concatenate([left, np.ones((int(across), inner), dtype)]), right)[: case.tile]
    if case.purpose == HIDDEN:
        wanted = np.maximum(wanted, 0)
    return counts, at[4].data.reshape(shape), -wanted if case.purpose == UPDATE else wanted


def products(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The product as every device adds it up."""
    total = None
    for first in range(0, a.shape[1], BLOCK):
        part = np.zeros((len(a), b.shape[1]), a.dtype)
        for k in range(first, min(first + BLOCK, a.shape[1])):
            part = fused(a[:, k, None], b[None, k], part)
        total = part if total is None else total + part
    assert total is not None
    return total


def cost(case: Case, aligned: bool = True) -> Cost:
    """Of BLOCK terms more."""
    code = machine_code.read(case.kernel().image(HOPPER))
    less, more = (run(case, blocks * BLOCK + (not aligned), aligned)[0] for blocks in (1, 2))
    issued = more.issued - less.issued
    fmas = sum(count for name, count in issued.items() if name.split(".")[0] in ("FFMA", "DFMA"))
    reads = sum(count for name, count in issued.items() if name.startswith("LDS"))
    threads = case.kernel().threads
    assert threads is not None
    return Cost(
        *(code.registers, code.shared, code.spills, threads),
        *((more.instructions - less.instructions) / fmas, (more.wavefronts - less.wavefronts) / fmas, reads / fmas),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", default="", help="products whose names have this in them")
    only = parser.parse_args().only
    print(f"{'':42} {'for each fma':^43}")
    print(f"{'product':42} instructions unaligned wavefronts     reads registers  shared blocks")
    for case in cases():
        if only in case.name:
            found, apart = cost(case), cost(case, aligned=False)
            print(
                f"{case.name:42} {found.instructions:12.3f} {apart.instructions:9.3f} {found.wavefronts:10.3f} "
                f"{found.reads:9.3f} {found.registers:9} {found.shared:7} {found.blocks:6}",
                flush=True,
            )


if __name__ == "__main__":
    main()
