"""`exp` and `log` of compiled functions: ours, with the same bits alone and in lanes, in the place of C's."""

from __future__ import annotations

import functools
import re
from typing import Any

from numba import types
from numba.core.compiler_lock import global_compiler_lock

from .. import mathfuncs
from .instructions import span

_FUNCTIONS = {"exp": mathfuncs.exp, "log": mathfuncs.log}
_KINDS = {"f64": ("double", types.float64), "f32": ("float", types.float32)}
_CALLED = re.compile(r"@llvm\.(exp|log)\.(f64|f32)\(")
_DECLARED = re.compile(r"^declare .*@(llvm\.[\w.]+)\(.*$", re.M)


def substituted(text: str) -> str:
    """A module's text with our functions in it; the same text where it calls none."""
    used = sorted(set(_CALLED.findall(text)))
    if not used:
        return text
    lines = [line for line in text.splitlines() if not (line.startswith("declare") and _CALLED.search(line))]
    text = _CALLED.sub(r"@nagd_numba.\1.\2(", "\n".join(lines))
    present, definitions = set(_DECLARED.findall(text)), []
    declarations: dict[str, str] = {}
    for name, kind in used:
        definition, declared = _definition(name, kind)
        definitions.append(definition)
        declarations |= {k: v for k, v in declared.items() if k not in present}
    return "\n".join([text, *declarations.values(), *definitions])


@functools.cache
def _definition(name: str, kind: str) -> tuple[str, dict[str, str]]:
    """The function as LLVM code that calls none of ours, and the declarations of the intrinsics in it."""
    from .modules import alone
    from .target import jit

    llvm, of = _KINDS[kind]
    function: Any = _FUNCTIONS[name]
    with global_compiler_lock:
        compiled = jit(no_cfunc_wrapper=True, no_cpython_wrapper=True)(function.py_func)
        compiled.compile((of,))
        (made,) = compiled.overloads.values()
    ours = f"nagd_numba.{name}.{kind}"
    wrapper = f"""
define {llvm} @{ours}({llvm} %x) {{
  %place = alloca {llvm}
  %problem = alloca ptr
  %status = call i32 @{made.fndesc.llvm_func_name}(ptr %place, ptr %problem, {llvm} %x)
  %value = load {llvm}, ptr %place
  ret {llvm} %value
}}
"""
    text = alone(str(made.library.written) + wrapper, ours)
    begin, end = span(text, ours)
    body = text[text.index("\n", begin) : end]
    declared = {m.group(1): re.sub(r" #\d+$", "", m.group()) for m in _DECLARED.finditer(text)}
    used = {symbol: line for symbol, line in declared.items() if f"@{symbol}(" in body}
    return f"define internal {llvm} @{ours}({llvm} %x) alwaysinline {{{body}", used
