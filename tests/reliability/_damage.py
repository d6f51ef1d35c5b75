"""One process of the trial of damaged files: `python -m tests.reliability._damage KIND COUNT SEED FOLDER`.

Each file is damaged, read, and judged; the last line of the output is a JSON list of what was lost.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import random
import resource
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nagd_numba.cli.main import main as command
from nagd_numba.distributed.checkpoint import manifest_digest
from tests.helpers import damage_kinds as damage
from tests.helpers.kept_files import KINDS, Kind

MEMORY = 200 << 20  # bytes above what was there before, and
TIMES = 20  # times the size of the file
SECONDS = 20  # to read it
BOMB = 2 << 30
COMMANDS = {"training": "--resume", "data": "--data", "table": "--data", "packed table": "--data"}


class HangError(BaseException):
    """It takes too long."""


Way = Callable[[bytes, bytes, random.Random], bytes]
HONEST: dict[str, Way] = {  # after these a digest tells
    "truncated": lambda whole, _, chance: damage.truncated(whole, chance),
    "flipped": lambda whole, _, chance: damage.archive_damaged(whole, chance),
    "spliced": damage.spliced,
    "exchanged": damage.members_exchanged,
    "lying header": lambda whole, _, chance: damage.header_lies(whole, chance),
    "bomb": lambda whole, _, chance: damage.bomb(whole, BOMB, chance),
}
SEALED: dict[str, Way] = {  # these make a digest that is right
    "out of range": lambda whole, _, chance: damage.value_changed(whole, chance),
    "other version": lambda whole, _, chance: damage.version_changed(whole, chance),
}
TABLE: dict[str, Way] = {
    "truncated": HONEST["truncated"],
    "flipped": lambda whole, _, chance: damage.bytes_changed(whole, chance),
    "spliced": damage.spliced,
    "out of range": lambda whole, _, chance: damage.cell_changed(whole, chance),
}
MANIFEST: dict[str, Way] = {
    "out of range": lambda whole, _, chance: damage.manifest_changed(whole, manifest_digest, chance)
}
WEIGHTS = {"flipped": 8, "bomb": 0.5}  # others 2


def damaged(file: Path, whole: bytes, other: bytes, kind: str, chance: random.Random) -> tuple[str, bytes]:
    """The way of the damage, and the file."""
    if file.name.endswith(".gz"):
        if chance.random() < 0.05:
            return "bomb", damage.packed_bomb(BOMB)
        if chance.random() < 0.3:
            way, inside = damaged(file.with_suffix(""), gzip.decompress(whole), gzip.decompress(other), kind, chance)
            return way, gzip.compress(inside)
        ways = {name: way for name, way in TABLE.items() if name != "out of range"}
    elif file.suffix == ".npz":
        ways = HONEST if kind in ("data", "sharded") else HONEST | SEALED
    else:
        ways = TABLE if file.suffix == ".csv" else MANIFEST | {x: TABLE[x] for x in ("truncated", "flipped", "spliced")}
    name = chance.choices(list(ways), [WEIGHTS.get(x, 2) for x in ways])[0]
    return name, ways[name](whole, other, chance)


def judged(kind: Kind, path: Path, size: int, known: list[Any], option: str | None) -> str:
    """Read the file; returns what is wrong with that, or nothing.  `known` are the only bits it may have, if any."""
    _forget_peak()
    before = _memory("VmRSS")
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            result = kind.read(path)
            kind.check(result)
    except (ValueError, OSError, ImportError) as error:
        wrong = _message(str(error), path)
        if not wrong and option is not None:
            wrong = _command(option, path)
    except HangError:
        return f"it took more than {SECONDS} s"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    else:
        wrong = "it was read, and is another" if known and kind.bits(result) not in known else ""
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    more = _memory("VmHWM") - before
    if more > MEMORY + TIMES * size:
        return f"{more >> 20} MB of memory for a file of {size} bytes"
    return wrong


def _message(text: str, path: Path) -> str:
    if not text.isprintable() or len(text) > 1000:
        return f"a message of other than one line: {text[:200]!r}"
    if str(path) not in text and not text.startswith("--"):
        return f"a message that does not name the file: {text}"
    return ""


def _command(option: str, path: Path) -> str:
    """What the command line says of it: one line, before anything is trained."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = command(["train", option, str(path)])
    lines = err.getvalue().splitlines()
    if code == 2 and len(lines) == 1 and lines[0].startswith("nagd-numba train: error: ") and not out.getvalue():
        return ""
    return f"the command ended by {code}, and said: {err.getvalue()[-300:]!r}"


def _memory(name: str) -> int:
    with open("/proc/self/status", encoding="ascii") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith(name))


def _forget_peak() -> None:
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")


def main() -> None:
    name, count, seed, folder = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
    kind, lost = KINDS[name], []
    resource.setrlimit(resource.RLIMIT_AS, (16 << 30, resource.RLIM_INFINITY))

    def hang(*_: object) -> None:
        raise HangError

    signal.signal(signal.SIGALRM, hang)
    path, other = folder / kind.name, folder / "other" / kind.name
    other.parent.mkdir()
    kind.write(path, 0)
    kind.write(other, 1)
    known = [] if kind.bits is None else [kind.bits(kind.read(x)) for x in (path, other)]
    wholes = [(file, file.read_bytes()) for file in kind.files(path)]
    others = [file.read_bytes() for file in kind.files(other)]
    for k in range(count):
        chance = random.Random(f"{seed} {name} {k}")
        which = chance.randrange(len(wholes))
        file, whole = wholes[which]
        way, content = damaged(file, whole, others[which], name, chance)
        print(k, way, flush=True)  # where a process that dies was
        file.write_bytes(content)
        sealed = way in SEALED or (way == "out of range" and name == "sharded")
        option = COMMANDS.get(name) if k % 10 == 0 else None
        wrong = judged(kind, path, len(content), [] if sealed else known, option)
        if wrong:
            lost.append(f"{name}, seed {seed}, {k}, {way}: {wrong}")
        file.write_bytes(whole)
    print(json.dumps(lost))


if __name__ == "__main__":
    main()
