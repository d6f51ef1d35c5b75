"""The machine code of a CUDA kernel as it is shipped, as text and in numbers.

Needs no driver: `Kernel.image` is linked by nvJitLink, and read by cuobjdump and nvdisasm (pip wheels).
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sysconfig
import tempfile
from pathlib import Path
from typing import NamedTuple

Capability = tuple[int, int]


class Code(NamedTuple):
    """A kernel's machine code in numbers."""

    registers: int
    shared: int  # bytes, without those that the launch gives
    spills: int  # bytes of stack and local memory, and instructions that use them
    wide_loads: int  # of 16 bytes or more, from the device's memory
    wide_stores: int
    generic: int  # accesses that find out which kind of memory it is: slower, and not needed
    wide_shared: int  # loads and stores of 16 bytes in shared memory
    fma: int
    instructions: int


def arch(capability: Capability) -> str:
    """NVIDIA's name of an architecture."""
    return f"sm_{capability[0]}{capability[1]}"


def tool(name: str) -> str | None:
    """The path of one of NVIDIA's programs."""
    for root in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        for found in Path(root, "nvidia").glob(f"*/bin/{name}*"):
            if found.stem == name:
                return str(found)
    return shutil.which(name)


def missing() -> str | None:
    """What to install before machine code can be read."""
    absent = [f"nvidia-cuda-{name}" for name in ("cuobjdump", "nvdisasm") if tool(name) is None]
    return f"{' and '.join(absent)} not installed: pip install '.[dev]'" if absent else None


def read(image: bytes) -> Code:
    """The numbers of an image with one kernel."""
    usage, opcodes = _said_of(image, "cuobjdump", "-res-usage"), instructions(image)
    resources = {name: int(value) for name, value in re.findall(r"\b(REG|STACK|SHARED|LOCAL):(\d+)", usage)}
    assert len(resources) == 4, usage

    def count(pattern: str) -> int:
        return sum(re.fullmatch(pattern, opcode) is not None for opcode in opcodes)

    return Code(
        registers=resources["REG"],
        shared=resources["SHARED"],
        spills=resources["STACK"] + resources["LOCAL"] + count(r"(LDL|STL)(\..*)?"),
        wide_loads=count(r"LDG?\.(.*\.)?(128|256)(\..*)?"),
        wide_stores=count(r"STG?\.(.*\.)?(128|256)(\..*)?"),
        generic=count(r"(LD|ST)(\..*)?"),
        wide_shared=count(r"(LDS|STS)\.(.*\.)?128(\..*)?"),
        fma=count(r"(FFMA|DFMA)(\..*)?") + 2 * count(r"FFMA2(\..*)?"),  # two in one
        instructions=len(opcodes) - count("NOP"),
    )


def disassembled(image: bytes) -> str:
    """The machine code of an image as text."""
    return _said_of(image, "nvdisasm", "-c")


def instructions(image: bytes) -> list[str]:
    """The opcodes of an image with one kernel, with their modifiers, in order."""
    listing = disassembled(image)
    opcodes = re.findall(r"^\s*/\*[0-9a-f]{4,}\*/\s+\{?\s*(?:@!?U?P\w+\s+)?([A-Z]\w*(?:\.\w+)*)", listing, re.MULTILINE)
    assert "EXIT" in opcodes, listing[:1000]
    return opcodes


def _said_of(image: bytes, name: str, *arguments: str) -> str:
    program = tool(name)
    assert program is not None, missing()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kernel.cubin")
        path.write_bytes(image)
        done = subprocess.run([program, *arguments, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
