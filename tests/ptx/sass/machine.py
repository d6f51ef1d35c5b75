"""A block of threads that executes a kernel's machine code, and counts what a multiprocessor would issue.

Of the threads of the block those with the least address go on together, warp by warp at the same time: what a warp
issues when its threads part and meet again (BSSY, BSYNC) is what the hardware issues, but for the order.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .listing import Instruction, Listing
from .memory import SHARED, SHARED_START, WARP, Device, Memory, wavefronts
from .operands import Run
from .operations import OPERATIONS
from .registers import Registers

PARAMETERS = 0x210  # where a kernel's parameters begin in the constant bank
RUNNING, AT_BARRIER, MEETING, EXITED = range(4)
_ADDRESS = re.compile(r"(?:desc\[UR\d+\])?\[(?:(R\d+|RZ)(\.64|\.U32)?)?\+?(UR\d+|URZ)?(?:\+?(-?0x[0-9a-f]+))?\]")
_WIDTHS = {"128": 16, "64": 8, "U16": 2, "S16": 2, "U8": 1, "S8": 1}


class Access(NamedTuple):
    """One instruction's accesses to the device's memory, by the threads for which it was executed."""

    store: bool
    width: int
    addresses: np.ndarray


class Counts:
    """What the warps issued, by opcode, and how often shared memory was asked."""

    def __init__(self) -> None:
        self.issued: Counter[str] = Counter()
        self.places: Counter[int] = Counter()  # the same by address
        self.wavefronts = 0
        self.accesses: list[Access] = []
        self.waits: list[int] = []  # bytes that the first thread has on the way, each time that it waits for some

    @property
    def instructions(self) -> int:
        return sum(self.issued.values())


@functools.cache
def _registers(i: Instruction) -> frozenset[int]:
    """The registers that an instruction names."""
    return frozenset(int(x) for text in i.operands for x in re.findall(r"(?<!U)R(\d+)", text))


def constant_bank(grid: int, threads: int, parameters: Sequence[Any]) -> bytes:
    """Sizes of the launch, and parameters (NumPy scalars), each at a multiple of its size."""
    bank = bytearray(PARAMETERS)
    bank[0:12] = np.array([threads, 1, 1], np.uint32).tobytes()
    bank[12:24] = np.array([grid, 1, 1], np.uint32).tobytes()
    for value in parameters:
        bank += bytes(-len(bank) % value.itemsize) + value.tobytes()
    return bytes(bank + bytes(64))


class Block:
    """Block `index` of a launch."""

    def __init__(self, listing: Listing, device: Device, constants: bytes, threads: int, index: int = 0) -> None:
        assert threads % WARP == 0, threads
        self.listing, self.device = listing, device
        self.registers = Registers(threads, constants)
        self.shared = Memory(0, SHARED + SHARED_START)
        self.counts = Counts()
        self.threads, self.index = threads, index
        self.pc = np.zeros(threads, np.int64)
        self.state = np.full(threads, RUNNING)
        self.meetings: dict[str, np.ndarray] = {}  # for each convergence register and thread, who takes part
        self.where = np.zeros(threads, np.int64)  # number of the register that a thread waits at
        self.lanes = np.arange(threads)
        self.places = {i.address: k for k, i in enumerate(listing.code)}
        self._made: dict[int, tuple[Run | None, Any]] = {}
        self._coming: set[int] = set()  # registers of the first thread that loads will write, and their bytes
        self._coming_bytes = 0

    def run(self) -> Counts:
        """Until every thread has ended."""
        with np.errstate(all="ignore"):
            while (self.state != EXITED).any():
                running = self.state == RUNNING
                if not running.any():
                    self._release_barrier()
                    continue
                first = int(self.pc[running].min())
                mask = running & (self.pc == first)
                others = self.pc[running & ~mask]
                self._straight(first, mask, int(others.min()) if others.size else len(self.listing.code))
        return self.counts

    def _straight(self, at: int, mask: np.ndarray, until: int) -> None:
        """Execute from `at` on, up to a change of the control flow or where other threads wait."""
        warps = int(mask.reshape(-1, WARP).any(axis=1).sum())
        in_warps = np.repeat(mask.reshape(-1, WARP).any(axis=1), WARP)
        code = self.listing.code
        while at < until:
            i = code[at]
            if at not in self._made:
                self._made[at] = self._make(i)
            run, guard = self._made[at]
            if i.opcode != "NOP":
                self.counts.issued[".".join((i.opcode, *i.modifiers))] += warps
                self.counts.places[i.address] += warps
            chosen = mask if guard is None else mask & guard()
            at += 1
            if self._coming and mask[0] and not self._coming.isdisjoint(_registers(i)):
                self.counts.waits.append(self._coming_bytes)
                self._coming, self._coming_bytes = set(), 0
            if run is None:
                self.pc[mask] = at
                self._control(i, mask, chosen)
                return
            if i.opcode[0] == "U" and i.opcode != "UNDEF":  # a uniform register is the warp's
                run(in_warps if guard is None else in_warps & guard())
            elif chosen.any():
                run(chosen)
        self.pc[mask] = at

    def _make(self, i: Instruction) -> tuple[Run | None, Any]:
        guard = None if i.guard is None else self.registers.predicate(i.guard)
        name = i.opcode
        if name in ("BRA", "EXIT", "CALL", "RET", "BAR", "BSYNC", "BSSY", "WARPSYNC", "BREAK"):
            return None, guard
        if name in ("NOP", "MEMBAR", "ERRBAR", "CCTL", "DEPBAR", "WARPGROUP", "ELECT", "YIELD"):
            return (lambda mask: None), guard
        if name in ("LDG", "STG", "LDS", "STS", "LD", "ST"):  # of the last two only what is in the device's memory
            return self._memory(i), guard
        if name == "REDG":
            return self._reduction(i), guard
        if name in ("S2R", "S2UR"):
            return self._special(i), guard
        if name == "R2UR":
            return self._to_uniform(i), guard
        if name == "VOTEU":
            return self._vote(i), guard
        plain = name[1:] if name[0] == "U" and name[1:] in OPERATIONS else name
        if plain not in OPERATIONS:
            raise NotImplementedError(str(i))
        return OPERATIONS[plain](self.registers, i), guard

    # ------------------------------------------------------------------ control

    def _control(self, i: Instruction, mask: np.ndarray, chosen: np.ndarray) -> None:
        name = i.opcode
        if name == "EXIT":
            self.state[chosen] = EXITED
            self._meet()
        elif name in ("BRA", "CALL"):
            *conditions, target = i.operands
            for condition in conditions:
                chosen = chosen & self.registers.predicate(condition)()
            self.pc[chosen] = self.listing.labels[target.strip("`()")]
        elif name == "RET":
            for thread in np.flatnonzero(chosen):
                address = int(self.registers.bits(i.operands[0].split()[0])()[thread])
                self.pc[thread] = self.places[address]
        elif name == "BAR":
            if i.modifiers[0] != "SYNC" or i.operands != ("0x0",):
                raise NotImplementedError(str(i))
            self.state[chosen] = AT_BARRIER
        elif name == "BSSY":
            who = self.meetings.setdefault(i.operands[0], np.zeros((self.threads, WARP), bool))
            who[chosen] = np.repeat(chosen.reshape(-1, WARP), WARP, axis=0)[chosen]
        elif name == "BSYNC":
            self.state[chosen] = MEETING
            self.where[chosen] = int(i.operands[0][1:])
            self._meet()
        elif name == "BREAK":  # out of a loop, to where the others need not be waited for
            who = self.meetings[i.operands[-1]]
            for thread in np.flatnonzero(chosen):
                start = thread // WARP * WARP
                who[start : start + WARP, thread - start] = False
            self._meet()
        elif name != "WARPSYNC":
            raise NotImplementedError(str(i))

    def _meet(self) -> None:
        """Let those go on whose warp has all that it waits for."""
        for thread in np.flatnonzero(self.state == MEETING):
            if self.state[thread] != MEETING:
                continue
            start = thread // WARP * WARP
            state, where = self.state[start : start + WARP], self.where[start : start + WARP]
            who = self.meetings[f"B{self.where[thread]}"][thread]
            there = (state == MEETING) & (where == self.where[thread])
            if (there | (state == EXITED) | ~who).all():
                state[there & who] = RUNNING

    def _release_barrier(self) -> None:
        waiting = self.state == AT_BARRIER
        assert (waiting | (self.state == EXITED)).all(), "threads of a warp wait for each other in different places"
        self.state[waiting] = RUNNING

    # ------------------------------------------------------------------ memory, special registers

    def _addresses(self, text: str) -> Any:
        found = _ADDRESS.fullmatch(text)
        assert found is not None, text
        register, wide, uniform, offset = found.groups()
        parts = []
        if register:
            parts.append(self.registers.bits(register, pair=wide == ".64"))
        if uniform:
            parts.append(self.registers.bits(uniform, pair=wide == ".64"))
        fixed = np.uint64(int(offset or "0", 0) % (1 << 64))

        def read() -> Any:
            total = np.full(self.threads, fixed)
            for part in parts:
                total = total + np.uint64(part())
            return total

        return read

    def _memory(self, i: Instruction) -> Run:
        width = next((_WIDTHS[x] for x in i.modifiers if x in _WIDTHS), 4)
        if {"S16", "S8", "256"} & set(i.modifiers):
            raise NotImplementedError(str(i))
        store, shared = i.opcode.startswith("ST"), i.opcode.endswith("S")
        where, data = (i.operands[0], i.operands[1]) if store else (i.operands[1], i.operands[0])
        read, memory = self._addresses(where), self.shared if shared else self.device
        first = 255 if data == "RZ" else int(data[1:])
        rows = [self.registers.plain[255 if first == 255 else first + k] for k in range(max(1, width // 4))]

        def run(mask: np.ndarray) -> None:
            addresses = read()[mask]
            if shared:
                self.counts.wavefronts += wavefronts(addresses, self.lanes[mask], width)
            else:
                self.counts.accesses.append(Access(store, width, addresses))
                if mask[0] and not store:
                    self._coming.update(range(first, first + max(1, width // 4)))
                    self._coming_bytes += width
            if store:
                memory.write(addresses, width, [row[mask] for row in rows])
            elif first != 255:
                for row, value in zip(rows, memory.read(addresses, width), strict=True):
                    row[mask] = value

        return run

    def _reduction(self, i: Instruction) -> Run:
        """The least of 64-bit whole numbers, or a sum."""
        kind = next(x for x in i.modifiers if x in ("ADD", "MIN"))
        if not {"64", "S64"} & set(i.modifiers):
            raise NotImplementedError(str(i))
        read, value = self._addresses(i.operands[0]), self.registers.integer(i.operands[1], pair=True)

        def run(mask: np.ndarray) -> None:
            given = np.broadcast_to(value(), mask.shape)[mask].view(np.int64)
            for address, new in zip(read()[mask], given, strict=True):
                at = np.array([address])
                before = np.array(self.device.read(at, 8), np.uint32).ravel().view(np.int64)
                after = before + new if kind == "ADD" else np.minimum(before, new)
                self.device.write(at, 8, list(after.view(np.uint32).reshape(2, 1)))

        return run

    def _special(self, i: Instruction) -> Run:
        name, write = i.operands[1], self.registers.to(i.operands[0])
        values = {
            "SR_TID.X": self.lanes.astype(np.uint32),
            "SR_LANEID": (self.lanes % WARP).astype(np.uint32),
            "SR_CTAID.X": np.uint32(self.index),
            "SR_CTAID.Y": np.uint32(0),
            "SR_CgaCtaId": np.uint32(0),
        }
        if name not in values:
            raise NotImplementedError(str(i))
        return lambda mask: write(values[name], mask)

    def _vote(self, i: Instruction) -> Run:
        """A predicate of the warp: is one true for any of its threads, or for all?"""
        write, read = self.registers.to(i.operands[0]), self.registers.predicate(i.operands[1])
        any_, all_ = i.modifiers == ("ANY",), i.modifiers == ("ALL",)
        if len(i.operands) != 2 or not (any_ or all_):
            raise NotImplementedError(str(i))

        def run(mask: np.ndarray) -> None:
            voted = (read() & mask if any_ else read() | ~mask).reshape(-1, WARP)
            found = voted.any(axis=1) if any_ else voted.all(axis=1)
            write(np.repeat(found, WARP), np.repeat(mask.reshape(-1, WARP).any(axis=1), WARP))

        return run

    def _to_uniform(self, i: Instruction) -> Run:
        source, target = self.registers.bits(i.operands[-1]), self.registers.uniform[int(i.operands[0][2:])]

        def run(mask: np.ndarray) -> None:
            value = source().reshape(-1, WARP)
            chosen = mask.reshape(-1, WARP)
            first = chosen.argmax(axis=1)
            found = value[np.arange(len(value)), first]
            warps = chosen.any(axis=1)
            target.reshape(-1, WARP)[warps] = found[warps][:, None]

        return run
