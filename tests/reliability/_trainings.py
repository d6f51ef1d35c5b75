"""Trainings of the command line for the trials of kills: 1,500 epochs of three methods, on 90 points."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from nagd_numba.cli.checkpoint import Checkpoint
from nagd_numba.io import npz
from nagd_numba.model_file import load_model
from tests.helpers.checkpoints import write_clusters
from tests.helpers.heed import heed

EPOCHS = 1500
STARTED = "epoch "  # of the first line that an epoch prints
# Python has SIGXFSZ ignored, so that a write beyond the limit is an error.
LIMITED = """
import signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
from nagd_numba.cli.main import main
sys.exit(main())
"""


class Trainings:
    """What is trained from one data file; `reference` is how a training of a seed ends that nobody disturbs."""

    def __init__(self, folder: Path, epochs: int = EPOCHS) -> None:
        self.folder, self.epochs = folder, epochs
        self.data = write_clusters(folder / "clusters.npz")
        self._references: dict[int, dict[str, bytes]] = {}

    def words(self, path: Path, seed: int = 0) -> list[str]:
        """The arguments that begin a training."""
        given = ["--device", "cpu", "--data", self.data, "--hidden", "16", "--epochs", self.epochs, "--seed", seed]
        return ["train", *map(str, given), "--save", str(path)]

    def start(self, words: list[str], **more: Any) -> Command:
        return Command(words, self.folder, **more)

    def reference(self, seed: int = 0) -> dict[str, bytes]:
        if seed not in self._references:
            path = self.folder / f"reference {seed}.npz"
            command = self.start(self.words(path, seed))
            if command.wait() != 0:
                raise RuntimeError(f"a training that nobody disturbed ended by {command.code}: {command.said()}")
            self._references[seed] = content(path)
        return self._references[seed]


class Command:
    """`nagd-numba` in a process of its own, its output in a file."""

    def __init__(
        self, words: list[str], folder: Path, environment: dict[str, str] | None = None, limited: bool = False
    ) -> None:
        """`limited` is one whose files will be limited: the kernel may end it, and no file takes its output."""
        self._output = folder / f"output {time.monotonic_ns()}"
        program = ["-c", LIMITED] if limited else ["-u", "-m", "nagd_numba"]
        with self._output.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, *program, *words],
                stdout=subprocess.DEVNULL if limited else file,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=folder,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **(environment or {})},
                preexec_fn=heed,
            )

    @property
    def code(self) -> int | None:
        return self.process.poll()

    def said(self) -> str:
        return self._output.read_text(encoding="utf-8", errors="replace")

    def until(self, text: str, seconds: float = 300) -> bool:
        """Wait until this is printed; false if the process ended before."""
        end = time.monotonic() + seconds
        while self.code is None and time.monotonic() < end:
            if text in self.said():
                return True
            time.sleep(0.005)
        return text in self.said()

    def wait(self, seconds: float = 300) -> int:
        """The exit code; a process that takes longer is killed."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            return 124

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def forget(self) -> None:
        """Remove its output."""
        with contextlib.suppress(OSError):
            self._output.unlink()


def content(path: Path) -> dict[str, bytes]:
    """All of a file that its training decides, to the bit; raises for a file that is damaged."""
    load_model(path)
    Checkpoint(path)
    with np.load(path) as file:
        return {
            name: file[name].tobytes() for name in file.files if not name.endswith("/seconds") and name != npz.DIGEST
        }


def passed(path: Path) -> int:
    """The epochs that a file holds, of all methods."""
    with np.load(path) as file:
        return sum(len(file[name]) for name in file.files if name.endswith("/history"))
