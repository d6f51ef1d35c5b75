"""Each command, and calls of the library, in odd environments: exit codes, messages, and the bits of a usual one.

A trial is a command (or the calls of `_probe`) in an environment: an option of Python, variables of Python, Numba and
the terminal, or a standard output that is narrow, closed, full, or left by its reader.  What it writes must have the
bits of what it writes in the usual environment; nothing may be on standard error but one line where one is due.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import random
import re
import sysconfig
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nagd_numba.io.npz import DIGEST

from . import Result
from ._runs import Ran, run, shown, variables

ASCII = {"LC_ALL": "C", "LANG": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
FULL = "no space left on device"
NO_JIT = "the JIT is off"


class Environment(NamedTuple):
    name: str
    options: tuple[str, ...] = ()  # of Python
    env: dict[str, str] = {}  # noqa: RUF012  (nobody changes it)
    way: str = "pipe"  # what standard output is
    probe: tuple[str, ...] = ()  # options of `_probe`: those calls alone
    other: str = ""  # a pattern of the exported files that are others there
    refused: dict[str, str] = {}  # noqa: RUF012  (commands that cannot work there, and what they say)


ENVIRONMENTS = (
    Environment("python -O", ("-O",)),
    Environment("python -OO", ("-OO",), other="*.h"),  # which has descriptions from docstrings
    Environment("python -W error", ("-W", "error")),
    Environment("python -X dev", ("-X", "dev")),
    Environment("python -X dev -W error", ("-X", "dev", "-W", "error")),
    Environment("python -I", ("-I",)),
    Environment("NUMBA_DISABLE_JIT=1", env={"NUMBA_DISABLE_JIT": "1"}, refused={"export": NO_JIT}),
    Environment("NUMBA_BOUNDSCHECK=1", env={"NUMBA_BOUNDSCHECK": "1"}, other="*.o"),
    Environment("NUMBA_NUM_THREADS=1", env={"NUMBA_NUM_THREADS": "1"}),
    Environment("NUMBA_ENABLE_CUDASIM=1", env={"NUMBA_ENABLE_CUDASIM": "1"}, other="*.o"),  # other parts are inlined
    Environment("memory filled when it is freed", env={"MALLOC_PERTURB_": "165", "PYTHONMALLOC": "malloc"}),
    Environment("PYTHONHASHSEED=7", env={"PYTHONHASHSEED": "7"}),
    Environment('numpy.seterr(all="raise")', probe=("--raise",)),
    Environment("ASCII", env=ASCII),
    Environment("latin-1", env={"PYTHONIOENCODING": "latin-1"}),
    Environment("NO_COLOR", env={"NO_COLOR": "1"}),
    Environment("NO_COLOR on a terminal", env={"NO_COLOR": "1", "TERM": "xterm-256color"}, way="80"),
    Environment("a terminal of 40 columns", env={"TERM": "xterm-256color"}, way="40"),
    Environment("a terminal of 240 columns", env={"TERM": "xterm-256color"}, way="240"),
    Environment("a terminal of 40 columns in ASCII", env={"TERM": "xterm", **ASCII}, way="40"),
    Environment("a terminal without control sequences", env={"TERM": "dumb"}, way="80"),
    Environment("| head -1", way="head"),
    Environment("| true", way="gone"),
    Environment("standard output closed", way="closed"),
    Environment("all streams closed", way="nothing"),
    Environment("standard output full", way="full"),
)


class Command(NamedTuple):
    words: tuple[str, ...]  # FOLDER and DATA stand for paths
    code: int = 0
    told: str = ""  # on standard error
    writes: str = ""  # a file or folder


_SHORT = ("--data", "DATA", "--hidden", "4", "--epochs", "2", "--batch-size", "8")
COMMANDS = {
    "": Command(()),
    "--help": Command(("--help",)),
    "--version": Command(("--version",)),
    "trian": Command(("trian",), 2, "did you mean 'train'"),
    "info": Command(("info",)),
    "info --support": Command(("info", "--support")),
    "train": Command(("train", *_SHORT, "--methods", "gd,nag,adam", "--save", "FOLDER/m.npz"), writes="m.npz"),
    "train --help": Command(("train", "--help")),
    "train --data nowhere": Command(("train", "--data", "FOLDER/größe.csv"), 2, "nagd-numba train: error: "),
    "sweep": Command(
        ("sweep", *_SHORT, "--lr", "0.1,0.3", "--momentum", "0,0.9", "--json", "FOLDER/s.json"), writes="s.json"
    ),
    "sweep --help": Command(("sweep", "--help")),
    "export": Command(("export", "FOLDER/c"), writes="c"),
    "bench --help": Command(("bench", "--help")),
    "bench --only limits": Command(
        ("bench", "--only", "limits", "--seconds", "0", "--json", "FOLDER/b.json"), writes="b.json"
    ),
}
PROBE = "calls"
ONCE = ("export", "bench --only limits")  # take long, and write little: in environments that change how Python runs


def _cases() -> Iterator[tuple[Environment, str]]:
    for environment in ENVIRONMENTS:
        for name in (PROBE,) if environment.probe else (*COMMANDS, PROBE):
            if not (environment.way != "pipe" and name in (*ONCE, PROBE)):
                yield environment, name


CASES = tuple(_cases())

FIRST = (
    ("ASCII", "sweep"),
    ("python -X dev -W error", "train"),
    ("a terminal of 40 columns", "sweep"),
    ("| head -1", "train"),
)
SHORT, LONG = len(FIRST), len(CASES)


def trial(count: int, seed: int, folder: Path) -> Result:
    """Try so many commands in environments: where faults were found first, then all others in a random order."""
    first = [case for case in CASES if (case[0].name, case[1]) in FIRST]
    rest = [case for case in CASES if case not in first]
    order = [*first, *random.Random(seed).sample(rest, len(rest))]
    data = folder / "données 数.csv"
    with data.open("w", encoding="utf-8") as file:
        file.write("größe,länge,art\n")
        file.writelines(f"{i % 7}.5,{i % 5}.25,{'äb'[i % 7 > i % 5]}\n" for i in range(40))
    usual: dict[str, dict[str, str]] = {}
    lost = []
    for k, (environment, name) in enumerate(itertools.islice(itertools.cycle(order), count)):
        if name not in usual:
            usual[name], wrong = _tried(Environment("usual"), name, data, folder / f"usual {k}")
            if wrong:
                lost.append(f"nagd-numba {name}: {wrong}")
        bits, wrong = _tried(environment, name, data, folder / f"odd {k}")
        if not wrong and bits and usual[name]:
            wrong = _unlike(bits, usual[name], environment.other)
        if wrong:
            lost.append(f"{environment.name}: {'' if name == PROBE else 'nagd-numba '}{name}: {wrong}")
    free = "" if sysconfig.get_config_var("Py_GIL_DISABLED") else "free-threaded Python, which must run this command"
    return Result(f"{len(COMMANDS)} commands and calls in {len(ENVIRONMENTS)} environments", count, tuple(lost), free)


def _tried(environment: Environment, name: str, data: Path, folder: Path) -> tuple[dict[str, str], str]:
    """Digests of what it gave, by file (none where there is nothing to compare), and what is wrong with it."""
    folder.mkdir()
    env = variables(**environment.env)
    if name == PROBE:
        return _probed(environment, env)
    command = COMMANDS[name]
    given = [word.replace("FOLDER", str(folder)).replace("DATA", str(data)) for word in command.words]
    start = ["-c", f"import sys; sys.path.insert(0, {env['PYTHONPATH']!r}); from nagd_numba.cli.main import main; "]
    start[-1] += "sys.exit(main())"
    ran = run([*environment.options, *start, *given], env, environment.way)
    code, told = command.code, command.told
    if name in environment.refused:
        code, told = 2, environment.refused[name]
    if environment.way == "full" and code == 0:
        code, told = 1, FULL
    elif environment.way in ("head", "gone") and code == 0:
        code = 1 if environment.way == "gone" or ran.code == 1 else 0  # what is short is written before the reader goes
    elif environment.way == "nothing":
        told = ""
    wrong = ran.unlike(code, told)
    wrong = wrong or _unreadable(environment, name, ran)
    finished = ran.code == 0 and code == 0 and command.writes
    return (_digests(folder / command.writes) if finished and not wrong else {}), wrong


def _unlike(made: dict[str, str], usual: dict[str, str], other: str) -> str:
    """What is wrong with the digests of files, but for those that may be others."""
    found = [x for x in sorted({*made, *usual}) if made.get(x) != usual.get(x) and not fnmatch(x, other)]
    return f"other bits than usual: {', '.join(found)}" if found else ""


def _probed(environment: Environment, env: dict[str, str]) -> tuple[dict[str, str], str]:
    if environment.options == ("-I",):
        words = ["-c", f"import sys; sys.path.insert(0, {env['PYTHONPATH']!r}); "]
        words[-1] += "from tests.reliability import _probe; sys.exit(_probe.main([]))"
        ran = run([*environment.options, *words], env, "pipe")
    else:
        ran = run([*environment.options, "-m", "tests.reliability._probe", *environment.probe], env)
    return {PROBE: ran.out.decode("ascii", "replace")}, ran.unlike(0)


def _unreadable(environment: Environment, name: str, ran: Ran) -> str:
    """What is wrong with its output as text."""
    encoding = environment.env.get("PYTHONIOENCODING", "utf-8")
    try:
        ran.out.decode(encoding)
    except UnicodeDecodeError as error:
        return f"its output is not {encoding}: {error}"
    if not environment.way.isdigit():
        return "control sequences in a pipe" if b"\x1b" in ran.out else ""
    if environment.env["TERM"] == "dumb" and b"\x1b" in ran.out:
        return "control sequences on a terminal that has none"
    if "NO_COLOR" in environment.env and re.search(rb"\x1b\[[0-9;]*[34][0-8]", ran.out):
        return "colours"
    if name == "info --support":  # a table in Markdown, which is not for a terminal
        return ""
    drawn = [line for line in shown(ran.out) if re.search(r"[│┃━┏]|^[|+]", line)]
    wide = [line for line in drawn if len(line) > int(environment.way)]
    return f"a line of {len(wide[0])} columns: {wide[0]!r}" if wide else ""


def _digests(path: Path) -> dict[str, str]:
    """Those of a file, or of each file of a folder."""
    return {file.name: _digest(file) for file in (sorted(path.iterdir()) if path.is_dir() else [path])}


def _digest(file: Path) -> str:
    """Of its contents, less the times that it tells."""
    made = hashlib.blake2b(digest_size=8)
    if file.suffix == ".npz":
        with np.load(file, allow_pickle=False) as arrays:
            for name in sorted(set(arrays) - {DIGEST}):
                if not name.endswith("/seconds") and name != "source":
                    made.update(name.encode() + arrays[name].tobytes())
    elif file.suffix == ".json":
        content = json.loads(file.read_text(encoding="utf-8"))
        for name in ("seconds", "networks_per_second", "data", "date", "machine", "versions"):
            with contextlib.suppress(KeyError):
                del content[name]
        made.update(json.dumps(content, sort_keys=True).encode())
    else:
        made.update(file.read_bytes())
    return made.hexdigest()
