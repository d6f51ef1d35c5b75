"""Text of LLVM code, and the values of a function in lanes."""

from __future__ import annotations

from collections.abc import Mapping

from .analysis import Analysis, Value
from .instructions import Instruction
from .memory import ALLOCATORS, SPACE, Memory, size_of

_SHORT = {"double": "f64", "float": "f32", "half": "f16", "ptr": "p0"}


class Values:
    def __init__(self, seen: Analysis, arguments: Mapping[str, Memory | Value], width: int, trusted: bool) -> None:
        self.seen, self.arguments, self.width, self.trusted = seen, arguments, width, trusted
        self.flags = self.vector("i1")
        self.head: list[str] = []  # what is done once, at the start
        self.lines: list[str] = []
        self.declared: set[str] = set()
        self.crossing: set[str] = set()  # values that other blocks use
        self.block = ""  # that is written; `mask` are the lanes that run it, `full`: those of the call
        self.mask, self.full = "%all", False
        self._count = 0
        self._local: dict[str, str] = {}  # values of this block, by their names in the function
        self._vectors: dict[str, str] = {}

    # -- text

    def new(self) -> str:
        self._count += 1
        return f"%v{self._count}"

    def emit(self, text: str) -> str:
        name = self.new()
        self.lines.append(f"  {name} = {text}")
        return name

    def do(self, text: str) -> None:
        self.lines.append(f"  {text}")

    def vector(self, kind: str) -> str:
        return f"<{self.width} x {kind}>"

    def chosen(self, kind: str, mask: str, yes: str, no: str) -> str:
        """A vector of `yes` in the lanes of the mask and `no` in the others."""
        return self.emit(f"select {self.flags} {mask}, {kind} {yes}, {kind} {no}")

    def any(self, mask: str) -> str:
        bits = self.emit(f"bitcast {self.flags} {mask} to i{self.width}")
        return self.emit(f"icmp ne i{self.width} {bits}, 0")

    def bits(self, mask: str) -> str:
        """Lanes as a whole number."""
        bits = self.emit(f"bitcast {self.flags} {mask} to i{self.width}")
        return self.emit(f"zext i{self.width} {bits} to i64")

    # -- values

    def forget(self) -> None:
        """Another block begins: what other blocks have made is in its slots."""
        self._local, self._vectors = {}, {}

    def slot(self, name: str) -> str:
        return '%"slot.' + name[1:].strip('"') + '"'

    def uniform(self, name: str, kind: str) -> str:
        """A value that is the same in all lanes."""
        if not name.startswith("%") or name in self.arguments:
            return name
        if name not in self._local:
            self._local[name] = self.emit(f"load {kind}, ptr {self.slot(name)}")
        return self._local[name]

    def varying(self, name: str, kind: str) -> str:
        """A vector, of a value that differs or not."""
        if not name.startswith("%"):
            return self._varying(name, kind)
        if name not in self._vectors:
            self._vectors[name] = self._varying(name, kind)
        return self._vectors[name]

    def _varying(self, name: str, kind: str) -> str:
        if not name.startswith(("%", "@")) and "(" not in name:
            plain = {"undef": "undef", "poison": "poison", "null": "zeroinitializer", "zeroinitializer": name}
            return plain.get(name, f"splat ({kind} {name})")
        if name not in self.seen.divergent:
            return self.spread(self.uniform(name, kind), kind)
        if name in self.arguments:
            return f"{name}.lanes"
        return self.emit(f"load {self.vector(kind)}, ptr {self.slot(name)}")

    def spread(self, scalar: str, kind: str) -> str:
        vector = self.vector(kind)
        first = self.emit(f"insertelement {vector} poison, {kind} {scalar}, i64 0")
        return self.emit(f"shufflevector {vector} {first}, {vector} poison, <{self.width} x i32> zeroinitializer")

    def define(self, made: Instruction, value: str) -> None:
        name = made.result or ""
        (self._vectors if name in self.seen.divergent else self._local)[name] = value
        if name in self.crossing:
            self.keep(made, value, self.mask if name in self.seen.survivors else None)

    def define_same(self, made: Instruction, value: str) -> None:
        """The value is one for all lanes that are here; where others see it, they may have another one."""
        self.define(made, self.spread(value, made.kind) if made.result in self.seen.divergent else value)

    def keep(self, made: Instruction, value: str, lanes: str | None) -> None:
        """Put a value where other blocks find it: its elements of some lanes, or of all."""
        name, kind = made.result or "", made.kind
        if name in self.seen.divergent:
            kind = self.vector(kind)
            if lanes is not None and not self.full:
                value = self.chosen(kind, lanes, value, self.emit(f"load {kind}, ptr {self.slot(name)}"))
        self.do(f"store {kind} {value}, ptr {self.slot(name)}")

    def gathered(self, pointer: str, places: str, kind: str) -> str:
        """What is at addresses like `pointer`, which differs, for the lanes that are here."""
        pointers, vector = self.vector("ptr"), self.vector(kind)
        name = f"llvm.masked.gather.v{self.width}{short(kind)}.v{self.width}p0"
        self.declared.add(f"declare {vector} @{name}({pointers}, {self.flags}, {vector})")
        given = f"{pointers} align {8 if kind == 'ptr' else size_of(kind)} {self._own(pointer, places, kind)}"
        return self.emit(f"call {vector} @{name}({given}, {self.flags} {self.mask}, {vector} zeroinitializer)")

    def scatter(self, pointer: str, places: str, kind: str, stored: str) -> None:
        """Put something there."""
        pointers, vector = self.vector("ptr"), self.vector(kind)
        name = f"llvm.masked.scatter.v{self.width}{short(kind)}.v{self.width}p0"
        self.declared.add(f"declare void @{name}({vector}, {pointers}, {self.flags})")
        given = f"{pointers} align {size_of(kind)} {self._own(pointer, places, kind)}"
        self.do(f"call void @{name}({vector} {stored}, {given}, {self.flags} {self.mask})")

    def _own(self, pointer: str, places: str, kind: str) -> str:
        """In private memory, each lane's own elements."""
        if self.seen.places.of(pointer) is not Memory.PRIVATE:
            return places
        steps = ", ".join(f"i64 {lane}" for lane in range(self.width))
        element = f"[{size_of(kind)} x i8]"
        return self.emit(f"getelementptr {element}, {self.vector('ptr')} {places}, {self.vector('i64')} <{steps}>")

    def is_of_call(self, pointer: str) -> bool:
        """Is it memory that ends with the call?"""
        while pointer in self.seen.made:
            made = self.seen.made[pointer]
            if made.op == "alloca" or (made.op == "call" and made.detail in (*ALLOCATORS, SPACE)):
                return True
            if made.op not in ("getelementptr", "load"):
                return False
            pointer = made.operands[0]
        return False


def short(kind: str) -> str:
    """A type as it stands in the names of intrinsics."""
    return _SHORT.get(kind, kind)
