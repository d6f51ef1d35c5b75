"""Machine code as nvdisasm prints it, instruction by instruction."""

from __future__ import annotations

import re
from typing import NamedTuple

_LINE = re.compile(r"\s*/\*([0-9a-f]{4,})\*/\s+\{?\s*(?:@(!?U?P\w+)\s+)?([A-Z]\w*)((?:\.\w+)*)\s*([^;]*?)\s*;")
_LABEL = re.compile(r"(\S+):\s*$")
_OPERAND = re.compile(r"(?:\[[^\]]*\]|[^,\[])+")


class Instruction(NamedTuple):
    """One line: `@guard opcode.modifiers operands`."""

    address: int
    guard: str | None
    opcode: str
    modifiers: tuple[str, ...]
    operands: tuple[str, ...]

    def __str__(self) -> str:
        guard = f"@{self.guard} " if self.guard else ""
        return f"{self.address:#06x} {guard}{'.'.join((self.opcode, *self.modifiers))} {', '.join(self.operands)}"


class Listing(NamedTuple):
    """The instructions of a kernel and of what it calls, and the index of the instruction behind each label."""

    code: list[Instruction]
    labels: dict[str, int]

    @classmethod
    def of(cls, text: str) -> Listing:
        """From the output of `nvdisasm -c` for an image with one kernel."""
        code: list[Instruction] = []
        labels: dict[str, int] = {}
        for line in text.splitlines():
            if found := _LINE.match(line):
                address, guard, opcode, modifiers, operands = found.groups()
                parts = tuple(x.strip().replace(".reuse", "") for x in _OPERAND.findall(operands))
                named = tuple(modifiers.split(".")[1:])
                code.append(Instruction(int(address, 16), guard, opcode, named, parts))
            elif found := _LABEL.match(line):
                labels[found.group(1)] = len(code)
        return cls(code, labels)
