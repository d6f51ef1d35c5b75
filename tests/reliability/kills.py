"""`train --save` killed at random moments and within the writing of its file, and resumed.

A chain of processes is one training: each is killed, and the next resumes its file, until one ends.  It must end bit
for bit like a training that nobody killed, no file may be damaged or lose epochs that it had, and nothing else may be
left in the folder.  The ways to kill are

- `moment`: SIGKILL some time after the start, while it imports, loads kernels, trains or writes;
- `writing`: SIGKILL as soon as the new file is seen beside the old one, or a moment later;
- `bytes`: a limit of the size of files, some bytes long, at which the kernel ends the process in the middle of a write;
- `two`: two trainings of different seeds write one file, both are killed, and the file is that of one of them.
"""

from __future__ import annotations

import contextlib
import os
import random
import resource
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from . import Result
from ._trainings import EPOCHS, STARTED, Command, Trainings, content, passed

SHORT, LONG = 6, 200
WAYS = ("moment", "writing", *(("bytes",) if hasattr(resource, "prlimit") else ()), "two")
KILLED = (-signal.SIGKILL, -signal.SIGXFSZ)
MOST = 25  # kills of one chain, after which it may end


def trial(count: int, seed: int, folder: Path) -> Result:
    """Kill `count` processes."""
    trainings = Trainings(folder)
    for number in (0, 1):
        trainings.reference(number)
    lost: list[str] = []
    kills = chain = 0
    while kills < count:
        way = WAYS[chain % len(WAYS)]
        place = folder / f"chain {chain}"
        place.mkdir()
        chance = random.Random(f"{seed} {chain}")
        try:
            kills += _chain(trainings, way, place / "model.npz", chance, min(MOST, max(2, (count + 3) // 4)))
        except AssertionError as error:
            lost.append(f"seed {seed}, chain {chain}, {way}: {error}")
            kills += 1
        chain += 1
    tried = f"kills in {chain} trainings of {EPOCHS:,} epochs with three methods ({', '.join(WAYS)}), each resumed"
    return Result(tried, kills, tuple(lost))


def _chain(trainings: Trainings, way: str, path: Path, chance: random.Random, most: int) -> int:
    """One training, killed up to `most` times; returns how often it was.  Raises `AssertionError` for what is lost."""
    kills, had = 0, 0
    while kills < most:
        file = path.stat().st_ino if path.exists() else 0
        commands = [trainings.start(words, limited=way == "bytes") for words in _next_words(trainings, way, path)]
        _kill(way, commands, path, file, chance)
        killed = sum(command.code in KILLED for command in commands)
        for command in commands:
            code = command.wait()
            assert code in (0, *KILLED), f"ended by {code}: {command.said()[-300:]}"
            command.forget()
        kills += killed
        if path.exists():
            content(path)
            assert way == "two" or passed(path) >= had, f"{passed(path)} epochs, and it had {had}"
            had = passed(path)
            if killed == 0 and had == 3 * trainings.epochs:
                break
    if path.exists():
        command = trainings.start(["train", "--resume", str(path)])
        assert command.wait() == 0, f"the last resume: {command.said()[-300:]}"
    else:
        command = trainings.start(trainings.words(path))
        assert command.wait() == 0, f"the first that was not killed: {command.said()[-300:]}"
    seeds = (0, 1) if way == "two" else (0,)
    assert content(path) in [trainings.reference(x) for x in seeds], "other bits than those of a training not killed"
    left = sorted(os.listdir(path.parent))
    assert left == [path.name], f"there is more than the file: {left}"
    return kills


def _next_words(trainings: Trainings, way: str, path: Path) -> Iterator[list[str]]:
    """The arguments of the processes that go on."""
    if way == "two":  # they disagree on what the file holds: each begins anew, or goes on with what is there
        yield trainings.words(path, 0)
        yield ["train", "--resume", str(path)] if path.exists() else trainings.words(path, 1)
    else:
        yield ["train", "--resume", str(path)] if path.exists() else trainings.words(path)


def _kill(way: str, commands: list[Command], path: Path, file: int, chance: random.Random) -> None:
    """Kill what has been started, in this way, unless it ends before; `file` is the number of the one it found."""
    if way == "moment" and chance.random() < 0.2:  # while it imports and loads
        time.sleep(chance.uniform(0, 1.5))
    elif way == "bytes":
        (command,) = commands
        while command.code is None and (not path.exists() or path.stat().st_ino == file):
            time.sleep(0.005)
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(command.process.pid, resource.RLIMIT_CORE, (0, 0))
            limit = chance.randrange(path.stat().st_size if path.exists() else 1)
            resource.prlimit(command.process.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        command.wait(30)
    else:
        for command in commands:
            command.until(STARTED)
        if way == "writing":
            _until_written(commands[0], path)
            time.sleep(chance.choice([0, 0, 0.0005, 0.001, 0.003]))
        else:
            time.sleep(chance.uniform(0, 0.9))
    for command in commands:
        if command.code is None:
            command.kill()


def _until_written(command: Command, path: Path) -> None:
    """Wait until a new file is there, which becomes `path`."""
    while command.code is None:
        if any(name.endswith(".tmp") for name in os.listdir(path.parent)):
            return
