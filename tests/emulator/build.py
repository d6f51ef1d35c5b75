"""Make a program of a kernel's IR: merge, simplify, check every access, make coroutines, compile."""

import re
from dataclasses import dataclass

import llvmlite.binding as llvm

from . import ir, ptx, races

CACHE_BYTES = 24  # of what each place in the kernel remembers of the memory it touched last


_SUSPENSION = re.compile(r"  (?:tail )?call void @emu\.suspend\(i32 (?:noundef )?(\S+), i32 (?:noundef )?(\S+)\)")


@dataclass
class Site:
    """A place in the kernel that accesses memory, or waits."""

    kind: str  # load, store, observe (a volatile or atomic load), atomic, or what it waits at
    size: int = 0
    align: int = 1
    local: int = 0  # the size of the thread's own array that it accesses
    line: str = ""  # of the source

    @property
    def word(self):
        return "load" if self.kind == "observe" else self.kind


def machine():
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = llvm.get_host_cpu_features().flatten()
    return llvm.Target.from_default_triple().create_target_machine(
        opt=1, jit=True, cpu=llvm.get_host_cpu_name(), features=features
    )


def _builder(machine, level):
    options = llvm.create_pipeline_tuning_options(level)
    options.loop_vectorization = options.slp_vectorization = options.loop_unrolling = False
    return llvm.create_pass_builder(machine, options)


def simplified(texts, machine):
    """One module with everything merged into the kernel, local variables in registers, every value named; as text."""
    module = llvm.parse_assembly(texts[0])
    module.triple, module.data_layout = llvm.get_process_triple(), str(machine.target_data)
    for text in texts[1:]:
        other = llvm.parse_assembly(text)
        other.triple, other.data_layout = module.triple, module.data_layout
        module.link_in(other)
    module.verify()
    passes = llvm.create_new_module_pass_manager()
    passes.add_always_inliner_pass()
    passes.add_global_dead_code_eliminate_pass()
    for _ in range(2):
        passes.add_sroa_pass()
        passes.add_instruction_combine_pass()
        passes.add_simplify_cfg_pass()
    passes.add_aggressive_dce_pass()
    passes.add_simplify_cfg_pass()
    passes.add_global_dead_code_eliminate_pass()
    passes.add_instruction_namer_pass()
    passes.run(module, _builder(machine, 1))
    return str(module)


def link(text, machine):
    """Compile the finished program."""
    module = llvm.parse_assembly(text)
    module.triple, module.data_layout = llvm.get_process_triple(), str(machine.target_data)
    module.verify()
    builder = _builder(machine, 1)
    builder.getModulePassManager().run(module, builder)
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    return engine


class Instrument:
    """The text of a simplified kernel, rewritten: checks before accesses, suspensions, a coroutine around it."""

    def __init__(self, text, kernel, known, cache):
        """`known`: ranges of addresses that the emulator itself uses; `cache`: of the sites, by number."""
        self.strings = ir.Mask()
        self.text = self.strings.hide(text)
        self.kernel, self.known, self.cache = kernel, known, cache
        self.sites, self.definitions = [], {}
        self.granule = 16  # bytes: every access is to a whole number of them
        self.chains = False  # whether some threads wait for each other, not all of the block
        self.metadata = dict(re.findall(r"^!(\d+) = (.*)$", self.text, flags=re.M))
        self.labels = {}  # of a block that was cut: the label of its last piece

    def program(self):
        text = re.sub(r"^(![^\n]*|attributes #[^\n]*|; .*)$", "", self.text, flags=re.M)
        text = re.sub(r"(?<=[)\w]) #\d+(?=[ ,{\n])", "", text)
        text = re.sub(r"^(define .*?)( ![\w.]+ ![\w.]+)+ \{$", r"\1 {", text, flags=re.M)
        text = re.sub(r"^  #dbg_.*$\n", "", text, flags=re.M)
        functions = re.findall(r"^define [^@]*@(\S+?)\(", text, flags=re.M)
        others = [self.strings.show(f) for f in functions if self.strings.show(f).strip('"') != self.kernel]
        if others:
            raise NotImplementedError(f"functions that are not merged into the kernel: {others}")
        found = re.search(r"^define [^@]*@\S+?\((.*)\)[^)]*\{\n(.*?)^\}$", text, flags=re.M | re.S)
        head, body = found[1], found[2]
        self.arguments = [ir.type_of(part) for part in ir.split(head)]
        names = [part.split()[-1] for part in ir.split(head)]
        parameters = ", ".join(f"{kind} {name}" for kind, name in zip(self.arguments, names, strict=True))
        body = self._rewrite(body)
        before, after = text[: found.start()], text[found.end() :]
        return self.strings.show(
            f"{before}\n{self._coroutine(parameters, body)}\n{after}\n{_DECLARATIONS}\n{self._driver()}"
        )

    def layout(self):
        """What has to be remembered of accesses."""
        atomics = any(site.kind == "atomic" for site in self.sites)
        return races.Layout(self.granule.bit_length() - 1, atomics, self.chains)

    def constants(self):
        """(name, bytes, writable) of the variables of the module."""
        found = re.findall(r"^@(\S+) = ([^\n]*?)\b(global|constant) ([^\n]*)$", self.text, flags=re.M)
        out = []
        for name, linkage, kind, rest in found:
            if "external" in linkage or self.strings.show(name).strip('"').startswith("llvm."):
                continue
            out.append((self.strings.show(name).strip('"'), ir.size_of(_first_type(rest)), kind == "global"))
        return out

    def _rewrite(self, body):
        found = [re.fullmatch(r"(.*?)((?:, ![\w.]+ ![\w.]+)*)", line) for line in body.splitlines()]
        lines, notes = [f[1] for f in found], [f[2] for f in found]
        for line in lines:
            if found := re.match(r"  (%\S+) = (.*)$", line):
                self.definitions[found[1]] = found[2]
        out, self.block, allocations = [], None, []
        if not re.match(r"[^\s:]+:", lines[0]):
            lines.insert(0, "emu.first:")
            notes.insert(0, "")
        entry = lines[0].split(":")[0]
        for line, note in zip(lines, notes, strict=True):
            self.note = note
            if found := re.match(r"([^\s:]+):", line):
                self.block = found[1]
                out.append(f"{found[1]}:")
            elif self.block == entry and re.match(r"  %\S+ = alloca ", line):
                allocations.append(line)
            elif line.strip() == "ret void":
                out.append("  br label %emu.finish")
            elif found := _SUSPENSION.match(line):
                self._suspend(out, found[1], found[2])
            else:
                for check in self._checks(line):
                    self._cut(out, check)
                out.append(line)
        out[1:1] = allocations
        body = "\n".join(out)
        label = re.compile(r"(\[ [^\n]*?, )%(\S+)( \])")

        def renamed(match):
            return label.sub(lambda m: f"{m[1]}%{self.labels.get(m[2], m[2])}{m[3]}", match[0])

        return re.sub(r"^  %\S+ = phi .*$", renamed, body, flags=re.M)

    def _site(self, *values):
        self.sites.append(Site(*values, line=self._line()))
        return len(self.sites) - 1

    def _line(self):
        """The place in the source that the present instruction comes from."""
        number = re.search(r"!dbg !(\d+)", self.note)
        node = self.metadata.get(number[1]) if number else None
        if node is None:
            return ""
        line, scope = re.search(r"line: (\d+)", node), re.search(r"scope: !(\d+)", node)
        file = re.search(r"file: !(\d+)", self.metadata.get(scope[1], "")) if scope else None
        name = re.search(r"filename: (\S+?)[,)]", self.metadata.get(file[1], "")) if file else None
        return f"{self.strings.show(name[1])[1:-1] if name else '?'}:{line[1]}" if line else ""

    def _suspend(self, out, kind, mask):
        n = self._site(ptx.NAMES[int(kind)])
        self.chains |= kind == str(ptx.SYNC) or (kind == str(ptx.BARRIER) and mask == ptx.SOME)
        out.append(f"  call void @emu.arrive(i32 {kind}, i32 {mask}, i32 {n})")
        out.append(f"  %emu.s{n} = call i8 @llvm.coro.suspend(token none, i1 false)")
        out.append(f"  switch i8 %emu.s{n}, label %emu.return [ i8 0, label %emu.k{n} i8 1, label %emu.return ]")
        out.append(f"emu.k{n}:")
        self.labels[self.block] = f"emu.k{n}"

    def _cut(self, out, check):
        n, call = check
        out.append(f"  %emu.c{n} = {call}")
        out.append(f"  br i1 %emu.c{n}, label %emu.k{n}, label %emu.finish")
        out.append(f"emu.k{n}:")
        self.labels[self.block] = f"emu.k{n}"

    def _checks(self, line):
        """(site, the call that checks) for each access of an instruction."""
        code = line.strip()
        code = code.split(" = ", 1)[1] if re.match(r"%\S+ = ", code) else code
        first = code.split(" ", 1)[0]
        if first not in ("load", "store", "atomicrmw", "cmpxchg") and "@llvm.mem" not in code:
            return
        if "@llvm.mem" in code:
            arguments = ir.split(re.search(r"@llvm\.mem\S*?\((.*)\)", code)[1])
            pointers = [(arguments[0], "store")] + ([] if "memset" in code else [(arguments[1], "load")])
            for operand, kind in pointers:
                align = int((re.search(r"align (\d+)", operand) or [0, 1])[1])
                pointer = operand.split(f"align {align} ")[-1].removeprefix("ptr ")
                yield from self._check(pointer, kind, arguments[2], align)
            return
        rest = re.sub(r"^(atomic |volatile |weak )*", "", code.split(" ", 1)[1])
        if first == "atomicrmw":
            rest = re.sub(r"^\w+ (volatile )?", "", rest.removeprefix("volatile "))
        parts = ir.split(rest)
        align = int(re.fullmatch(r"align (\d+)", next(p for p in parts if p.startswith("align ")))[1])
        place = 0 if first in ("atomicrmw", "cmpxchg") else 1
        kind = ir.type_of(parts[1] if place == 0 else parts[0])
        pointer = parts[place].removeprefix("ptr ")
        pointer = re.sub(r"( syncscope\(\S+\))?( (unordered|monotonic|acquire|release|acq_rel|seq_cst))*$", "", pointer)
        changes = first in ("atomicrmw", "cmpxchg") or code.startswith("store atomic")
        observes = code.startswith(("load atomic", "load volatile"))
        what = "atomic" if changes else "observe" if observes else first
        size = ir.size_of(kind)
        yield from self._check(pointer, what, f"i64 {size}", size if what == "atomic" else align)
        if what in ("atomic", "observe") or " volatile " in code[:20]:
            yield self._site("spin"), "call i1 @emu.spin()"

    def _check(self, pointer, kind, size, align):
        roots = set(self._roots(pointer))
        if any(self._own(root) for root in roots):
            return
        local = roots.pop() if len(roots) == 1 else ""
        allocated = self.definitions.get(local, "")
        constant_size = size.split()[-1]
        number = int(constant_size) if constant_size.isdigit() else 0
        if allocated.startswith("alloca "):
            extent = ir.size_of(ir.split(allocated.removeprefix("alloca "))[0])
            if local == pointer and number <= extent:
                return
            n = self._site(kind, number, align, extent)
            yield n, f"call i1 @emu.within(ptr {pointer}, {size}, ptr {local}, i64 {extent}, i32 {n})"
            return
        n = self._site(kind, number, align)
        cache = ptx.constant(self.cache + CACHE_BYTES * n)
        granule = number & -number if number else align
        self.granule = min(self.granule, align, granule)
        yield n, f"call i1 @emu.check.{kind}(ptr {pointer}, {size}, i64 {align - 1}, i32 {n}, ptr {cache})"

    def _roots(self, pointer, seen=()):
        """What a pointer is derived from: names of values, or constants."""
        definition = self.definitions.get(pointer)
        if pointer in seen:
            return
        seen = (*seen, pointer)
        if definition is None and pointer.startswith("getelementptr"):
            definition = re.sub(r"\((.*)\)$", r"\1", pointer)
        if definition and definition.startswith("getelementptr"):
            base = ir.split(re.sub(r"^getelementptr ((inbounds|nuw|nusw) )*", "", definition))[1]
            yield from self._roots(base.removeprefix("ptr "), seen)
        elif definition and definition.startswith("phi ptr"):
            for value in re.findall(r"\[ (.*?), %\S+ \]", definition):
                yield from self._roots(value, seen)
        elif definition and definition.startswith("select "):
            for part in ir.split(definition)[1:]:
                yield from self._roots(part.removeprefix("ptr "), seen)
        else:
            yield pointer

    def _own(self, root):
        found = re.match(r"inttoptr \(i64 (-?\d+) to ptr\)", root)
        return bool(found) and any(low <= int(found[1]) < high for low, high in self.known)

    def _coroutine(self, parameters, body):
        first, rest = body.split("\n", 1)
        allocations = re.match(r"(  %\S+ = alloca [^\n]*\n)*", rest)[0]
        rest = rest[len(allocations) :]
        return f"""
define internal ptr @emu.thread({parameters}) presplitcoroutine nounwind {{
{first}
  %emu.id = call token @llvm.coro.id(i32 0, ptr null, ptr null, ptr null)
  %emu.size = call i64 @llvm.coro.size.i64()
  %emu.memory = call ptr @emu.allocate(i64 %emu.size)
  %emu.handle = call ptr @llvm.coro.begin(token %emu.id, ptr %emu.memory)
{allocations}{rest}
emu.finish:
  call void @emu.arrive(i32 {ptx.DONE}, i32 0, i32 -1)
  br label %emu.return
emu.return:
  call void @llvm.coro.end(ptr %emu.handle, i1 false, token none)
  ret ptr %emu.handle
}}"""

    def _driver(self):
        """The loop over the threads of a block that can run, in an order: `step(arguments, handles, order, count)`.

        A handle of 0 is a thread that has not begun.
        """
        slots = "\n".join(
            f"  %p{i} = getelementptr i8, ptr %arguments, i64 {16 * i}\n  %a{i} = load {kind}, ptr %p{i}"
            for i, kind in enumerate(self.arguments)
        )
        passed = ", ".join(f"{kind} %a{i}" for i, kind in enumerate(self.arguments))
        return _DRIVER.replace("SLOTS", slots).replace("PASSED", passed)


def _first_type(text):
    text = text.strip()
    if text[0] in "[{<":
        depth = 0
        for i, c in enumerate(text):
            depth += (c in "[{<") - (c in "]}>")
            if depth == 0:
                return text[: i + 1]
    return re.match(r"[\w.]+", text)[0]


_DECLARATIONS = """
declare token @llvm.coro.id(i32, ptr, ptr, ptr)
declare i64 @llvm.coro.size.i64()
declare ptr @llvm.coro.begin(token, ptr)
declare i8 @llvm.coro.suspend(token, i1)
declare void @llvm.coro.end(ptr, i1, token)
declare void @llvm.coro.resume(ptr)
"""

_DRIVER = """
define void @emu.step(ptr %arguments, ptr %handles, ptr %order, i64 %count) nounwind {
entry:
SLOTS
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %step ]
  %more = icmp ult i64 %i, %count
  br i1 %more, label %body, label %end
body:
  %o = getelementptr i32, ptr %order, i64 %i
  %t = load i32, ptr %o
  %w = zext i32 %t to i64
  %runs = call i1 @emu.enter(i32 %t)
  br i1 %runs, label %run, label %step
run:
  %h = getelementptr ptr, ptr %handles, i64 %w
  %handle = load ptr, ptr %h
  %begun = icmp ne ptr %handle, null
  br i1 %begun, label %resume, label %begin
begin:
  %new = call ptr @emu.thread(PASSED)
  store ptr %new, ptr %h
  br label %after
resume:
  call void @llvm.coro.resume(ptr %handle)
  br label %after
after:
  %failed = call i1 @emu.failed()
  br i1 %failed, label %end, label %step
step:
  %next = add i64 %i, 1
  br label %loop
end:
  ret void
}
"""
