"""The tests that need a device, in a process of their own, in parallel where pytest-xdist is there.

The project's own options of pytest are left out: without pytest-timeout or pytest-xdist it would refuse them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from importlib.util import find_spec

from .gpu_report import ROOT, Report

TESTS = ("tests/cuda", *(f"tests/optimizers/test_{name}.py" for name in ("rules", "nesterov", "theory")))
WORKERS = 8
# What tests go without, by the module that is looked for: its package, and what its absence costs.
PLUGINS = {
    "xdist": ("pytest-xdist", "the tests ran in one process"),
    "pytest_timeout": ("pytest-timeout", "a test that hangs takes all the time that is left"),
    "hypothesis": ("hypothesis", "the test files that use it were left out: most tests of the update rules"),
}


def why_not() -> str | None:
    """Why no tests can be run, or None."""
    if not (ROOT / TESTS[0]).exists():
        return f"{ROOT / TESTS[0]} is not there"
    return None if find_spec("pytest") is not None else "pytest is not installed: pip install pytest"


def command() -> list[str]:
    workers = min(WORKERS, os.cpu_count() or 1)
    return [
        *(sys.executable, "-m", "pytest", "-q", "-o", "addopts=", "-m", "not slow", "-k", "device"),
        *(
            "-rfE",
            "--tb=no",
            "--continue-on-collection-errors",
            "-p",
            "no:cacheprovider",
            "-p",
            f"{__package__}.gpu_failures",
        ),
        *(("-n", str(workers), "--dist", "worksteal") if find_spec("xdist") else ()),
        *(("--timeout", "60") if find_spec("pytest_timeout") else ()),
        *TESTS,
    ]


def run(report: Report, limit: float) -> None:
    """Run them, for so many seconds at most; what they print is shown as it comes."""
    for module, (package, cost) in PLUGINS.items():
        if find_spec(module) is None:
            report.missing(f"{package} is not installed", cost)
    arguments = command()
    print(" ".join(["python", *arguments[1:]]), flush=True)
    start, lines, late = time.monotonic(), [], threading.Event()
    process = subprocess.Popen(
        arguments,
        **{"cwd": ROOT, "stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT},
        **{"text": True, "errors": "replace", "start_new_session": True},
    )

    def stop() -> None:
        late.set()
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)

    timer = threading.Timer(limit, stop)
    timer.start()
    assert process.stdout is not None
    try:
        for line in process.stdout:
            lines.append(line.rstrip("\n"))
            print(line, end="", flush=True)
        code = process.wait()
    finally:
        timer.cancel()
        if process.poll() is None:
            stop()
            process.wait()
        process.stdout.close()
    summary = lines[-1] if lines else ""
    if late.is_set():
        summary = f"not finished after {limit:.0f} s; the last line: {summary}"
    kept = [line for line in lines if line.startswith(("FAILED", "ERROR", "SKIPPED"))]
    report.data["tests"] = {
        "command": " ".join(["python", *arguments[1:]]),
        "return_code": None if late.is_set() else code,
        "summary": summary,
        "seconds": round(time.monotonic() - start, 1),
        "lines": kept[:100],
    }
    print(f"tests: {summary}", flush=True)
    if late.is_set():
        report.missing("time", f"the tests were stopped after {limit:.0f} s")
    elif code != 0 and not _only_missing(lines):
        report.problem(f"the tests failed (status {code}): see above")
    report.save()


def _only_missing(lines: list[str]) -> bool:
    """Was there nothing wrong but files that import what is not installed?"""
    wrong = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    known = [line for line in wrong if any(f"No module named '{module}'" in line for module in PLUGINS)]
    return bool(wrong) and wrong == known
