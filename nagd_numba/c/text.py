"""What compilers read of the exported functions: a header for C and C++, a module for Fortran."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Sequence

from .._version import __version__
from ..kernels import statuses
from .functions import PREFIX, CStep, declaration, function_of, steps

Words = tuple[str, ...]  # what steps do beside their rule

STATUSES = {
    "OK": (statuses.OK, "done"),
    "LENGTH": (statuses.LENGTH, "n is negative, or larger than any memory"),
    "OVERLAP": (statuses.OVERLAP, "arrays overlap"),
    "HYPER": (
        statuses.HYPER,
        "a hyper-parameter or an option is out of its range, or all together out of the type's",
    ),
    "NULL": (statuses.NULL, "a null pointer, with n > 0"),
    "RATES": (statuses.RATES, "a rate of an element is out of its range"),
    "BOUNDS": (statuses.BOUNDS, "lower is above upper"),
}
_MACROS = PREFIX.upper()
_LONGEST_NAME = 63  # in Fortran

_INTRODUCTION = """\
Steps of optimizers on arrays, in place: nagd_numba {version}.

Made for {made_for}.
The object file needs neither Python nor anything else but the C library and its mathematics (-lm).

Every function updates `params` and its states (all other arrays that are not const) in one pass.  Arrays are
contiguous, of n elements, and nothing may overlap an array that is written; states are zeros before the first step
({prefix}fista_step and {prefix}schedule_free_...: what is said of them).
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


# What is said of parameters that public steps have, too, and of how they are given in C.
_BESIDE = {
    "average": "The average of the parameters, updated after them: average += average_weight (params - average).",
    "mask": "Bytes: where one is 0 the element is neither read nor written in any array.",
    "lower": "The least value of an element of the iterate.",
    "upper": "The largest value of an element of the iterate.",
    "prox_weight": "The weight of the l1 norm: the iterate is soft-thresholded by the step size times it.",
    "average_weight": "From 0 to 1: 1 / k after step k makes the mean, 1 makes a copy.",
}


def header(made_for: str, without_fma: bool, composed: Sequence[Words]) -> str:
    """`nagd_numba.h`, with the steps themselves, and those that do also this."""
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
    for step in steps():
        functions += [_comment(_about(step)), *_declarations(step), ""]
    for words in composed:
        functions.append(_comment(_about_composed(words)))
        for step in steps(words):
            functions += _declarations(step)
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


def fortran(made_for: str, composed: Sequence[Words]) -> str:
    """`nagd_numba.f90`, with the same functions."""
    lines = [
        f"! Interfaces to the functions of nagd_numba.h, which describes them: nagd_numba {__version__}.",
        f"! Made for {made_for}.",
        "! Arrays are contiguous; a section with a stride would be stepped in a copy.",
        "",
        f"module {PREFIX}numba",
        "  use, intrinsic :: iso_c_binding, only: c_double, c_float, c_int, c_int64_t, c_int8_t",
        "  implicit none",
        "  public",
        "",
    ]
    constants = {name: code for name, (code, _) in STATUSES.items()}
    constants |= {f"{name}_{x}".upper(): k for name, names in _choices() for k, x in enumerate(names)}
    lines += [f"  integer(c_int), parameter :: {_MACROS}{name} = {code}" for name, code in constants.items()]
    for step in (step for words in ((), *composed) for step in steps(words)):
        if long := [name for name in step.names() if len(PREFIX + name) > _LONGEST_NAME]:
            lines += ["", f"  ! Too long for names in Fortran: {', '.join(long)}"]
            continue
        lines += ["", f"  interface {PREFIX}{'_'.join([step.name, *step.words])}"]
        for name in step.names():
            lines += textwrap.indent(_function(name), "    ").splitlines()
        lines.append("  end interface")
    return "\n".join([*lines, f"end module {PREFIX}numba", ""])


def _declarations(step: CStep) -> list[str]:
    return [_wrapped(f"{declaration(name)};") for name in step.names()]


def _function(name: str) -> str:
    step, dtype = function_of(name)
    real = "real(c_float)" if dtype.itemsize == 4 else "real(c_double)"
    types = {
        "written": f"{real}, intent(inout) ::",
        "read": f"{real}, intent(in) ::",
        "bytes": "integer(c_int8_t), intent(in) ::",
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
        "  import :: c_double, c_float, c_int, c_int64_t, c_int8_t",
        *(f"  {types[kind]} {x}{'(*)' if 'intent' in types[kind] else ''}" for x, kind in step.parameters.items()),
        f"end function {whole}",
    ]
    return "\n".join(lines)


def _choices() -> list[tuple[str, tuple[str, ...]]]:
    return [pair for step in steps() for pair in step.choices.items()]


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


def _about_composed(words: Words) -> str:
    """What steps do beside their rule, and the parameters for it."""
    lines = [f"The same steps with {', '.join(words)}; behind the other arrays and numbers are", ""]
    named = {x: "" for step in steps(words) for x in step.parameters if x in _BESIDE}
    rates = [x.removesuffix("_array") for x in words if x.endswith("_array")]
    for name in (*(x for x in rates if x not in _BESIDE), *named):
        meaning = _BESIDE.get(name, "As in the step, for each element.")
        lines.append(textwrap.fill(f"{name:15} {meaning}", 112, initial_indent="    ", subsequent_indent=20 * " "))
    return "\n".join(lines)


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
