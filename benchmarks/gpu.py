"""`python -m benchmarks.gpu`: everything that is to be known of a GPU, in one command of at most 8 minutes.

Training against PyTorch (eager, under CUDA graphs) and JAX; a sweep of 132 networks against one; the step on one array
and on lists of arrays, against the bandwidth of a copy and against PyTorch, CuPy and JAX; what a launch costs the host;
then the tests that use a device, whose failures are printed as they come.  It works with whatever is installed of peers
and plugins: the report ends with what was missing, and what that cost.

Contenders take turns, in rounds, after a second of warm-up; a timing is many steps that end in one synchronisation;
ratios are medians over the rounds.  `x ours`: above 1, ours is that many times faster.  In brackets: what we aim at.
Everything goes to a JSON file, which is written anew after every row, so that what was measured is kept at any end.

Exit status: 0; 1 where our own code or a test failed; 2 without a device, where nothing is measured.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from nagd_numba.gpu import toolchain
from nagd_numba.gpu.driver import why_no_cuda
from nagd_numba.io.atomic import check_replaceable
from nagd_numba.kernels.jit import SIMULATOR

from . import gpu_dry, gpu_minimize, gpu_mlp, gpu_peers, gpu_report, gpu_step, gpu_tests
from .gpu_report import Report, Row, Unusable, show

BUDGET = 460.0  # in all
TEST_SECONDS = 150.0  # of it
TOOLKIT = Path("/usr/local/cuda")

Section = tuple[str, Callable[[int], Iterable[gpu_step.Job]], str]
SECTIONS: dict[str, Section] = {
    "training": ("a step of training: 64-hidden-10, 20 epochs over the digits, float32", gpu_mlp.trainings, ""),
    "sweep": ("many networks at once", gpu_mlp.sweeps, "rates x seeds; in brackets: at most."),
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
    "fits": ("many small fits, float64", gpu_minimize.fits, "CPU: all cores."),
}


def find_toolkit() -> str | None:
    """Where no wheel brings NVVM, the usual place of a CUDA toolkit; returns it if it is taken."""
    wheels = (toolchain.version_of(wheel) for wheel in toolchain.LIBRARIES["nvvm"])
    if any(wheels) or {"CUDA_HOME", "CUDA_PATH"} & os.environ.keys() or not (TOOLKIT / "nvvm").is_dir():
        return None
    os.environ["CUDA_HOME"] = str(TOOLKIT)
    return f"no wheel of NVVM is installed: CUDA_HOME={TOOLKIT}"


def run_section(report: Report, name: str, largest: int, kept: float) -> None:
    title, jobs, note = SECTIONS[name]
    start, rows = time.monotonic(), []
    for case, measured in jobs(largest):
        row = Row(case)
        reason = report.spent(kept)
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
        for contender, reason in row.reasons.items():
            if not contender.startswith("ours"):
                report.missing(reason.removeprefix("n/a: "), f"{name}: {contender}")
        for text in row.problems:
            report.problem(f"{name}: {text}")
        report.section(name, title, rows, time.monotonic() - start)
    if rows:
        show(title, rows, note)


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="default: benchmarks/results/DEVICE-DATE.json")
    parser.add_argument("--budget", type=float, default=BUDGET, metavar="SECONDS", help="for everything")
    parser.add_argument("--no-tests", action="store_true", help="do not run the device tests")
    parser.add_argument("--dry-run", action="store_true", help="everything once and small: does it run here?")
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
    toolkit = find_toolkit()
    reason = "Numba's CUDA simulator stands in for the device" if SIMULATOR else why_no_cuda()
    if reason is not None:
        print(reason, file=sys.stderr)
        return 2
    about = gpu_report.about()
    path = options.json or gpu_report.default_path(about, "-dry-run" if options.dry_run else "")
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
    if toolkit is not None:
        report.missing(toolkit, "the version of the toolkit is its own")
    for problem in toolchain.misfits(toolchain.found(), toolchain.driver_version()):
        report.missing(problem, "what needs it is among the failures")
    if options.dry_run:
        gpu_dry.shrink()
    why_no_tests = "left out by --no-tests" if options.no_tests else gpu_tests.why_not()
    kept = 0.0 if why_no_tests else min(TEST_SECONDS, options.budget / 2)
    for name in SECTIONS:
        if options.only is not None and name not in options.only:
            report.skip(name, "left out by --only")
            continue
        try:
            run_section(report, name, options.largest, kept)
        except Exception as error:
            row = Row({"section": name})
            row.failed("ours", error)
            report.problem(row.problems[0])
    if why_no_tests is None:
        gpu_tests.run(report, max(report.left(), 1.0))
    else:
        report.skip("tests", why_no_tests)
    report.show_missing()
    report.data["complete"] = True
    report.save()
    print(f"{path}: {report.data['seconds']:.0f} s in all")
    if report.problems:
        print(f"*** {len(report.problems)} failures of our own: see above, and 'problems' in the file ***")
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
