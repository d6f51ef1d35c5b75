"""The code blocks of a page of the documentation, as one program: `python -m tests.helpers.code_blocks PAGE [FOLDER]`.

A page's blocks run one after another in one process, in an empty folder: Python in one namespace, `sh` as commands.
What stands in a comment of Markdown on the line before a block says what else it is:

    <!-- file: NAME -->        the block is written to a file of that name
    <!-- not run: REASON -->   it is not run
    <!-- run -->, <!-- test --> one of the two commands that `.ci/run` runs

A line `# needs NAME` in a block names a module or a command, or CUDA (Numba's simulator is enough): without it the
block is left out, and the whole page where it is its first block.  Run as a program this leaves the pictures that a
page draws in FOLDER.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"(?:^<!-- (?P<mark>[^\n]*?) -->\n)?^```(?P<language>\S*)[^\n]*\n(?P<text>.*?)^```$", re.M | re.S)
NO_CODE = ("", "text", "math")  # output, drawings of folders, formulas; and directives, in braces


class Block(NamedTuple):
    """A block, and where it begins."""

    line: int
    language: str
    mark: str
    text: str


def blocks(page: Path) -> list[Block]:
    """The blocks of code on a page."""
    text = page.read_text(encoding="utf-8")
    found = [
        Block(text.count("\n", 0, x.start("text")) + 1, x["language"], x["mark"] or "", x["text"])
        for x in BLOCK.finditer(text)
    ]
    return [x for x in found if x.mark.startswith("file") or not (x.language in NO_CODE or x.language[0] == "{")]


def missing(block: Block) -> list[str]:
    """What a block needs and is not here."""
    needed = re.findall(r"^# needs (.+)", block.text, flags=re.MULTILINE)
    names = {name for line in needed for name in re.findall(r"[\w.]+", line.partition("(")[0])} - {"and"}
    return sorted(name for name in names if not _there(name))


def _there(name: str) -> bool:
    if name == "CUDA":
        from nagd_numba.gpu.driver import why_no_cuda
        from nagd_numba.kernels.jit import SIMULATOR

        return SIMULATOR or why_no_cuda() is None
    return importlib.util.find_spec(name) is not None or shutil.which(name, path=_path()) is not None


def _path(*before: str) -> str:
    return os.pathsep.join([*before, str(Path(sys.executable).parent), os.environ.get("PATH", "")])


def program(page: Path) -> str:
    """The page as a Python program; raises ValueError for a block of which it cannot be told what it is."""
    parts = ["import pathlib as _pathlib, subprocess as _subprocess"]
    for block in blocks(page):
        kind, _, rest = block.mark.partition(": ")
        if kind in ("run", "test") or (kind == "not run" and rest) or missing(block):
            continue
        if kind == "file":
            parts.append(f"_pathlib.Path({rest!r}).write_text({block.text!r}, encoding='utf-8')")
        elif block.language == "python":
            parts.append(f"# {page.name}, line {block.line}\n{block.text}")
        elif block.language == "sh":
            parts.append(f"_subprocess.run(['bash', '-ec', {block.text!r}], check=True)  # line {block.line}")
        else:
            raise ValueError(f"{page}, line {block.line}: what is a block of {block.language!r} without a mark?")
    return "\n".join(parts)


def run(page: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the blocks of a page in a folder, with this package and its command first."""
    commands = folder / ".commands"
    commands.mkdir()
    for name, arguments in (("python", ""), ("nagd-numba", " -m nagd_numba")):
        (commands / name).write_text(f'#!/bin/sh\nexec "{sys.executable}"{arguments} "$@"\n')
        (commands / name).chmod(0o755)
    script = folder / f"{page.stem}_page.py"
    script.write_text(program(page), encoding="utf-8")
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    environment = {**os.environ, "PYTHONPATH": paths, "PATH": _path(str(commands)), "MPLBACKEND": "agg"}
    return subprocess.run(
        [sys.executable, script.name], cwd=folder, env=environment, capture_output=True, text=True, timeout=280,
        check=False,
    )  # fmt: skip


def main() -> int:
    page = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        done = run(page, Path(folder))
        print(done.stdout + done.stderr, end="")
        for picture in Path(folder).glob("*.png") if len(sys.argv) > 2 and not done.returncode else ():
            shutil.copy(picture, sys.argv[2])
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
