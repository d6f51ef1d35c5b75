"""`python -m benchmarks.gpu`: everything that is to be known of a GPU, in one command of less than 8 minutes.

The tests that use a device; the step on one array and on lists of arrays, against the bandwidth of a copy and against
PyTorch, CuPy and JAX; what a launch costs the host; training against PyTorch (eager, under CUDA graphs) and JAX; a
sweep of 132 networks against one.  Peers that are not installed or see no device are named with the reason.

Contenders take turns, in rounds, after a second of warm-up; a timing is many steps that end in one synchronisation;
ratios are medians over the rounds.  `x ours`: above 1, ours is that many times faster.  In brackets: what we aim at.
Everything goes to a JSON file, which is written anew after every row, so that what was measured is kept at any end.

Exit status: 0; 1 where our own code or a test failed; 2 without a device, where nothing is measured.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from nagd_numba.gpu.driver import why_no_cuda
from nagd_numba.io.atomic import check_replaceable
from nagd_numba.kernels.jit import SIMULATOR

from . import gpu_mlp, gpu_peers, gpu_report, gpu_step
from .gpu_report import ROOT, Report, Row, Unusable, show

TESTS = ("tests/cuda", *(f"tests/optimizers/test_{name}.py" for name in ("rules", "nesterov", "theory")))
TEST_SECONDS = 180.0
BUDGET = 420.0

Section = tuple[str, Callable[[int], Iterable[gpu_step.Job]], str]
SECTIONS: dict[str, Section] = {
    "step": (
        "a step on one array",
        gpu_step.sizes,
        "`copy` moves the same bytes: its ratio is our share of the bandwidth. Half precision: our velocity is "
        "float32, torch's is half (10 bytes an element in all).",
    ),
    "lists": ("a step on 100 arrays, float32", gpu_step.lists, "One call for all arrays."),
    "launch": (
        f"the host's time to start a step, n = {gpu_step.LAUNCH_SIZE}",
        gpu_step.launches,
        "First row: without waiting for the device. Second: device included.",
    ),
    "training": ("a step of training: 64-hidden-10, 20 epochs over the digits, float32", gpu_mlp.trainings, ""),
    "sweep": ("many networks at once", gpu_mlp.sweeps, "rates x seeds; in brackets: at most."),
}


def run_tests(report: Report) -> None:
    """The device tests, in a process of their own."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "not slow", "-k", "cuda or device", *TESTS]
    print(" ".join(command[1:]), flush=True)
    limit = min(TEST_SECONDS, report.budget)
    start = time.monotonic()
    with tempfile.TemporaryFile("w+", errors="replace") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True
        )
        try:
            code: int | None = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            if process.poll() is None:
                with contextlib.suppress(OSError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        output.seek(0)
        lines = output.read().splitlines()
    summary = lines[-1] if lines else ""
    if code is None:
        summary = f"not finished after {limit:g} s; the last line: {summary}"
    notable = [line for line in lines if line.startswith(("FAILED", "ERROR", "SKIPPED"))]
    report.data["tests"] = {
        "command": " ".join(["python", *command[1:]]),
        "return_code": code,
        "summary": summary,
        "seconds": round(time.monotonic() - start, 1),
        "lines": notable[:100],
    }
    print(f"tests: {summary}", flush=True)
    if code not in (0, None):
        report.problem("the tests failed (status {}):\n{}".format(code, "\n".join(lines[-60:])))
    report.save()


def run_section(report: Report, name: str, largest: int) -> None:
    title, jobs, note = SECTIONS[name]
    start, rows = time.monotonic(), []
    for case, measured in jobs(largest):
        row = Row(case)
        reason = report.spent()
        if reason is not None:
            report.skip(f"{name}: {row}", reason)
            continue
        try:
            measured(row)
        except Unusable as error:
            report.skip(f"{name}: {row}", str(error))
            continue
        except Exception as error:
            row.failed("ours", error)
        rows.append(row)
        for text in row.problems:
            report.problem(f"{name}: {text}")
        report.section(name, title, rows, time.monotonic() - start)
    if rows:
        show(title, rows, note)


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="default: benchmarks/results/DEVICE-DATE.json")
    parser.add_argument("--budget", type=float, default=BUDGET, metavar="SECONDS", help="after which nothing starts")
    parser.add_argument("--no-tests", action="store_true", help="do not run the device tests")
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), help="some sections", metavar="SECTION")
    parser.add_argument("--largest", type=int, default=28, metavar="E", help="at most 2^E elements")
    parser.add_argument("--without", nargs="+", choices=["torch", "cupy", "jax"], default=[], help="leave peers out")
    options = parser.parse_args(arguments)
    if not options.budget > 0:
        parser.error("--budget: a positive number of seconds is needed")
    if options.largest < gpu_step.EXPONENTS[0]:
        parser.error(f"--largest: at least {gpu_step.EXPONENTS[0]} is needed")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    options = parsed(arguments)
    reason = "the simulator of numba.cuda stands in for the device" if SIMULATOR else why_no_cuda()
    if reason is not None:
        print(reason, file=sys.stderr)
        return 2
    about = gpu_report.about()
    path = options.json or gpu_report.default_path(about)
    try:
        if options.json is None:
            path.parent.mkdir(parents=True, exist_ok=True)
        check_replaceable(path)
    except OSError as error:
        print(f"--json: {error}", file=sys.stderr)
        return 2
    gpu_peers.excluded.clear()
    gpu_peers.excluded.update(options.without)
    report = Report(path, options.budget, about)
    device, versions = about["device"], about["versions"]
    print(", ".join(f"{name} {value}" for name, value in device.items()))
    print(", ".join(f"{name} {value}" for name, value in versions.items() if value is not None), flush=True)
    report.save()
    if options.no_tests:
        report.skip("tests", "left out by --no-tests")
    elif not (ROOT / TESTS[0]).exists():
        report.skip("tests", f"{ROOT / TESTS[0]} is not there")
    else:
        run_tests(report)
    for name in SECTIONS:
        if options.only is not None and name not in options.only:
            report.skip(name, "left out by --only")
            continue
        try:
            run_section(report, name, options.largest)
        except Exception as error:
            row = Row({"section": name})
            row.failed("ours", error)
            report.problem(row.problems[0])
    report.data["complete"] = True
    report.save()
    print(f"{path}: {report.data['seconds']:.0f} s in all")
    if report.problems:
        print(f"*** {len(report.problems)} failures of our own: see above, and 'problems' in the file ***")
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
