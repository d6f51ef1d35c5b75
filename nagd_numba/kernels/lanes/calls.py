"""What calls become in lanes: of functions of numbers, of Numba's allocator, and of the marks."""

from __future__ import annotations

from .analysis import EVALUATE, EVALUATION, TAKE
from .instructions import Instruction, Unfit
from .memory import ALLOCATORS, PRIVATE_MARK, SPACE, Memory
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


class Calls(Values):
    _evaluation: Instruction | None = None  # what says what is evaluated

    def call(self, made: Instruction) -> None:
        name = made.detail
        if name.startswith(_DROPPED):
            return
        if name in ALLOCATORS or name == SPACE:
            self._allocate(made)
        elif name == PRIVATE_MARK:
            self.define(made, self.uniform(made.operands[0], "ptr"))
        elif name == TAKE:
            self._take(made)
        elif name == EVALUATION:
            self._evaluation = made
        elif name == EVALUATE:
            self._evaluate(made)
        elif name.startswith("@llvm.memset"):
            self._fill(made)
        elif ".with.overflow." in name and made.result not in self.seen.divergent:
            self.declared.add(f"declare {made.kind} {name}({', '.join(made.kinds)})")
            self._scalar_call(made, name)
        else:
            self._function(made)

    def _scalar_call(self, made: Instruction, name: str) -> None:
        given = ", ".join(f"{k} {self.uniform(x, k)}" for x, k in zip(made.operands, made.kinds, strict=True))
        self.define(made, self.emit(f"call {made.kind} {name}({given})"))

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
        """Memory for all lanes at once, which is theirs until the function ends."""
        size = made.operands[0]
        if size in self.seen.divergent:
            raise Unfit("arrays of different lengths")
        looped = any(self.block in loop.members for loop in self.seen.loops)
        if made.detail != SPACE and size.isdigit() and not looped and int(size) * self.width <= _ON_STACK:
            place, owner = self.new(), self.new()
            self.head += [
                f"  {place} = alloca [{int(size) * self.width} x i8], align 64",
                f"  {owner} = alloca [32 x i8], align 8",
            ]
            self.do(f"store ptr {place}, ptr {self.emit(f'getelementptr i8, ptr {owner}, i64 24')}")
            self.define(made, owner)
            return
        wide = self.emit(f"mul i64 {self.uniform(size, 'i64')}, {self.width}")
        owner = self.emit(f"call ptr @nagd_numba.allocate(ptr %arena, i64 {wide})")
        self.define(made, self.emit(f"call ptr @nagd_numba.data(ptr {owner})") if made.detail == SPACE else owner)

    def _fill(self, made: Instruction) -> None:
        """`memset`: of memory that ends with the call all, of other memory the elements of the lanes that are here."""
        pointer, byte, length, _ = made.operands
        private = self.seen.places.of(pointer) is Memory.PRIVATE
        private = private and (self.trusted or not self.seen.places.is_marked(pointer))
        if pointer in self.seen.divergent or length in self.seen.divergent or byte != "0" or not private:
            raise Unfit("memset")
        place, count = self.uniform(pointer, "ptr"), self.uniform(length, "i64")
        if self.full and self.is_of_call(pointer):
            self.declared.add("declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)")
            wide = self.emit(f"mul i64 {count}, {self.width}")
            self.do(f"call void @llvm.memset.p0.i64(ptr {place}, i8 0, i64 {wide}, i1 false)")
            return
        size = self.seen.places.element(pointer)
        kind, slot, many = self.vector(f"i{8 * size}"), self.new(), self.emit(f"udiv i64 {count}, {size}")
        label = f"fill.{slot[1:]}"
        self.head.append(f"  {slot} = alloca i64")
        self.do(f"store i64 0, ptr {slot}")
        self.do(f"br label %{label}")
        self.lines.append(f"{label}:")
        k = self.emit(f"load i64, ptr {slot}")
        self.do(f"br i1 {self.emit(f'icmp ult i64 {k}, {many}')}, label %{label}.body, label %{label}.end")
        self.lines.append(f"{label}.body:")
        at = self.emit(f"getelementptr [{size * self.width} x i8], ptr {place}, i64 {k}")
        old = self.emit(f"load {kind}, ptr {at}, align {size}")
        self.do(f"store {kind} {self.chosen(kind, self.mask, 'zeroinitializer', old)}, ptr {at}, align {size}")
        self.do(f"store i64 {self.emit(f'add i64 {k}, 1')}, ptr {slot}")
        self.do(f"br label %{label}")
        self.lines.append(f"{label}.end:")

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
        bits = self.emit(f"bitcast {self.flags} {self.mask} to i{self.width}")
        passed += [f"ptr {slot}", f"i64 {self.emit(f'zext i{self.width} {bits} to i64')}"]
        function = self.emit(f"inttoptr i64 {self.uniform(address, 'i64')} to ptr")
        failed = self.emit(f"call i64 {function}({', '.join(passed)})")
        lanes = self.emit(f"bitcast i{self.width} {self.emit(f'trunc i64 {failed} to i{self.width}')} to {self.flags}")
        self.define(made, self.emit(f"zext {self.flags} {lanes} to {self.vector('i64')}"))
