"""How near the kernels of the update rules come to the speed of light of an H100: from machine code, with no GPU.

    python -m tests.ptx.certificate

runs one block of each kernel's machine code on arrays (`sass/`) and prints, for each element, the bytes that it moved
and the least that the rule needs; the share of them that moved 16 bytes at a time; and the bytes that the threads of a
multiprocessor have on the way when they wait, which must be more than latency times bandwidth.  Once for arrays that
begin at multiples of 16 bytes, and once for arrays of which each begins at another offset.  (What must be on the way
is the part of the bandwidth that loads take: nobody waits for a store.)  The exit code is 1 where a kernel fails.

The numbers of the device: 3.35 TB/s and 132 multiprocessors of 2048 threads and 65536 registers (NVIDIA's data sheet of
the H100 SXM), and 700 ns from a load to its data while the memory is busy, which is on the safe side: microbenchmarks
of a memory with nothing else to do find 400 to 600.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from nagd_numba.gpu import elementwise
from nagd_numba.gpu.elementwise import COLUMNS, THREADS, wide_width
from nagd_numba.kernels.rule import Rule
from nagd_numba.kernels.segments import Step, Table
from nagd_numba.optimizers.registry import RULES
from tests.ptx import machine_code, shipped_kernels
from tests.ptx.sass.listing import Listing
from tests.ptx.sass.machine import Block, Counts, constant_bank
from tests.ptx.sass.memory import Device, Placed

HOPPER = (9, 0)
BANDWIDTH, MULTIPROCESSORS, LATENCY = 3.35e12, 132, 700e-9
NEEDED = BANDWIDTH / MULTIPROCESSORS * LATENCY  # bytes on the way for each multiprocessor, if all were loaded
REGISTERS, RESIDENT = 65536, 2048
ELEMENTS = 16 * THREADS  # of each array: whole groups for every thread, whatever the dtype
BITS = {"float32": np.float32, "float64": np.float64, "float16": np.uint16, "bfloat16": np.uint16}


class Case(NamedTuple):
    """A kernel of an update rule."""

    rule: Rule
    storage: str
    master: bool
    lists: bool

    @property
    def exact(self) -> Any:
        return np.float64 if self.storage == "float64" else np.float32

    @property
    def name(self) -> str:
        return f"{self.rule.name} {self.storage}{' master' if self.master else ''}{' lists' if self.lists else ''}"

    def kernel(self) -> Any:
        return elementwise.kernel(self.rule, self.rule.defaults(), self.storage, self.master, self.lists)

    def read(self) -> int:
        """Bytes of each element that the rule reads."""
        narrow, wide = np.dtype(BITS[self.storage]).itemsize, np.dtype(self.exact).itemsize
        return (wide if self.master else narrow) + narrow + wide * len(self.rule.states)

    def needed(self) -> float:
        """Bytes that must be on the way for each multiprocessor."""
        return NEEDED * self.read() / self.least()

    def least(self) -> int:
        """Bytes that the rule must move for each element: every array is read and, but for the gradients, written."""
        narrow, wide = np.dtype(BITS[self.storage]).itemsize, np.dtype(self.exact).itemsize
        params = 2 * wide + narrow if self.master else 2 * narrow  # with a master copy they are only written
        return params + narrow + 2 * wide * len(self.rule.states)


class Found(NamedTuple):
    """What a block did to each element of its arrays."""

    bytes: float
    wide: float  # the share of them that moved 16 bytes at a time
    on_the_way: float  # bytes, for each multiprocessor
    equal: bool  # are the bits those of the CPU?


def cases() -> Iterator[Case]:
    """Every kernel of every rule, with the default options."""
    for rule in RULES.values():
        for storage, masters in shipped_kernels.STORED.items():
            for master in masters:
                yield from (Case(rule, storage, master, lists) for lists in (False, True))


def narrow(x: np.ndarray, storage: str) -> np.ndarray:
    """Numbers as they are in memory."""
    if storage == "float16":
        return x.astype(np.float16).view(np.uint16)
    if storage == "bfloat16":
        bits = x.view(np.uint32).astype(np.uint64)
        return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)
    return x


def widen(x: np.ndarray, storage: str) -> np.ndarray:
    if storage == "float16":
        return x.view(np.float16).astype(np.float32)
    if storage == "bfloat16":
        return (x.astype(np.uint32) << 16).view(np.float32)
    return x


def look(
    case: Case, offsets: bool = False, elements: int = ELEMENTS, listing_of: Callable[[str], Listing] = Listing.of
) -> Found:
    """Run one block of a kernel; with `offsets` each array begins one more of its elements behind a multiple of 16."""
    image = case.kernel().image(HOPPER)
    listing = listing_of(machine_code.disassembled(image))
    random, device = np.random.default_rng(0), Device()
    states = len(case.rule.states)
    host = [random.uniform(0.5, 1, elements).astype(case.exact) for _ in range(2 + states)]
    params, grads = (narrow(x, case.storage) for x in host[:2])
    given = [params, grads, *host[2:], *([host[0]] if case.master else [])]
    placed = [device.array(x, k * x.itemsize if offsets else 0) for k, x in enumerate(given)]
    counts = _run(case, device, listing, placed)

    hyper = tuple(case.rule.hyper.values())
    before = host[0] if case.master else widen(params, case.storage)
    p, s = before.copy(), [x.copy() for x in host[2:]]
    step = Step(case.rule, case.rule.defaults(), np.dtype(case.exact), None)
    wide_grads = widen(grads, case.storage)
    assert step(Table.of([(p, wide_grads, *s)]), hyper) == 0
    wanted = [narrow(p, case.storage), grads, *s, *([p] if case.master else [])]
    equal = all(x.data.tobytes() == y.tobytes() for x, y in zip(placed, wanted, strict=True))

    arrays = [x for x in counts.accesses if _among(x.addresses, placed)]
    total = sum(x.width * x.addresses.size for x in arrays)
    wide = sum(x.width * x.addresses.size for x in arrays if x.width == 16)
    registers = machine_code.read(image).registers
    blocks = min(RESIDENT // THREADS, REGISTERS // (-(-registers // 8) * 8 * THREADS))
    waits = counts.waits[len(counts.waits) // 4 :]  # without the beginning
    return Found(total / elements, wide / total, blocks * THREADS * float(np.mean(waits)), equal)


def _run(case: Case, device: Device, listing: Listing, placed: list[Placed]) -> Counts:
    """One block of the kernel on all of the arrays."""
    rule, exact = case.rule, np.dtype(case.exact)
    constants = rule.scalars(tuple(rule.hyper.values()), exact, rule.defaults())
    addresses = [np.uint64(x.address) for x in placed] + ([] if case.master else [np.uint64(0)])
    size, width = placed[0].data.size, wide_width(case.storage)
    fit = all(int(x.address) % 16 == 0 for x in placed)
    head = 0 if fit else size
    if case.lists:
        assert size <= elementwise.CHUNK
        row = np.array([size, head, *addresses], np.int64)
        assert row.size == COLUMNS + 3 + len(rule.states)
        table = device.array(row)
        parameters = [np.uint64(table.address), np.int64(1), *(np.uint64(0) for _ in addresses[1:])]
    else:
        parameters = [*addresses, np.int64(size), np.int64(head)]
    assert size % width == 0
    bank = constant_bank(1, THREADS, [*parameters, *constants])
    return Block(listing, device, bank, THREADS).run()


def _among(addresses: np.ndarray, placed: list[Placed]) -> bool:
    first = int(addresses[0])
    return any(x.address <= first < x.address + x.data.nbytes for x in placed)


def failures(case: Case, aligned: Found, apart: Found) -> list[str]:
    """What a kernel does worse than it must."""
    found = []
    for which, x in (("aligned", aligned), ("offsets", apart)):
        if not x.equal:
            found.append(f"{which}: not the bits of the CPU")
        if x.bytes > 1.01 * case.least():
            found.append(f"{which}: {x.bytes:.2f} bytes for each element, not {case.least()}")
        if x.on_the_way < case.needed():
            found.append(f"{which}: {x.on_the_way / 1e3:.1f} kB on the way, not {case.needed() / 1e3:.1f}")
    if aligned.wide < 1:
        found.append(f"only {aligned.wide:.0%} of the bytes move 16 at a time")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", default="", help="kernels whose names have this in them")
    only = parser.parse_args().only
    print(f"{'':32}    bytes moved        kB on the way     with offsets")
    print(f"{'kernel':32} {'least':>5} {'here':>6} {'wide':>5} {'needed':>7} {'here':>6} {'bytes':>8} {'kB':>6}")
    failed = 0
    for case in cases():
        if only in case.name:
            aligned, apart = look(case), look(case, offsets=True)
            print(
                f"{case.name:32} {case.least():5} {aligned.bytes:6.2f} {aligned.wide:5.0%} "
                f"{case.needed() / 1e3:7.1f} {aligned.on_the_way / 1e3:6.1f} {apart.bytes:8.2f} "
                f"{apart.on_the_way / 1e3:6.1f}"
            )
            for line in failures(case, aligned, apart):
                print(f"    WORSE: {line}")
                failed += 1
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
