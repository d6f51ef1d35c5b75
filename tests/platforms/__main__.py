"""One hash everywhere: the same training, compiled for several processors and for CUDA, ends in the same bits.

    python -m tests.platforms               all of them, one after another; exit code 1 where a hash differs
    python -m tests.platforms x86-64 cuda   these
    python -m tests.platforms --cases TEXT  the cases of `tests.hashes` whose names contain TEXT ("" for all), in
                                            place of the training

Each runs in a process of its own with an empty cache.  What cannot be had here is skipped, and its line says why.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from llvmlite import binding

from . import aarch64
from .training import SHA256

ROOT = Path(__file__).parents[2]
AVX2 = "avx", "avx2", "fma"
AVX512 = *AVX2, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"


class Platform(NamedTuple):
    """What a process compiles for."""

    name: str
    cpu: str | None = None  # NUMBA_CPU_NAME
    features: tuple[str, ...] = ()  # NUMBA_CPU_FEATURES
    fused: str = ""  # a pattern: what must be in its code, to know that it is that code


PLATFORMS = (
    Platform("here"),  # as Numba compiles for this processor
    Platform("x86-64", "x86-64", (), r"^\['fmaf'\]$"),  # has no fused multiply-add: the C library's is called
    Platform("x86-64-v3", "x86-64-v3", AVX2, "ymm"),
    Platform("x86-64-v4", "x86-64-v4", AVX512, "zmm"),
    Platform("aarch64", fused="fmla v"),
    Platform("cuda"),
)


def command(platform_: Platform, folder: Path) -> tuple[list[str], dict[str, str]]:
    """The command that runs Python for a platform, and its environment; raises Unavailable."""
    paths = [str(ROOT)]
    environment = {name: text for name, text in os.environ.items() if not name.startswith(("NUMBA_", "NAGD_NUMBA_"))}
    start = [sys.executable]
    if platform_.cpu:
        has = binding.get_host_cpu_features()
        missing = [name for name in platform_.features if not has.get(name)]
        if platform.machine() not in ("x86_64", "AMD64") or missing:
            raise aarch64.Unavailable(f"this processor has no {', '.join(missing) or 'code of x86'}")
        if not platform_.features:  # glibc shall not use the instruction either
            environment["GLIBC_TUNABLES"] = "glibc.cpu.hwcaps=-FMA,-FMA4"
        environment["NUMBA_CPU_NAME"] = platform_.cpu
        environment["NUMBA_CPU_FEATURES"] = ",".join(f"+{name}" for name in platform_.features)
    elif platform_.name == "aarch64":
        start, packages = aarch64.python(folder)
        paths.append(packages)
    elif platform_.name == "cuda" and importlib.util.find_spec("numba_cuda") is None:
        raise aarch64.Unavailable("numba-cuda is not installed: the extra cuda")
    return start, environment | {"PYTHONPATH": os.pathsep.join(paths)}


def outcome(platform_: Platform, folder: Path, cases: str | None) -> str:
    """What to say of a platform; raises ValueError where it differs, and Unavailable."""
    start, environment = command(platform_, folder)
    module = ["tests.platforms.training"]
    if cases is not None:
        if platform_.name == "cuda":
            raise aarch64.Unavailable("tests.hashes runs on the CPU")
        module = ["tests.hashes", "--check", "--only", cases]
    elif platform_.name == "cuda":
        module.append("--cuda")
    with tempfile.TemporaryDirectory() as cache:
        done = subprocess.run(
            [*start, "-m", *module],
            **{"cwd": ROOT, "capture_output": True, "text": True, "check": False},
            env=environment | {"NUMBA_CACHE_DIR": cache},
        )
    if done.returncode:
        raise ValueError((done.stdout + done.stderr)[-3000:])
    if cases is not None:
        return done.stdout.strip()
    found = json.loads(done.stdout)
    if not re.search(platform_.fused, str(found["fused"])):
        raise ValueError(f"its code computes a * b + c by {found['fused']}, which is not what it was compiled for")
    if found["sha256"] != SHA256:
        raise ValueError(f"{found['sha256']} is not {SHA256}")
    return f"{found['sha256']}  {', '.join(found['fused']) or 'emulated'}"


def failures(chosen: list[str], folder: Path, cases: str | None) -> Iterator[str]:
    """Run platforms, print a line for each, and yield the names of those that differ."""
    for platform_ in PLATFORMS:
        if chosen and platform_.name not in chosen:
            continue
        began = _processor_seconds()
        try:
            said = outcome(platform_, folder, cases)
        except aarch64.Unavailable as error:
            said = f"SKIPPED: {error}"
        except ValueError as error:
            said = f"DIFFERS: {error}"
            yield platform_.name
        print(f"{platform_.name:<10} {_processor_seconds() - began:4.0f} s  {said}", flush=True)


def _processor_seconds() -> float:
    """Of all processes that this one has waited for: other work on the machine does not count."""
    times = os.times()
    return times.children_user + times.children_system


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.platforms", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(x.name for x in PLATFORMS))
    parser.add_argument("--cases", metavar="TEXT", help="cases of tests.hashes, in place of the training")
    parser.add_argument(
        "--folder",
        **{"type": Path, "default": ROOT / ".ci/env/aarch64", "metavar": "FOLDER"},
        help="where Python for aarch64 is kept (%(default)s)",
    )
    arguments = parser.parse_args()
    unknown = set(arguments.names) - {x.name for x in PLATFORMS}
    if unknown:
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are: {', '.join(x.name for x in PLATFORMS)}")
    failed = list(failures(arguments.names, arguments.folder.resolve(), arguments.cases))
    print(f"{', '.join(failed)}: other bits" if failed else "no hash differs")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
