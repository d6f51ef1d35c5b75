"""The cache of compiled kernels: begun by eight processes at once, damaged, removed, full, without a place.

A trial is a process (or eight) that makes some calls of `_probe` while something is wrong with its cache, before the
first call or between two.  The bits must be those of a process without a cache, its exit code 0, and its standard error
empty: nothing that goes wrong with a cache is for the user to act on.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import random
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from . import Result
from ._runs import ROOT, variables

AT_ONCE = 8
TIMES = 20  # that so many start at once
OTHERS = 3  # times each other trial
CALLS = ("bound", "rows")  # of which each has kernels of its own
_MODULE = ("-m", "tests.reliability._probe")
_NO_ENTRY = (
    "-c",
    "import pwd, sys\n"
    "def none(uid): raise KeyError(uid)\n"
    "pwd.getpwuid = none  # as it is for a number that no table of users has\n"
    "from tests.reliability import _probe; sys.exit(_probe.main(sys.argv[1:]))",
)


class _LeftOut(Exception):
    """This machine does not allow it."""


Trial = Callable[[Path, random.Random], Iterator[tuple[str, Any]]]
TRIALS: dict[str, Trial] = {}


def _trial(function: Trial) -> Trial:
    TRIALS[function.__name__.replace("_", " ")] = function
    return function


def _process(env: dict[str, Any], *words: str, start: tuple[str, ...] = _MODULE, **settings: Any) -> subprocess.Popen:
    environment = {os.fsencode(k): os.fsencode(v) for k, v in env.items()}
    command = [sys.executable, *start, *words, *CALLS]
    pipes: Any = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen(command, env=environment, **{"cwd": ROOT, **pipes, **settings})


def _ended(process: subprocess.Popen) -> tuple[str, Any]:
    """What is wrong with it, and what it gave."""
    with process:
        try:
            out, errors = process.communicate(b"\n", timeout=600)
        except subprocess.TimeoutExpired:
            process.kill()
            return "no end in 600 s", None
    if process.returncode or errors.strip():
        said = errors.decode("utf-8", "replace").strip().splitlines()
        return f"exit code {process.returncode}, standard error: {' | '.join(said[-2:])}", None
    return "", json.loads(out)


def _env(cache: Any, **changes: Any) -> dict[str, Any]:
    return {**variables(NUMBA_CACHE_DIR=None, NAGD_NUMBA_CACHE=None), "NUMBA_CACHE_DIR": cache, **changes}


def _home(**changes: Any) -> dict[str, Any]:
    return variables(**{"NUMBA_CACHE_DIR": None, "NAGD_NUMBA_CACHE": None, "XDG_CACHE_HOME": None, **changes})


def _between(env: dict[str, Any], happens: Callable[[], Any]) -> tuple[str, Any]:
    """A process between whose calls something happens."""
    process = _process(env, "--wait")
    assert process.stdout is not None
    process.stdout.readline()
    happens()
    return _ended(process)


def _files(cache: Path) -> list[Path]:
    return sorted(x for x in cache.rglob("*") if x.is_file() and x.name != "in_use")


def _filled(folder: Path) -> Path:
    cache = folder / "cache"
    wrong, _ = _ended(_process(_env(cache)))
    assert not wrong, wrong
    assert _files(cache)
    return cache


def _damage(files: list[Path], chance: random.Random) -> None:
    """Random bytes, a flipped bit, a cut or nothing at all in each file."""
    for file in files:
        data = bytearray(file.read_bytes())
        kind = chance.randrange(4)
        if kind == 0:
            data = bytearray(chance.randbytes(len(data)))
        elif kind == 1 and data:
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        elif kind == 2:
            del data[chance.randrange(len(data) + 1) :]
        else:
            data.clear()
        file.write_bytes(data)


@contextlib.contextmanager
def _mounted(folder: Path, size: str) -> Iterator[Path]:
    """A file system of its own in memory."""
    place = folder / "mounted"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], capture_output=True).returncode:
        raise _LeftOut("file systems cannot be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


@_trial
def eight_at_once(folder: Path, chance: random.Random) -> Iterator[tuple[str, Any]]:
    """They begin with an empty cache, which then holds all that is needed."""
    processes = [_process(_env(folder / "cache")) for _ in range(AT_ONCE)]
    yield from [_ended(process) for process in processes]
    wrong, got = _ended(_process(_env(folder / "cache"), "--compiled"))
    if not wrong and got.pop("compiled"):
        wrong = "a kernel of eight processes was not kept"
    yield wrong, got


@_trial
def removed_in_use(folder: Path, chance: random.Random) -> Iterator[tuple[str, Any]]:
    yield _between(_env(folder / "cache"), lambda: shutil.rmtree(folder / "cache"))


@_trial
def a_file_in_its_place(folder: Path, chance: random.Random) -> Iterator[tuple[str, Any]]:
    def happens() -> None:
        shutil.rmtree(folder / "cache")
        (folder / "cache").write_text("")

    yield _between(_env(folder / "cache"), happens)
    yield _ended(_process(_env(folder / "cache")))


@_trial
def garbage_before(folder: Path, chance: random.Random) -> Iterator[tuple[str, Any]]:
    cache = _filled(folder)
    _damage(_files(cache), chance)
    yield _ended(_process(_env(cache)))
    wrong, got = _ended(_process(_env(cache), "--compiled"))
    if not wrong and got.pop("compiled"):
        wrong = "damaged files were not replaced"
    yield wrong, got


@_trial
def garbage_in_use(folder: Path, chance: random.Random) -> Iterator[tuple[str, Any]]:
    cache = _filled(folder)
    yield _between(_env(cache), lambda: _damage(_files(cache), chance))


@_trial
def read_only_in_use(folder: Path, chance: random.Random) -> Iterator[tuple[str, Any]]:
    with _mounted(folder, "64m") as cache:

        def happens() -> None:
            for kind in ("remount,ro", "remount,ro,force"):
                done = subprocess.run(["mount", "-o", kind, cache], capture_output=True)
                if done.returncode == 0:
                    return
            # A lock file that is open to be written keeps a file system from it: bound over itself it can be done.
            subprocess.run(["mount", "--bind", cache, cache], check=True)
            subprocess.run(["mount", "-o", "remount,bind,ro", cache], check=True)

        try:
            yield _between(_env(cache), happens)
            yield _ended(_process(_env(cache)))
        finally:
            if subprocess.run(["findmnt", "-n", cache], capture_output=True, text=True).stdout.count("\n") > 1:
                subprocess.run(["umount", "-l", cache], check=True)


@_trial
def a_full_disk(folder: Path, chance: random.Random) -> Iterator[tuple[str, Any]]:
    with _mounted(folder, f"{chance.randrange(4, 160, 4)}k") as cache:
        for _ in range(2):
            yield _ended(_process(_env(cache)))
            assert not list(cache.rglob("*.part")), "a part of a file is left"


@_trial
def a_limit_on_files(folder: Path, chance: random.Random) -> Iterator[tuple[str, Any]]:
    most = chance.randrange(60_000)
    limited = functools.partial(resource.setrlimit, resource.RLIMIT_FSIZE, (most, most))
    for _ in range(2):
        yield _ended(_process(_env(folder / "cache"), preexec_fn=limited))


@_trial
def no_home(folder: Path, chance: random.Random) -> Iterator[tuple[str, Any]]:
    """A user without an entry and without HOME; nothing called ~ may appear where it works."""
    yield _ended(_process(_home(HOME=None), start=_NO_ENTRY, cwd=folder))
    left = [x.name for x in folder.iterdir()]
    yield (f"left in the working directory: {left}" if left else ""), None


@_trial
def an_unwritable_home(folder: Path, chance: random.Random) -> Iterator[tuple[str, Any]]:
    home = folder / "home"
    home.write_text("")
    for place in (str(home), "/proc/nothing", "relative"):
        yield _ended(_process(_home(HOME=place), cwd=folder))
    left = [x.name for x in folder.iterdir() if x != home]
    yield (f"left in the working directory: {left}" if left else ""), None


@_trial
def odd_paths(folder: Path, chance: random.Random) -> Iterator[tuple[str, Any]]:
    """Spaces, letters of several alphabets, and bytes that are no UTF-8, for the package and for its cache."""
    for name in ("with spaces é 数字 \N{GRINNING FACE}", os.fsdecode(b"no \xff utf-8")):
        site = folder / name / "site"
        site.mkdir(parents=True)
        for package in ("nagd_numba", "tests/reliability"):
            shutil.copytree(ROOT / package, site / package, ignore=shutil.ignore_patterns("__pycache__"))
        (site / "tests" / "__init__.py").write_text("")
        for more in ({}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}):
            env = _home(HOME=str(folder / name), PYTHONPATH=str(site), **more)
            yield _ended(_process(env, cwd=site))
        if not _files(folder / name / ".cache"):
            yield "nothing was kept", None


@_trial
def a_relative_path(folder: Path, chance: random.Random) -> Iterator[tuple[str, Any]]:
    yield _ended(_process(_env("kept here"), cwd=folder))
    if not _files(folder / "kept here"):
        yield "nothing was kept", None


KINDS = ("eight at once", *(["eight at once"] * (TIMES - 1)), *([x for x in TRIALS if x != "eight at once"] * OTHERS))
SHORT, LONG = 2, len(KINDS)


def trial(count: int, seed: int, folder: Path) -> Result:
    """Try so many: eight processes at once first, then a random order."""
    chance = random.Random(seed)
    first, *rest = KINDS
    kinds = [first, *chance.sample(rest, len(rest))]
    wrong, usual = _ended(_process(_env(folder / "none", NAGD_NUMBA_CACHE="0")))
    assert not wrong, wrong
    times, lost, left_out = 0, [], {}
    for k in range(count):
        kind, place = kinds[k % len(kinds)], folder / f"trial {k}"
        place.mkdir()
        os.chmod(place, 0o755)
        try:
            for wrong, got in TRIALS[kind](place, random.Random(f"{seed} {k}")):
                if wrong or got not in (None, usual):
                    lost.append(f"seed {seed}, trial {k}, {kind}: {wrong or 'other bits'}")
            times += 1
        except _LeftOut as why:
            left_out[kind] = str(why)
        shutil.rmtree(place, ignore_errors=True)
    said = "; ".join(f"{kind} ({why})" for kind, why in left_out.items())
    return Result(f"processes with {len(TRIALS)} kinds of trouble with their cache", times, tuple(lost), said)
