"""LLVM's passes over modules, and their machine code."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from llvmlite import binding
from llvmlite.binding import newpassmanagers
from numba.core.compiler_lock import global_compiler_lock

from .. import cache, cached_files
from ..jit import cache_allowed, digest, fingerprint
from ..processor import processor
from . import order
from .analysis import Value
from .failures import cut
from .instructions import NAME, WORD, Unfit, read, span
from .mathematics import substituted
from .memory import ALLOCATORS, COUNTS, Memory
from .vectorize import Vectorizer

_NOT_COUNTED = "define internal void @{}(ptr %x) alwaysinline {{\n  ret void\n}}"
_COUNTED = "declare void @{}(ptr captures(none)) nounwind willreturn memory(argmem: readwrite)"
_LINKAGE = re.compile(r"^define (?:(?:linkonce_odr|weak_odr|weak|internal|private) )?")
_ATTRIBUTES = re.compile(r"(?: (?:#\d+|alwaysinline|noinline))*(?: !\S+ !\S+)* \{$")


def width() -> int:
    """Lanes: the float64 in one of its vector registers."""
    features = set(processor()[1].split(","))
    return 8 if features >= {"+avx512f", "+avx512dq"} else 4 if "+avx2" in features else 2


def machine() -> Any:
    """LLVM's view of it."""
    name, features = processor()
    return binding.Target.from_default_triple().create_target_machine(
        cpu=name, features=features, opt=3, jit=True, reloc="static", codemodel="jitdefault"
    )


def _builder(level: int, unroll: bool) -> Any:
    options = newpassmanagers.PipelineTuningOptions(level)
    options.loop_vectorization = options.slp_vectorization = options.loop_interleaving = False
    options.loop_unrolling = unroll
    return newpassmanagers.create_pass_builder(machine(), options)


def _optimized(text: str, level: int, unroll: bool) -> Any:
    module = binding.parse_assembly(text)
    module.verify()
    builder = _builder(level, unroll)
    builder.getModulePassManager().run(module, builder)
    return module


def passed(text: str, *names: str) -> str:
    """A module after some passes of LLVM."""
    module, builder = binding.parse_assembly(text), _builder(2, False)
    for name in names:
        passes = newpassmanagers.create_new_module_pass_manager()
        getattr(passes, f"add_{name}_pass")()
        passes.run(module, builder)
    return str(module)


def alone(text: str, entry: str) -> str:
    """A module in which `entry` contains all that it called, and no loop of it is unrolled or vectorised.

    References to arrays are counted where arrays are made in loops.  Others end with the function.
    """
    made = _alone(text, entry, _NOT_COUNTED)
    blocks = read(made, entry).blocks
    loops = order.arranged(blocks, next(iter(blocks)))[1]
    in_loops = (call for loop in loops for name in loop.members for call in blocks[name].body if call.op == "call")
    if any(call.detail in ALLOCATORS for call in in_loops):
        made = passed(_alone(text, entry, _COUNTED), "refprune")
    return made


def _alone(text: str, entry: str, counting: str) -> str:
    lines: list[str] = []
    skipped = False
    for line in substituted(text).splitlines():
        if skipped:
            skipped = line != "}"
            continue
        if line.startswith("attributes "):
            continue
        defined = re.match(rf"^define .*?@({WORD})\(", line)
        if defined:
            name = defined.group(1).strip('"')
            if f"@{name}" in COUNTS:
                lines.append(counting.format(name))
                skipped = True
                continue
            inlined = "" if name == entry else " alwaysinline"
            line = _ATTRIBUTES.sub(f'{inlined} "no-builtins" {{', line)  # no loop becomes a call of memset
            line = line if name == entry else _LINKAGE.sub("define internal ", line)
        lines.append(re.sub(r" #\d+$", "", line))
    return str(_optimized("\n".join(lines), 2, False))


def specialized(text: str, entry: str, constants: Mapping[str, str], unroll: bool) -> str:
    """The module for arguments of `entry` that are known."""
    begin, end = span(text, entry)
    head = text.index("\n", begin)
    body = re.sub(NAME, lambda found: constants.get(found.group(), found.group()), text[head:end])
    return str(_optimized(text[:head] + body + text[end:], 2, unroll))


def in_lanes(
    text: str,
    entry: str,
    arguments: list[Memory | Value],
    lanes: int,
    headers: tuple[str, ...] = (),
    trusted: bool = False,
) -> bytes:
    """Machine code of a module with the function `lanes`, which is `entry` for so many; raises Unfit."""
    function = cut(read(text, entry))
    kinds = dict(zip([name for _, name in function.arguments], arguments, strict=True))
    head = [line for line in text.splitlines() if line.startswith(("target ", "@")) and "NumbaEnv" not in line]
    wide = Vectorizer(function, kinds, lanes, headers, trusted).text()
    try:
        module = _optimized("\n".join([*head, wide, _MEMORY]), 3, True)
    except RuntimeError as error:  # LLVM refuses something that nobody thought of
        raise Unfit(f"LLVM code: {error}") from error
    return bytes(machine().emit_object(module))


def kept(name: str, make: Callable[[], bytes], *details: str) -> bytes:
    """What `make` makes, or what it made in another process: kept on disk under the name and all that it depends on."""
    folder = cache.folder(fingerprint()) if cache_allowed() else None
    if folder is None:
        return make()
    file = folder / f"{name}_{digest(*details)}.lanes"
    made = cached_files.read(file)
    if made is None:
        made = make()
        cached_files.write(file, made)
    return made


class Loaded(NamedTuple):
    """Machine code in memory, as long as this is kept."""

    address: int
    engine: Any


def loaded(code: bytes) -> Loaded:
    """The function `lanes` of machine code."""
    with global_compiler_lock:
        engine = binding.create_mcjit_compiler(binding.parse_assembly(""), machine())
        engine.add_object_file(binding.ObjectFileRef.from_data(code))
        engine.finalize_object()
        return Loaded(int(engine.get_function_address("lanes")), engine)


# A block: where the one made before it is, and the place that says where it is itself; at 24 where its data begin, as
# Numba has it; from 32 on, of each lane, the references to it.
_MEMORY = """
declare ptr @malloc(i64)
declare void @free(ptr)

define internal ptr @nagd_numba.allocate(ptr %arena, i64 %size, i64 %lanes) {
  %whole = add i64 %size, 128
  %block = call ptr @malloc(i64 %whole)
  %none = icmp eq ptr %block, null
  br i1 %none, label %out, label %made
made:
  %last = load ptr, ptr %arena
  store ptr %last, ptr %block
  store ptr %block, ptr %arena
  %own = getelementptr i8, ptr %block, i64 8
  store ptr %arena, ptr %own
  %first = icmp eq ptr %last, null
  br i1 %first, label %alone, label %linked
linked:
  %other = getelementptr i8, ptr %last, i64 8
  store ptr %block, ptr %other
  br label %alone
alone:
  %address = ptrtoint ptr %block to i64
  %above = add i64 %address, 127
  %aligned = and i64 %above, -64
  %data = inttoptr i64 %aligned to ptr
  %place = getelementptr i8, ptr %block, i64 24
  store ptr %data, ptr %place
  %bits = trunc i64 %lanes to i8
  %flags = bitcast i8 %bits to <8 x i1>
  %one = zext <8 x i1> %flags to <8 x i32>
  %counts = getelementptr i8, ptr %block, i64 32
  store <8 x i32> %one, ptr %counts, align 4
  br label %out
out:
  ret ptr %block
}

define internal void @nagd_numba.count(ptr %block, i64 %lanes, i32 %by) {
  %none = icmp eq ptr %block, null
  br i1 %none, label %out, label %there
there:
  %bits = trunc i64 %lanes to i8
  %flags = bitcast i8 %bits to <8 x i1>
  %first = insertelement <8 x i32> poison, i32 %by, i64 0
  %all = shufflevector <8 x i32> %first, <8 x i32> poison, <8 x i32> zeroinitializer
  %change = select <8 x i1> %flags, <8 x i32> %all, <8 x i32> zeroinitializer
  %counts = getelementptr i8, ptr %block, i64 32
  %before = load <8 x i32>, ptr %counts, align 4
  %now = add <8 x i32> %before, %change
  store <8 x i32> %now, ptr %counts, align 4
  %held = icmp ne <8 x i32> %now, zeroinitializer
  %holders = bitcast <8 x i1> %held to i8
  %kept = icmp ne i8 %holders, 0
  br i1 %kept, label %out, label %over
over:
  %last = load ptr, ptr %block
  %own = getelementptr i8, ptr %block, i64 8
  %before.it = load ptr, ptr %own
  store ptr %last, ptr %before.it
  %end = icmp eq ptr %last, null
  br i1 %end, label %apart, label %linked
linked:
  %other = getelementptr i8, ptr %last, i64 8
  store ptr %before.it, ptr %other
  br label %apart
apart:
  call void @free(ptr %block)
  br label %out
out:
  ret void
}

define internal ptr @nagd_numba.data(ptr %owner) {
  %none = icmp eq ptr %owner, null
  br i1 %none, label %out, label %made
made:
  %place = getelementptr i8, ptr %owner, i64 24
  %data = load ptr, ptr %place
  br label %out
out:
  %found = phi ptr [ null, %0 ], [ %data, %made ]
  ret ptr %found
}

define internal void @nagd_numba.release(ptr %arena) {
  br label %next
next:
  %block = load ptr, ptr %arena
  %none = icmp eq ptr %block, null
  br i1 %none, label %out, label %one
one:
  %last = load ptr, ptr %block
  store ptr %last, ptr %arena
  call void @free(ptr %block)
  br label %next
out:
  ret void
}
"""
