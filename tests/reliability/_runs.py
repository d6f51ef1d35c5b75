"""Python in a process of its own, with the streams, the variables and the user that a trial wants."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
NOTICE = "Compiling kernels (once; later runs load them) ..."
_SIGNS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_OURS = ("PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TERM", "LC_ALL")


class Ran(NamedTuple):
    """How a process ended."""

    code: int
    out: bytes
    errors: str

    def unlike(self, code: int, told: str = "") -> str:
        """What is wrong with it: another exit code, or more than `told` on standard error; nothing if all is well."""
        errors = [line for line in self.errors.splitlines() if line.strip() not in ("", NOTICE)]
        errors = [line for line in errors if not line.startswith(("usage:", " "))]
        if self.code != code:
            return f"exit code {self.code}, not {code}: {' | '.join(errors[-2:])}"
        if told and not any(told in line for line in errors):
            return f"{told!r} is not told: {' | '.join(errors[-2:])}"
        return "" if len(errors) <= bool(told) else f"more on standard error: {' | '.join(errors[-3:])}"


def variables(**changes: str | None) -> dict[str, str]:
    """The environment, without what a terminal or a developer adds; None takes a variable away."""
    env = {name: value for name, value in os.environ.items() if name not in _OURS}
    env["PYTHONPATH"] = str(ROOT)
    for name, value in changes.items():
        env.pop(name, None) if value is None else env.update({name: value})
    return env


def run(
    words: Sequence[str],
    env: Mapping[str, str],
    way: str = "pipe",
    cwd: Path = ROOT,
    seconds: float = 400.0,
    program: str = sys.executable,
) -> Ran:
    """`python WORDS`; `way` is what its standard output is.

    "pipe", "head" (a pipe whose reader goes after a line), "gone" (before the first), "closed", "nothing" (all three
    streams are closed), "full" (a disk that is), or a number: a terminal of so many columns.
    """
    command = [program, *words]
    if way.isdigit():
        return _in_terminal(command, env, int(way), cwd, seconds)
    redirection = {"closed": ">&-", "nothing": "<&- >&- 2>&-", "full": ">/dev/full"}.get(way)
    if redirection is not None:
        command = ["sh", "-c", f'exec "$@" {redirection}', "sh", *command]
    with subprocess.Popen(
        command, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        with _killed_after(process, seconds):
            if way in ("head", "gone"):
                assert process.stdout is not None
                assert process.stderr is not None
                out = process.stdout.readline() if way == "head" else b""
                process.stdout.close()
                errors = process.stderr.read()
            else:
                out, errors = process.communicate()
        process.wait()
    return Ran(process.returncode, out, errors.decode("utf-8", "backslashreplace"))


def _in_terminal(command: list[str], env: Mapping[str, str], columns: int, cwd: Path, seconds: float) -> Ran:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with subprocess.Popen(
        command, env=dict(env), cwd=cwd, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, close_fds=True
    ) as process:
        os.close(theirs)
        parts: list[bytes] = []
        with _killed_after(process, seconds), contextlib.suppress(OSError):  # the end of a terminal is an error
            while part := os.read(ours, 65536):
                parts.append(part)
        os.close(ours)
        assert process.stderr is not None
        errors = process.stderr.read().decode("utf-8", "backslashreplace")
    return Ran(process.returncode, b"".join(parts), errors)


@contextlib.contextmanager
def _killed_after(process: subprocess.Popen, seconds: float) -> Iterator[None]:
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def shown(out: bytes) -> list[str]:
    """The lines of a terminal without its control sequences; of a line that is drawn again, each time by itself."""
    return re.split(r"[\r\n]+", _SIGNS.sub("", out.decode("utf-8", "replace")))
