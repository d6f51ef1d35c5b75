"""`nagd-numba export`: the steps as an object file with a header and a Fortran module, for programs without Python.

The object holds the code that `c_address` points at, compiled for a processor that is named, position independent, and
with nothing undefined but functions of the C library's mathematics.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm

from .. import validation
from ..io import atomic
from ..kernels.jit import require_jit
from . import text
from .functions import PREFIX, compiled, functions
from .parts import ordered

_LEVELS = {
    "x86-64": "every 64-bit x86 processor",
    "x86-64-v2": "SSE4.2: Intel since 2008, AMD since 2011",
    "x86-64-v3": "AVX2 and FMA: Intel since 2013, AMD since 2015",
    "x86-64-v4": "AVX-512: Intel servers since 2017, AMD since 2022",
}
_MATHEMATICS = {"sqrt"}  # what the code calls by name
_NO_FMA = ("x86-64", "x86-64-v2")


def processors() -> dict[str, str]:
    """What code can be made for here, and what that is; the default comes first."""
    triple = llvm.get_process_triple()
    here = {"host": f"this one, {llvm.get_host_cpu_name()}"}
    if not triple.startswith("x86_64"):
        return {"generic": f"every processor of {triple.split('-')[0]}"} | here
    default = "x86-64-v3"
    return {default: _LEVELS[default]} | _LEVELS | here


def compositions(given: Sequence[str]) -> list[text.Words]:
    """Of lists of words with commas, in the order of names, each once; raises for unknown words."""
    with validation.prefixed("--with"):
        return list(dict.fromkeys(ordered([x.strip() for x in words.split(",")]) for words in given))


def check(directory: str | Path, cpu: str | None) -> str:
    """The processor to make code for; raises where the files cannot be made or written.  The directory is made."""
    require_jit()
    names = list(processors())
    chosen = names[0] if cpu is None else names[validation.choice("--cpu", cpu, names)]
    folder = Path(directory)
    try:
        folder.mkdir(exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(f"{folder} is a file; the name of a directory is needed") from error
    except OSError as error:
        raise OSError(f"{folder} cannot be made: {(error.strerror or str(error)).lower()}") from error
    for path in _paths(folder):
        atomic.check_replaceable(path)
    return chosen


def write(directory: str | Path, cpu: str, composed: Sequence[text.Words] = ()) -> list[Path]:
    """Write the object, the header and the Fortran module; returns their paths.

    Beside the steps themselves they have those that also do what each of `composed` says.
    """
    made_for = f"{llvm.get_process_triple()}, processor {cpu} ({processors()[cpu]})"
    names = [name for words in ((), *composed) for name in functions(words)]
    header = text.header(made_for, cpu in _NO_FMA, composed)
    contents = (object_code(cpu, names), header.encode(), text.fortran(made_for, composed).encode())
    paths = _paths(Path(directory))
    for path, content in zip(paths, contents, strict=True):
        with atomic.replacing(path) as file:
            file.write(content)
    return paths


def object_code(cpu: str, names: Sequence[str]) -> bytes:
    """The functions of these names as one object file."""
    machine = _machine(cpu)
    module = llvm.parse_assembly("")
    module.triple, module.data_layout = machine.triple, str(machine.target_data)
    for name in names:
        module.link_in(_part(name))
    _simplify(module, machine)
    called = {f.name for f in module.functions if f.is_declaration and not f.name.startswith("llvm.")}
    if not called <= _MATHEMATICS:
        raise RuntimeError(f"the code would need {', '.join(sorted(called - _MATHEMATICS))}: please report this")
    return bytes(machine.emit_object(module))


def _machine(cpu: str) -> Any:
    target = llvm.Target.from_triple(llvm.get_process_triple())
    features = llvm.get_host_cpu_features().flatten() if cpu == "host" else ""
    name = llvm.get_host_cpu_name() if cpu == "host" else cpu
    return target.create_target_machine(name, features, opt=3, reloc="pic", codemodel="default")


def _part(name: str) -> Any:
    """A function as a module of LLVM in which nothing else can be seen from outside."""
    made = compiled(name)
    if made.cache_hits > 0:  # from the disk, where only machine code is
        made = compiled(name, inspected=True)
    module = llvm.parse_assembly(made.inspect_llvm())
    for value in (*module.functions, *module.global_variables):
        if not value.is_declaration and value.name != made.native_name:
            value.linkage = llvm.Linkage.internal
    module.get_function(made.native_name).name = PREFIX + name
    return module


def _simplify(module: Any, machine: Any) -> None:
    """Numba's wrappers report exceptions to Python; with everything inlined, LLVM sees that there are none."""
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = options.slp_vectorization = False  # that is done
    passes = llvm.create_pass_builder(machine, options)
    passes.getModulePassManager().run(module, passes)


def _paths(folder: Path) -> list[Path]:
    extension = "obj" if os.name == "nt" else "o"
    return [folder / f"nagd_numba.{x}" for x in (extension, "h", "f90")]
