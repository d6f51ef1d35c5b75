"""What memory the pointers of a function point to."""

from __future__ import annotations

import enum
from collections.abc import Mapping

from .instructions import Function, Instruction, Unfit


class Memory(enum.Enum):
    SHARED = "shared"  # by all lanes
    PRIVATE = "private"  # of each lane: element i of lane l is element i W + l
    OWNER = "owner"  # what Numba allocated, in which the pointer to private memory is
    IGNORED = "ignored"  # written only, and nobody reads it


PRIVATE_MARK = "@nagd_numba.private"  # of its argument: it points to private memory
SPACE = "@NRT_Allocate"  # without an owner, for a copy
ALLOCATORS = {f"@NRT_MemInfo_alloc{how}" for how in ("", "_safe", "_aligned", "_safe_aligned")}
COUNTS = {"@NRT_incref": 1, "@NRT_decref": -1}  # of references to what an owner owns
_NOWHERE = {"null", "undef", "poison"}
_SIZES = {"double": 8, "float": 4, "half": 2, "i1": 1, "i8": 1, "i16": 2, "i32": 4, "i64": 8}


def size_of(kind: str) -> int:
    """Bytes of a type; raises Unfit for those that have no place in private memory."""
    if kind.startswith("["):
        count, _, element = kind[1:-1].partition(" x ")
        return int(count) * size_of(element)
    if kind not in _SIZES:
        raise Unfit(f"the type {kind} in memory")
    return _SIZES[kind]


class Places:
    """Of a function, whose pointer arguments are to the memory in `arguments`."""

    def __init__(self, function: Function, arguments: Mapping[str, Memory], mixed: bool) -> None:
        self._known = dict(arguments)
        body = [made for block in function.blocks.values() for made in block.body]
        pointers = [made for made in body if made.kind == "ptr"]
        self.numbers: set[str] = set()  # addresses of private memory as numbers, in which steps are those of one lane
        before = -1
        while before != len(self._known) + len(self.numbers):
            before = len(self._known) + len(self.numbers)
            for made in pointers:
                found = self._found(made)
                if found is not None and made.result not in self._known:
                    self._known[str(made.result)] = found
            for made in body:
                if not self.numbers.isdisjoint(made.operands) or (
                    made.op == "ptrtoint" and self.of(made.operands[0]) is Memory.PRIVATE
                ):
                    self._count(made)
        for made in pointers:
            if made.op in ("phi", "select"):
                given = made.operands[made.op == "select" :]
                if len({self.of(x) for x in given if x not in _NOWHERE}) > 1:
                    raise Unfit("a pointer to memory of one sort or another")
        self._marks = [str(made.result) for made in pointers if made.detail == PRIVATE_MARK]
        self._parent: dict[str, str] = {}
        self._elements: dict[str, int] = {}
        self._measure(function, pointers, mixed)

    def _count(self, made: Instruction) -> None:
        """An instruction takes or makes the address of private memory as a number."""
        if made.op not in ("ptrtoint", "inttoptr", "icmp", "add", "sub", "phi", "select", "freeze"):
            raise Unfit("the address of an array as a number")
        if made.result is not None and made.kind == "i64":
            self.numbers.add(made.result)

    def of(self, pointer: str) -> Memory:
        return self._known.get(pointer, Memory.SHARED)

    def element(self, pointer: str) -> int:
        """The size of the elements of the array that a pointer is to."""
        return self._elements.get(self._root(pointer), 8)

    def is_marked(self, pointer: str) -> bool:
        """Is it, or may it be, to memory that the function itself says is private?"""
        return self._root(pointer) in {self._root(name) for name in self._marks}

    def _found(self, made: Instruction) -> Memory | None:
        if made.op == "alloca" or made.detail in (PRIVATE_MARK, SPACE):
            return Memory.PRIVATE
        if made.op == "call":
            if made.detail not in ALLOCATORS:
                raise Unfit(f"a call of {made.detail[1:]}")
            return Memory.OWNER
        if made.op == "load":
            within = self.of(made.operands[0])
            if within in (Memory.PRIVATE, Memory.IGNORED):
                raise Unfit("pointers in memory")
            return Memory.PRIVATE if within is Memory.OWNER else None
        if made.op == "inttoptr":
            return Memory.PRIVATE if made.operands[0] in self.numbers else None
        if made.op in ("getelementptr", "phi", "select", "freeze"):
            given = made.operands[:1] if made.op == "getelementptr" else made.operands[made.op == "select" :]
            return next((self._known[x] for x in given if x in self._known), None)
        return None

    def _root(self, name: str) -> str:
        while self._parent.get(name, name) != name:
            name = self._parent[name]
        return name

    def _measure(self, function: Function, pointers: list[Instruction], mixed: bool) -> None:
        """Element i lies at i W + lane elements: all of an array must be of one size."""
        for made in pointers:
            if self.of(made.result or "") is Memory.PRIVATE and made.op in ("getelementptr", "phi", "select", "freeze"):
                given = made.operands[:1] if made.op == "getelementptr" else made.operands[made.op == "select" :]
                for source in given:
                    if source.startswith("%"):
                        self._parent[self._root(source)] = self._root(made.result or "")
        body = [made for block in function.blocks.values() for made in block.body]
        for made in body:
            if made.op in ("load", "store"):
                pointer, kind = made.operands[-1], made.kind if made.op == "load" else made.kinds[0]
                if self.of(pointer) is Memory.PRIVATE:
                    size = size_of(kind)
                    if self._elements.setdefault(self._root(pointer), size) != size and not mixed:
                        raise Unfit("elements of two sizes in one array")
        self._measure_copies([made for made in body if made.detail.startswith("@llvm.memcpy.")], mixed)

    def _measure_copies(self, copies: list[Instruction], mixed: bool) -> None:
        """Of an array that is only copied, the elements are those of the other one."""
        before = -1
        while before != len(self._elements):
            before = len(self._elements)
            for made in copies:
                to, source = made.operands[:2]
                if self.of(to) is not Memory.PRIVATE or self.of(source) is not Memory.PRIVATE:
                    continue
                sizes = {self._elements[root] for root in map(self._root, (to, source)) if root in self._elements}
                if len(sizes) > 1 and not mixed:
                    raise Unfit("elements of two sizes in one array")
                for size in sizes:
                    self._elements.setdefault(self._root(to), size)
                    self._elements.setdefault(self._root(source), size)
