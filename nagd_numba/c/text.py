"""What compilers read of the exported functions: a header for C and C++, a module for Fortran."""

from __future__ import annotations

import inspect
import re
import textwrap

from .._version import __version__
from ..kernels import elementwise
from .functions import DTYPES, FUNCTIONS, PREFIX, STEPS, CStep, declaration

STATUSES = {
    "OK": (elementwise.OK, "done"),
    "LENGTH": (elementwise.LENGTH, "n is negative, or larger than any memory"),
    "OVERLAP": (elementwise.OVERLAP, "arrays overlap"),
    "HYPER": (
        elementwise.HYPER,
        "a hyper-parameter or an option is out of its range, or all together out of the type's",
    ),
    "NULL": (elementwise.NULL, "a null pointer, with n > 0"),
}
_MACROS = PREFIX.upper()

_INTRODUCTION = """\
Steps of optimizers on arrays, in place: nagd_numba {version}.

Made for {made_for}.
The object file needs neither Python nor anything else but the C library and its mathematics (-lm).

Every function updates `params` and its states (all other arrays but `grads`) in one pass.  Arrays are contiguous, of n
elements, and none may overlap another; states are zeros before the first step ({prefix}fista_step: a copy of params).
They have the bits of nagd_numba's Python functions, whatever the processor.  (The powers in Adam's corrections are
those of the C library.){warning}

What is returned is 0, or else says why nothing was written:

{statuses}

The functions keep nothing between calls and work on one thread: call them from any, on parts of the arrays to use more.

Flags are 0 or not.  The usual choices and flags (the first ones; 0, and nesterov 1; no weight decay of nag) have a loop
of their own, and all others share one, which takes up to 2.5 times as long on arrays in the cache."""
_WITHOUT_FMA = """

These processors may lack an instruction for products and sums rounded once: each is a call of the C library's fma, and
a step takes eight times as long as one made for x86-64-v3."""


def header(made_for: str, without_fma: bool) -> str:
    """`nagd_numba.h`."""
    guard = f"{_MACROS}NUMBA_H"
    introduction = _INTRODUCTION.format(
        version=__version__,
        made_for=made_for,
        prefix=PREFIX,
        warning=_WITHOUT_FMA if without_fma else "",
        statuses="\n".join(f"    {_MACROS}{name:8} {code}   {said}" for name, (code, said) in STATUSES.items()),
    )
    enums = [_enum("status", {name: code for name, (code, _) in STATUSES.items()})]
    enums += [_enum(name, {f"{name}_{x}".upper(): k for k, x in enumerate(names)}) for name, names in _choices()]
    functions = []
    for step in STEPS:
        functions.append(_comment(_about(step)))
        functions += [_wrapped(f"{declaration(f'{step.name}_{suffix}')};") for suffix in DTYPES]
        functions.append("")
    parts = [
        _comment(introduction),
        f"#ifndef {guard}\n#define {guard}\n\n#include <stdint.h>\n",
        *enums,
        '\n#ifdef __cplusplus\nextern "C" {\n#endif\n',
        *functions,
        "#ifdef __cplusplus\n}\n#endif\n",
        f"#endif /* {guard} */\n",
    ]
    return "\n".join(parts)


def fortran(made_for: str) -> str:
    """`nagd_numba.f90`."""
    lines = [
        f"! Interfaces to the functions of nagd_numba.h, which describes them: nagd_numba {__version__}.",
        f"! Made for {made_for}.",
        "! Arrays are contiguous; a section with a stride would be stepped in a copy.",
        "",
        f"module {PREFIX}numba",
        "  use, intrinsic :: iso_c_binding, only: c_double, c_float, c_int, c_int64_t",
        "  implicit none",
        "  public",
        "",
    ]
    values = {name: code for name, (code, _) in STATUSES.items()}
    values |= {f"{name}_{x}".upper(): k for name, names in _choices() for k, x in enumerate(names)}
    lines += [f"  integer(c_int), parameter :: {_MACROS}{name} = {code}" for name, code in values.items()]
    for step in STEPS:
        lines += ["", f"  interface {PREFIX}{step.name}"]
        for suffix in DTYPES:
            lines += textwrap.indent(_function(f"{step.name}_{suffix}"), "    ").splitlines()
        lines.append("  end interface")
    return "\n".join([*lines, f"end module {PREFIX}numba", ""])


def _function(name: str) -> str:
    step, dtype = FUNCTIONS[name]
    real = "real(c_float)" if dtype.itemsize == 4 else "real(c_double)"
    types = {
        "written": f"{real}, intent(inout) ::",
        "read": f"{real}, intent(in) ::",
        "length": "integer(c_int64_t), value ::",
        "whole": "integer(c_int64_t), value ::",
        "real": "real(c_double), value ::",
        "choice": "integer(c_int), value ::",
        "flag": "integer(c_int), value ::",
    }
    whole = f"{PREFIX}{name}"
    names = textwrap.fill(", ".join(step.parameters), 90).replace("\n", " &\n    ")
    lines = [
        f'integer(c_int) function {whole}( &\n    {names}) &\n    bind(c, name="{whole}")',
        "  import :: c_double, c_float, c_int, c_int64_t",
        *(f"  {types[kind]} {x}{'(*)' if kind in ('written', 'read') else ''}" for x, kind in step.parameters.items()),
        f"end function {whole}",
    ]
    return "\n".join(lines)


def _choices() -> list[tuple[str, tuple[str, ...]]]:
    return [pair for step in STEPS for pair in step.choices.items()]


def _about(step: CStep) -> str:
    """What the public step says of itself and of its parameters, and what these are in C."""
    described = (inspect.getdoc(step.step) or "").replace("`", "")
    said, _, rest = described.partition("\nParameters\n")
    meanings = _meanings(rest.partition("\nReturns\n")[0])
    told: dict[str, list[str]] = {}
    for name, kind in step.parameters.items():
        meaning = meanings.get(name, "Elements of each array.")
        if kind in ("written", "read"):
            meaning = re.split("[;:,]", meaning)[0] + "."
        elif kind == "choice":
            names = ", ".join(f"{_MACROS}{name}_{x}".upper() for x in step.choices[name])
            meaning += f"  One of {names}."
        told.setdefault(meaning, []).append(name)
    lines = [
        textwrap.fill(f"{', '.join(names):13} {meaning}", 112, initial_indent="    ", subsequent_indent=18 * " ")
        for meaning, names in told.items()
    ]
    return "\n".join([said.rstrip(), "", *lines])


def _meanings(described: str) -> dict[str, str]:
    """The parameters in a docstring, and what it says of each."""
    found = re.findall(r"^(\w[\w, ]*) : .*\n((?: +.*\n?)+)", described, flags=re.MULTILINE)
    return {
        name: re.sub(r"  By default[^.]*\.", "", re.sub(r"\n *", " ", meaning.strip()))
        for names, meaning in found
        for name in names.split(", ")
    }


def _comment(said: str) -> str:
    return "\n".join(["/*", *(f" * {line}".rstrip() for line in said.splitlines()), " */"])


def _enum(name: str, values: dict[str, int]) -> str:
    return _wrapped(f"enum {PREFIX}{name} {{ {', '.join(f'{_MACROS}{x} = {code}' for x, code in values.items())} }};")


def _wrapped(code: str) -> str:
    """A declaration in lines that end after a parameter."""
    whole = re.sub(r"(?<!,) ", "\0", code)
    return textwrap.fill(whole, 118, subsequent_indent="    ", break_on_hyphens=False).replace("\0", " ")
