"""What instructions become in lanes, but for calls and branches."""

from __future__ import annotations

from .calls import Calls
from .instructions import Instruction, Unfit
from .memory import Memory, size_of


class Operations(Calls):
    def instruction(self, made: Instruction) -> None:
        if made.op == "call":
            self.call(made)
        elif made.op == "load":
            self._load(made)
        elif made.op == "store":
            self._store(made)
        elif made.op == "getelementptr":
            self._step(made)
        elif made.op == "alloca":
            place = self.new()
            self.head.append(f"  {place} = alloca [{size_of(made.detail) * self.width} x i8], align 64")
            self.define_same(made, place)
        elif made.op in ("ptrtoint", "inttoptr") and not self.seen.places.numbers.isdisjoint(
            (made.result, *made.operands)
        ):
            self._address(made)
        else:
            self.define(made, self.emit(self._arithmetic(made)))

    def _address(self, made: Instruction) -> None:
        """Between a pointer to private memory and a number, in which steps are those of one lane: W times as short.

        All such memory begins at multiples of W, so nothing is lost.
        """
        divergent, shift = made.result in self.seen.divergent, self.width.bit_length() - 1
        value = (self.varying if divergent else self.uniform)(made.operands[0], made.kinds[0])
        number, pointer = (self.vector("i64"), self.vector("ptr")) if divergent else ("i64", "ptr")
        by = f"splat (i64 {shift})" if divergent else str(shift)
        if made.op == "ptrtoint":
            wide = self.emit(f"ptrtoint {pointer} {value} to {number}")
            self.define(made, self.emit(f"lshr {number} {wide}, {by}"))
        else:
            wide = self.emit(f"shl {number} {value}, {by}")
            self.define(made, self.emit(f"inttoptr {number} {wide} to {pointer}"))

    def _arithmetic(self, made: Instruction) -> str:
        op, kinds = made.op, made.kinds
        if made.result in self.seen.divergent:
            given = [self.varying(x, kind) for x, kind in zip(made.operands, kinds, strict=True)]
            kinds, to = [self.vector(kind) for kind in kinds], self.vector(made.kind)
            if op == "extractvalue":
                raise Unfit("structures")
            if op in ("sdiv", "udiv", "srem", "urem"):  # by what lanes have that are elsewhere
                given[1] = self.chosen(kinds[1], self.mask, given[1], f"splat ({made.kinds[1]} 1)")
            # What LLVM leaves open is as for one number: of a shift by too much, the processor takes the last bits.
            if op in ("shl", "lshr", "ashr") and not made.operands[1].isdigit():
                if made.kind not in ("i32", "i64"):
                    raise Unfit(f"a shift of {made.kind}")
                given[1] = self.emit(f"and {kinds[1]} {given[1]}, splat ({made.kind} {int(made.kind[1:]) - 1})")
            if op == "fptoui" or (op == "fptosi" and made.kind not in ("i32", "i64")):
                raise Unfit(f"a real number as {made.kind}, in which it may not fit")
        else:
            given, to = [self.uniform(x, kind) for x, kind in zip(made.operands, kinds, strict=True)], made.kind
        if op in ("icmp", "fcmp"):
            return f"{op} {made.detail} {kinds[0]} {given[0]}, {given[1]}"
        if op == "select":
            return "select " + ", ".join(f"{kind} {x}" for kind, x in zip(kinds, given, strict=True))
        if op == "extractvalue":
            return f"{op} {kinds[0]} {given[0]}, {made.detail}"
        if op in ("fneg", "freeze"):
            return f"{op} {kinds[0]} {given[0]}"
        return f"{op} {kinds[0]} {given[0]} to {to}" if len(given) == 1 else f"{op} {kinds[0]} {given[0]}, {given[1]}"

    def _step(self, made: Instruction) -> None:
        """An address: within private memory, steps are W times as long."""
        base, *indices = made.operands
        factor = self.width if self.seen.places.of(base) is Memory.PRIVATE else 1
        if base in self.seen.divergent:
            place, kind = self.varying(base, "ptr"), self.vector("ptr")
        else:
            place, kind = self.uniform(base, "ptr"), "ptr"
        over = made.detail
        for k, index in enumerate(indices):
            if k > 0:
                if not over.startswith("["):
                    raise Unfit("structures")
                over = over[1:-1].partition(" x ")[2]
            if index == "0":
                continue
            if index in self.seen.divergent:
                offset = f"{self.vector(made.kinds[k + 1])} {self.varying(index, made.kinds[k + 1])}"
            else:
                offset = f"{made.kinds[k + 1]} {self.uniform(index, made.kinds[k + 1])}"
            size = size_of(over) if factor > 1 or over != "ptr" else 8
            place = self.emit(f"getelementptr [{size * factor} x i8], {kind} {place}, {offset}")
            kind = self.vector("ptr") if index in self.seen.divergent else kind
        if made.result in self.seen.divergent and kind == "ptr":
            place = self.spread(place, "ptr")
        self.define(made, place)

    def is_always_there(self, pointer: str, names: list[str]) -> bool:
        """Is it private memory at an address that blocks of these names have, even where no lanes came to them?"""
        seen = self.seen
        if seen.places.of(pointer) is not Memory.PRIVATE or pointer in seen.divergent:
            return False
        while pointer not in self.arguments and seen.home[pointer] not in seen.always:
            made = seen.made[pointer]
            constant = made.op == "getelementptr" and not any(x.startswith("%") for x in made.operands[1:])
            if seen.home[pointer] not in names or not constant:
                return False
            pointer = made.operands[0]
        return True

    def _load(self, made: Instruction) -> None:
        (pointer,), kind = made.operands, made.kind
        memory, vector = self.seen.places.of(pointer), self.vector(made.kind)
        if memory is Memory.IGNORED:
            raise Unfit("what is known of an exception")
        if pointer not in self.seen.divergent:
            place = self.uniform(pointer, "ptr")
            if memory is Memory.PRIVATE:
                self.define(made, self.emit(f"load {vector}, ptr {place}, align {size_of(kind)}"))
            else:
                self.define_same(made, self.emit(f"load {kind}, ptr {place}, align 1"))
            return
        self.define(made, self.gathered(pointer, self.varying(pointer, "ptr"), kind))

    def _store(self, made: Instruction) -> None:
        (value, pointer), kind = made.operands, made.kinds[0]
        memory, vector = self.seen.places.of(pointer), self.vector(kind)
        if memory is Memory.IGNORED:
            return
        if kind == "ptr" or memory is Memory.OWNER:
            raise Unfit("pointers in memory")
        if memory is Memory.SHARED and not (self.trusted and pointer in self.seen.divergent):
            raise Unfit("a store to what all problems have in common")
        if not self.trusted and self.seen.places.is_marked(pointer):
            raise Unfit("a store to a problem's own row")  # which is a copy
        stored, size = self.varying(value, kind), size_of(kind)
        if pointer not in self.seen.divergent:
            place = self.uniform(pointer, "ptr")
            if not (self.full and self.is_of_call(pointer)):
                stored = self.chosen(vector, self.mask, stored, self.emit(f"load {vector}, ptr {place}, align {size}"))
            self.do(f"store {vector} {stored}, ptr {place}, align {size}")
            return
        self.scatter(pointer, self.varying(pointer, "ptr"), kind, stored)
