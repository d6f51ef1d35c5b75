"""LLVM's passes over modules, and their machine code."""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from llvmlite import binding
from llvmlite.binding import newpassmanagers
from numba.core.compiler_lock import global_compiler_lock

from .. import cache
from ..jit import cache_allowed, digest, fingerprint
from .analysis import Value
from .failures import cut
from .instructions import NAME, WORD, Unfit, read, span
from .mathematics import substituted
from .memory import Memory
from .vectorize import Vectorizer

_COUNTS = ("NRT_incref", "NRT_decref")  # of references: arrays that a function makes in lanes end with it
_LINKAGE = re.compile(r"^define (?:(?:linkonce_odr|weak_odr|weak|internal|private) )?")
_ATTRIBUTES = re.compile(r"(?: (?:#\d+|alwaysinline|noinline))*(?: !\S+ !\S+)* \{$")


def width() -> int:
    """Lanes: the float64 in a vector register of this machine."""
    features = binding.get_host_cpu_features()
    return 8 if features.get("avx512f") and features.get("avx512dq") else 4 if features.get("avx2") else 2


def machine() -> Any:
    """LLVM's view of this machine."""
    return binding.Target.from_default_triple().create_target_machine(
        cpu=binding.get_host_cpu_name(), features=features(), opt=3, jit=True, reloc="static", codemodel="jitdefault"
    )


@functools.cache
def features() -> str:
    return str(binding.get_host_cpu_features().flatten())


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
    """A module in which `entry` contains all that it called, and no loop of it is unrolled or vectorised."""
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
            if name in _COUNTS:
                lines.append(f"define internal void @{name}(ptr %x) alwaysinline {{\n  ret void\n}}")
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
    with contextlib.suppress(OSError):
        return file.read_bytes()
    made = make()
    part = file.with_suffix(f".{os.getpid()}")
    with contextlib.suppress(OSError):
        part.write_bytes(made)
        os.replace(part, file)  # whole, or not at all
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


_MEMORY = """
declare ptr @malloc(i64)
declare void @free(ptr)

define internal ptr @nagd_numba.allocate(ptr %arena, i64 %size) {
  %whole = add i64 %size, 128
  %block = call ptr @malloc(i64 %whole)
  %none = icmp eq ptr %block, null
  br i1 %none, label %out, label %made
made:
  %last = load ptr, ptr %arena
  store ptr %last, ptr %block
  store ptr %block, ptr %arena
  %address = ptrtoint ptr %block to i64
  %above = add i64 %address, 127
  %aligned = and i64 %above, -64
  %data = inttoptr i64 %aligned to ptr
  %place = getelementptr i8, ptr %block, i64 24
  store ptr %data, ptr %place
  br label %out
out:
  ret ptr %block
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
