"""Calls at different places of a function become one."""

from __future__ import annotations

import re

from .analysis import EVALUATE
from .instructions import WORD, span
from .modules import passed

SITE = "evaluate.site"  # the block of the call
_CALL = re.compile(rf"^  (%{WORD}) = (?:tail )?call i64 {re.escape(EVALUATE)}\(i8 (?:\w+ )*(\S+)\).*$")
_LABEL = re.compile(rf"^({WORD}):")
_COMES_FROM = re.compile(rf", %({WORD}) \]")
_SLOTS = {"wanted": "i8", "from": "i32", "result": "i64"}


def merged(text: str, entry: str) -> str:
    """The module with one call of `EVALUATE`, in the block `SITE`, from where each lane goes on where it came from.

    So lanes that are at different calls are evaluated together.
    """
    begin, end = span(text, entry)
    body, count = _apart(text[begin:end])
    text = passed(text[:begin] + body + text[end:], "register_to_memory")
    begin, end = span(text, entry)
    text = text[:begin] + _through_one(text[begin:end], count) + text[end:]
    return passed(text, "sroa", "instruction_combine", "simplify_cfg", "aggressive_dce")


def _apart(text: str) -> tuple[str, int]:
    """Each call in a block of its own, named `site.` and its number; and how many there are."""
    lines: list[str] = []
    tails: dict[str, str] = {}  # where a block ends that was cut
    block, count = "", 0
    for line in text.splitlines():
        label = _LABEL.match(line)
        block = label.group(1) if label else block
        lines.append(line)
        if _CALL.match(line):
            lines[-1:] = [f"  br label %site.{count}", f"site.{count}:", line, f"  br label %after.{count}"]
            lines.append(f"after.{count}:")
            tails[block] = f"after.{count}"
            count += 1

    def cut(found: re.Match) -> str:
        return f", %{tails.get(found.group(1), found.group(1))} ]"

    return "\n".join(_COMES_FROM.sub(cut, line) if " = phi " in line else line for line in lines), count


def _through_one(text: str, count: int) -> str:
    """The function whose calls stand apart, and whose values are in memory where blocks end."""
    lines: list[str] = []
    site = ""
    for line in text.splitlines():
        label, call = _LABEL.match(line), _CALL.match(line)
        site = label.group(1).partition(".")[2] if label else site
        if call:
            result, wanted = call.groups()
            lines += [
                f"  store i8 {wanted}, ptr %evaluate.wanted",
                f"  store i32 {site}, ptr %evaluate.from",
                f"  br label %{SITE}",
                f"return.{site}:",
                f"  {result} = load i64, ptr %evaluate.result",
            ]
        else:
            lines.append(line)
    first = next(k for k, line in enumerate(lines) if k > 0 and not _LABEL.match(line))
    lines[first:first] = [f"  %evaluate.{name} = alloca {kind}" for name, kind in _SLOTS.items()]
    cases = " ".join(f"i32 {k}, label %return.{k}" for k in range(count))
    lines[-1:] = [
        f"{SITE}:",
        "  %evaluate.asked = load i8, ptr %evaluate.wanted",
        f"  %evaluate.made = call i64 {EVALUATE}(i8 %evaluate.asked)",
        "  store i64 %evaluate.made, ptr %evaluate.result",
        "  %evaluate.back = load i32, ptr %evaluate.from",
        f"  switch i32 %evaluate.back, label %evaluate.nowhere [ {cases} ]",
        "evaluate.nowhere:",
        "  unreachable",
        "}",
    ]
    return "\n".join(lines)
