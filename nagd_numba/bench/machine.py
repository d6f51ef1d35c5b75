"""What figures depend on: the machine, its threads, the versions, and what other processes do meanwhile."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

PACKAGES = (
    "numba",
    "llvmlite",
    "numpy",
    "scipy",
    "numexpr",
    "torch",
    "jax",
    "optax",
    "scikit-learn",
    "warp-lang",
    "drjit",
)
THREADS = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def about() -> dict[str, Any]:
    """Machine, versions, date and commit, for a file of results."""
    import numba

    import nagd_numba

    try:
        threads: Any = numba.get_num_threads()  # which starts the layer
        layer: Any = numba.threading_layer()
    except (ValueError, ImportError) as error:
        threads, layer = f"unknown ({error})", "none"
    root = Path(nagd_numba.__file__).parents[1]
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _git(root, "rev-parse", "HEAD"),
        "uncommitted_changes": bool(_git(root, "status", "--porcelain", "-uno")),
        "machine": {
            "processor": processor(),
            "architecture": platform.machine(),
            "system": platform.system(),
            "cores": cores(),
            "numba_threads": threads,
            "numba_layer": layer,
            "environment": {name: os.environ[name] for name in THREADS if name in os.environ},
        },
        "versions": {
            "python": platform.python_version(),
            "nagd_numba": nagd_numba.__version__,
            **{name: version(name) for name in PACKAGES},
        },
    }


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def version(package: str) -> str | None:
    """The version of an installed package, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def processor() -> str:
    """The name of the processor's model."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.lower().startswith(("model name", "cpu model")):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


class Others:
    """How many cores other processes kept busy since this was made (Linux; elsewhere NaN).

    Kernels with a thread for each core suffer most: figures far from 0 mislead.
    """

    def __init__(self) -> None:
        self.start = self._now()

    @staticmethod
    def _now() -> tuple[float, float]:
        try:
            with open("/proc/stat") as file:
                user, nice, system, _, _, *more = map(int, file.readline().split()[1:9])
        except OSError:
            return time.perf_counter(), np.nan
        own = os.times()
        busy = (user + nice + system + sum(more)) / os.sysconf("SC_CLK_TCK")
        return time.perf_counter(), busy - own.user - own.system

    def cores(self) -> float | None:
        now = self._now()
        cores = (now[1] - self.start[1]) / (now[0] - self.start[0])
        return None if np.isnan(cores) else max(0.0, round(cores, 2))


def _git(root: Path, *arguments: str) -> str | None:
    if not (root / ".git").exists():
        return None
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
