"""Ctrl-C, SIGTERM and SIGHUP at random moments of `train --save`: while it imports, compiles, trains.

It must end within a second, by an exit code of its own (or by the signal, where it has not begun), without a traceback;
the file must hold the epoch that the last words name, and nothing else may be left in the folder.  On a busy machine a
second is one of the processor's.
"""

from __future__ import annotations

import os
import random
import re
import signal
import statistics
import time
from pathlib import Path

import nagd_numba

from . import Result
from ._trainings import STARTED, Command, Trainings, content, passed

SHORT, LONG = 6, 120
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
WHILE = ("importing", "compiling", "training")
SECONDS, AT_MOST = 1.0, 10.0  # of the processor, or by the clock if that is less; by the clock
PACKAGE = os.path.dirname(nagd_numba.__file__)


def trial(count: int, seed: int, folder: Path) -> Result:
    """Send `count` signals to as many processes."""
    trainings = Trainings(folder, 100_000)
    lost: list[str] = []
    took: list[float] = []
    pythons = 0
    for k in range(count):
        number, what = SIGNALS[k % 3], WHILE[(k + k // 3) % 3]  # nine pairs
        place = folder / str(k)
        place.mkdir()
        chance = random.Random(f"{seed} {k}")
        try:
            seconds = _one(trainings, number, what, place, chance)
        except AssertionError as error:
            lost.append(f"seed {seed}, {k}, {number.name} while {what}: {error}")
            continue
        if seconds is None:
            pythons += 1
        else:
            took.append(seconds)
    middle = f"; {statistics.median(took):.2f} s in the middle, {max(took):.2f} s at most" if took else ""
    tried = f"SIGINT, SIGTERM and SIGHUP while {', '.join(WHILE)}{middle}"
    own = f"{pythons} that came before Python itself had started" if pythons else ""
    return Result(tried, count - pythons, tuple(lost), own)


def _one(trainings: Trainings, number: signal.Signals, what: str, place: Path, chance: random.Random) -> float | None:
    """Returns the seconds from the signal to the end, None where Python itself had not started."""
    path = place / "model.npz"
    cold = {"NUMBA_CACHE_DIR": str(trainings.folder / f"{place.name} cache")} if what == "compiling" else {}
    command = trainings.start(trainings.words(path), environment=cold)
    if what == "importing":
        time.sleep(chance.uniform(0.05, 1.5))
    elif what == "compiling":
        assert command.until("network "), f"it did not begin: {command.said()}"
        time.sleep(chance.uniform(0, 8))
    else:
        assert command.until(STARTED), f"it did not begin: {command.said()}"
        time.sleep(chance.uniform(0, 1.5))
    there = path.exists()
    used, sent = _processor_seconds(command), time.monotonic()
    command.send(number)
    while command.code is None and time.monotonic() < sent + AT_MOST:
        used = _processor_seconds(command, used)
        time.sleep(0.002)
    seconds = time.monotonic() - sent
    if command.code is None:
        command.kill()
        raise AssertionError(f"it went on for {AT_MOST} s: {command.said()[-300:]}")
    code, said = command.code, command.said()
    if code == -number and "Traceback" in said and PACKAGE not in said:
        return None
    assert "Traceback" not in said, said[-600:]
    assert code == 128 + number or (what == "importing" and code == -number), f"exit code {code}: {said[-300:]}"
    own = used[1] - used[0] if os.path.exists("/proc/self/stat") else seconds
    assert min(seconds, own) <= SECONDS, f"{seconds:.2f} s, {own:.2f} s of the processor"
    reached = re.search(r"Interrupted after epoch (\d+) of (\w+)", said)
    assert not there or reached, f"there was a file, and no epoch is told: {said[-300:]}"
    if reached:
        methods = ["gd", "momentum", "nag"]
        content(path)
        epochs = methods.index(reached[2]) * trainings.epochs + int(reached[1])
        assert passed(path) == epochs, f"the file has {passed(path)} epochs, and the last words say {epochs}"
        assert f"Best model: {path}" in said
    assert sorted(os.listdir(place)) == ([path.name] if reached else []), f"left: {os.listdir(place)}"
    command.forget()
    return seconds


def _processor_seconds(command: Command, before: tuple[float, float] | None = None) -> tuple[float, float]:
    """The seconds of the processor that it had used at the first call, and now; all but the last milliseconds."""
    try:
        fields = Path(f"/proc/{command.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        now = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError):  # it is gone, or there is no /proc
        now = before[1] if before else 0.0
    return (before[0] if before else now, max(now, before[1] if before else now))
