"""What calls become in lanes: of functions of numbers, of Numba's allocator, and of the marks."""

from __future__ import annotations

from .analysis import EVALUATE, EVALUATION, TAKE
from .instructions import Instruction, Unfit
from .memory import ALLOCATORS, COUNTS, PRIVATE_MARK, SPACE, Memory, size_of
from .values import Values, short

# LLVM's intrinsics that it has for vectors; those of the last line it applies lane by lane.
_INTRINSICS = {
    *("fabs", "sqrt", "fma", "floor", "ceil", "trunc", "rint", "nearbyint", "round", "roundeven", "copysign"),
    *("minnum", "maxnum", "minimum", "maximum", "minimumnum", "maximumnum", "smax", "smin", "umax", "umin", "abs"),
    *("ctpop", "ctlz", "cttz", "fshl", "fshr", "bswap", "bitreverse", "sadd.sat", "ssub.sat", "uadd.sat", "usub.sat"),
    *("sin", "cos", "tan", "asin", "acos", "atan", "atan2", "sinh", "cosh", "tanh", "pow", "exp2", "log2", "log10"),
}
_EXACT = {"sqrt", "fabs", "floor", "ceil", "trunc", "rint", "copysign", "fma"}  # of C: those of the same name
_LIBRARY = {  # of C, without state: called for each lane
    *("sin", "cos", "tan", "asin", "acos", "atan", "atan2", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh"),
    *("exp2", "expm1", "log2", "log10", "log1p", "pow", "cbrt", "hypot", "erf", "erfc", "fmod", "tgamma", "lgamma"),
}
_DROPPED = ("@NRT_Free", "@llvm.assume", "@llvm.lifetime", "@llvm.dbg", "@llvm.experimental.noalias", "@llvm.donothing")
_ON_STACK = 1 << 14  # bytes of an array, of all lanes
_UNCOUNTED = 1 << 30  # references to it: never none


class Calls(Values):
    _evaluation: Instruction | None = None  # what says what is evaluated

    def call(self, made: Instruction) -> None:
        name = made.detail
        if name.startswith(_DROPPED):
            return
        if name in ALLOCATORS or name == SPACE:
            self._allocate(made)
        elif name in COUNTS:
            self._count_references(made)
        elif name == PRIVATE_MARK:
            self.define_same(made, self.uniform(made.operands[0], "ptr"))
        elif name == TAKE:
            self._take(made)
        elif name == EVALUATION:
            self._evaluation = made
        elif name == EVALUATE:
            self._evaluate(made)
        elif name.startswith(("@llvm.memset.", "@llvm.memcpy.")):
            self._fill(made)
        elif ".with.overflow." in name and made.result not in self.seen.divergent:
            self.declared.add(f"declare {made.kind} {name}({', '.join(made.kinds)})")
            self._scalar_call(made, name)
        else:
            self._function(made)

    def _scalar_call(self, made: Instruction, name: str) -> None:
        given = ", ".join(f"{k} {self.uniform(x, k)}" for x, k in zip(made.operands, made.kinds, strict=True))
        self.define_same(made, self.emit(f"call {made.kind} {name}({given})"))

    def _function(self, made: Instruction) -> None:
        """A function of numbers."""
        name, kinds = made.detail, made.kinds
        if name[1:] in _EXACT and made.kind == "double":
            name = f"@llvm.{name[1:]}.f64"
        intrinsic = name.startswith("@llvm.")
        base = name[6:].rpartition(".")[0] if intrinsic else name[1:]
        if base not in (_INTRINSICS if intrinsic else _LIBRARY):
            raise Unfit(f"a call of {made.detail[1:]}")
        self.declared.add(f"declare {made.kind} {name}({', '.join(kinds)})")
        if made.result not in self.seen.divergent:
            self._scalar_call(made, name)
            return
        vector, given = self.vector(made.kind), [self.varying(x, k) for x, k in zip(made.operands, kinds, strict=True)]
        if intrinsic:
            # A flag, such as that of `abs`, is a constant.
            passed = [
                (k, x) if k == "i1" else (self.vector(k), v)
                for k, x, v in zip(kinds, made.operands, given, strict=True)
            ]
            wide = f"@llvm.{base}.v{self.width}{short(made.kind)}"
            self.declared.add(f"declare {vector} {wide}({', '.join(k for k, _ in passed)})")
            self.define(made, self.emit(f"call {vector} {wide}({', '.join(f'{k} {x}' for k, x in passed)})"))
            return
        result = "poison"
        for lane in range(self.width):
            single = [
                f"{k} " + self.emit(f"extractelement {self.vector(k)} {v}, i64 {lane}")
                for k, v in zip(kinds, given, strict=True)
            ]
            value = self.emit(f"call {made.kind} {name}({', '.join(single)})")
            result = self.emit(f"insertelement {vector} {result}, {made.kind} {value}, i64 {lane}")
        self.define(made, result)

    def _allocate(self, made: Instruction) -> None:
        """Memory for all lanes at once, which is theirs until the function ends, or none of them refers to it."""
        size = made.operands[0]
        if size in self.seen.divergent:
            raise Unfit("arrays of different lengths")
        looped = any(self.block in loop.members for loop in self.seen.loops)
        if made.detail != SPACE and size.isdigit() and not looped and int(size) * self.width <= _ON_STACK:
            place, owner = self.new(), self.new()
            self.head += [
                f"  {place} = alloca [{int(size) * self.width} x i8], align 64",
                f"  {owner} = alloca [64 x i8], align 8",
            ]
            self.do(f"store ptr {place}, ptr {self.emit(f'getelementptr i8, ptr {owner}, i64 24')}")
            counts = self.emit(f"getelementptr i8, ptr {owner}, i64 32")
            self.do(f"store <8 x i32> splat (i32 {_UNCOUNTED}), ptr {counts}, align 4")
            self.define_same(made, owner)
            return
        if made.detail == SPACE and looped:
            raise Unfit("memory without an owner that is made in a loop")
        wide = self.emit(f"mul i64 {self.uniform(size, 'i64')}, {self.width}")
        owner = self.emit(f"call ptr @nagd_numba.allocate(ptr %arena, i64 {wide}, i64 {self.bits(self.mask)})")
        data = self.emit(f"call ptr @nagd_numba.data(ptr {owner})") if made.detail == SPACE else owner
        self.define_same(made, data)

    def _count_references(self, made: Instruction) -> None:
        """Of the lanes that are here; of what is not theirs, nobody counts any."""
        (owner,), by = made.operands, COUNTS[made.detail]
        if self.seen.places.of(owner) is not Memory.OWNER:
            return
        if owner not in self.seen.divergent:
            passed = f"ptr {self.uniform(owner, 'ptr')}, i64 {self.bits(self.mask)}"
            self.do(f"call void @nagd_numba.count({passed}, i32 {by})")
            return
        owners = self.chosen(self.vector("ptr"), self.mask, self.varying(owner, "ptr"), "zeroinitializer")
        for lane in range(self.width):
            one = self.emit(f"extractelement {self.vector('ptr')} {owners}, i64 {lane}")
            self.do(f"call void @nagd_numba.count(ptr {one}, i64 {1 << lane}, i32 {by})")

    def _fill(self, made: Instruction) -> None:
        """`memset` by 0 and `memcpy`: of memory that ends with the call all, of other memory the elements of the lanes
        that are here.
        """
        name, (pointer, source, length, _) = made.detail[6:12], made.operands
        places, divergent = self.seen.places, self.seen.divergent
        private = places.of(pointer) is Memory.PRIVATE and (self.trusted or not places.is_marked(pointer))
        copies = name == "memcpy"
        if length in divergent or not private or not (copies or source == "0"):
            raise Unfit(name)
        count = self.uniform(length, "i64")
        alike = divergent.isdisjoint((pointer, source)) and (not copies or places.of(source) is Memory.PRIVATE)
        if self.full and alike and self.is_of_call(pointer):
            given = f"{made.kinds[1]} {self.uniform(source, made.kinds[1])}"
            full = "@llvm.memcpy.p0.p0.i64" if copies else "@llvm.memset.p0.i64"
            self.declared.add(f"declare void {full}(ptr, {made.kinds[1]}, i64, i1)")
            wide = self.emit(f"mul i64 {count}, {self.width}")
            self.do(f"call void {full}(ptr {self.uniform(pointer, 'ptr')}, {given}, i64 {wide}, i1 false)")
            return
        size = places.element(pointer)
        element, slot, many = f"i{8 * size}", self.new(), self.emit(f"udiv i64 {count}, {size}")
        ends = [self.varying(x, "ptr") if x in divergent else self.uniform(x, "ptr") for x in (pointer, source)]
        label = f"fill.{slot[1:]}"
        self.head.append(f"  {slot} = alloca i64")
        self.do(f"store i64 0, ptr {slot}")
        self.do(f"br label %{label}")
        self.lines.append(f"{label}:")
        k = self.emit(f"load i64, ptr {slot}")
        self.do(f"br i1 {self.emit(f'icmp ult i64 {k}, {many}')}, label %{label}.body, label %{label}.end")
        self.lines.append(f"{label}.body:")
        value = self._element(source, ends[1], element, k) if copies else "zeroinitializer"
        self._put_element(pointer, ends[0], element, k, value)
        self.do(f"store i64 {self.emit(f'add i64 {k}, 1')}, ptr {slot}")
        self.do(f"br label %{label}")
        self.lines.append(f"{label}.end:")

    def _element_at(self, pointer: str, place: str, kind: str, k: str) -> str:
        factor = self.width if self.seen.places.of(pointer) is Memory.PRIVATE else 1
        pointers = self.vector("ptr") if pointer in self.seen.divergent else "ptr"
        return self.emit(f"getelementptr [{size_of(kind) * factor} x i8], {pointers} {place}, i64 {k}")

    def _element(self, pointer: str, place: str, kind: str, k: str) -> str:
        """Element `k` of an array at `place`, which is what `pointer` is in lanes."""
        at = self._element_at(pointer, place, kind, k)
        if pointer in self.seen.divergent:
            return self.gathered(pointer, at, kind)
        if self.seen.places.of(pointer) is not Memory.PRIVATE:
            return self.spread(self.emit(f"load {kind}, ptr {at}, align 1"), kind)
        return self.emit(f"load {self.vector(kind)}, ptr {at}, align {size_of(kind)}")

    def _put_element(self, pointer: str, place: str, kind: str, k: str, value: str) -> None:
        at, vector = self._element_at(pointer, place, kind, k), self.vector(kind)
        if pointer in self.seen.divergent:
            self.scatter(pointer, at, kind, value)
            return
        old = self.emit(f"load {vector}, ptr {at}, align {size_of(kind)}")
        self.do(f"store {vector} {self.chosen(vector, self.mask, value, old)}, ptr {at}, align {size_of(kind)}")

    def _take(self, made: Instruction) -> None:
        """The next numbers of a counter, one for each lane that is here."""
        counter = self.uniform(made.operands[0], "ptr")
        number, result = self.emit(f"load i64, ptr {counter}"), "zeroinitializer"
        for lane in range(self.width):
            result = self.emit(f"insertelement {self.vector('i64')} {result}, i64 {number}, i64 {lane}")
            here = self.emit(f"extractelement {self.flags} {self.mask}, i64 {lane}")
            number = self.emit(f"add i64 {number}, {self.emit(f'zext i1 {here} to i64')}")
        self.do(f"store i64 {number}, ptr {counter}")
        self.define(made, result)

    def _evaluate(self, made: Instruction) -> None:
        """A call, for the lanes that are here, of the function at the address that `EVALUATION` names."""
        if self._evaluation is None:
            raise ValueError("nothing says what is evaluated")
        (address, *given), kinds = self._evaluation.operands, self._evaluation.kinds
        passed = [f"{kind} {self.uniform(name, kind)}" for name, kind in zip(given, kinds[1:], strict=True)]
        slot, kind = self.new(), self.vector("i8")
        self.head.append(f"  {slot} = alloca {kind}")
        self.do(f"store {kind} {self.varying(made.operands[0], 'i8')}, ptr {slot}")
        passed += [f"ptr {slot}", f"i64 {self.bits(self.mask)}"]
        function = self.emit(f"inttoptr i64 {self.uniform(address, 'i64')} to ptr")
        failed = self.emit(f"call i64 {function}({', '.join(passed)})")
        lanes = self.emit(f"bitcast i{self.width} {self.emit(f'trunc i64 {failed} to i{self.width}')} to {self.flags}")
        self.define(made, self.emit(f"zext {self.flags} {lanes} to {self.vector('i64')}"))
