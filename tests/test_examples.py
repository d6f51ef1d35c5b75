"""The programs in `examples/`: each runs as it is, in an empty folder, prints what it promises, and draws it.

An example that cannot run here ends with a message that begins with "needs ", or with the `ImportError` of an optional
package: it is skipped with that reason.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import nagd_numba
from nagd_numba.kernels.jit import SIMULATOR
from tests.helpers.backends import JIT_OFF

FOLDER = Path(__file__).parent.parent / "examples"
OPTIONAL = ("jax", "keras", "matplotlib", "mpi4py", "numba_cuda", "optax", "scipy", "sklearn", "torch")

pytestmark = [
    pytest.mark.skipif(not FOLDER.exists(), reason="needs the source tree"),
    pytest.mark.skipif(JIT_OFF or SIMULATOR, reason="starts other processes, whose legs these are"),
]

# Those that say that they run in Numba's simulator are run in it as well.
PROGRAMS = [
    pytest.param(
        *(path, simulated),
        id=path.stem + ("-simulated" if simulated else ""),
        marks=[pytest.mark.slow] * (path.stem == "keras_digits"),  # five seeds of each method
    )
    for path in sorted(FOLDER.glob("*.py"))
    for simulated in (False, True)
    if not simulated or "NUMBA_ENABLE_CUDASIM=1" in path.read_text()
]


def run(command, folder, **environment):
    paths = [str(Path(nagd_numba.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), **environment}
    return subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, timeout=250, check=False
    )


def why_not(message):
    """Why a program could not run, from the last line of its errors; None where that is its fault."""
    if message.startswith("needs "):
        return message
    missing = re.fullmatch(r"ModuleNotFoundError: No module named '(\w+).*'", message)
    return f"{missing[1]} is not installed" if missing is not None and missing[1] in OPTIONAL else None


def figure(pattern, text):
    return float(re.search(pattern, text).group(1).replace(",", ""))


def lasso(printed):
    assert 50 <= figure(r"restarts need (\d+)%", printed) <= 70
    found, right = figure(r"(\d+) elements", printed), figure(r"not 0, (\d+) of them", printed)
    assert 0.5 * found <= right <= 100


def pixel_fits(printed):
    assert "100.0% converged" in printed
    error, least = figure(r"rate: ([\d.]+)", printed), figure(r"allows ([\d.]+)", printed)
    assert 0.95 * least <= error <= 1.05 * least


def heat_equation(printed):
    assert "converged: True" in printed
    assert figure(r"of the start: ([\d.]+)%", printed) < 0.5 * figure(r"taken for it: ([\d.]+)%", printed)
    assert figure(r"misfit of the measurement: ([\d.]+)", printed) < 0.0033


def gaussian_mixture(printed):
    assert "converged: True" in printed
    if "no comparison" not in printed:
        assert figure(r"difference: ([-+][\d.e+-]+)", printed) >= -1e-9


def keras_digits(printed):
    ours, theirs = (figure(rf"{name} +([\d.]+)", printed) for name in ("NAG", "SGD, Nesterov"))
    spread = figure(r"SGD, Nesterov +[\d.]+ \+- ([\d.]+)", printed)
    assert abs(ours - theirs) <= 3 * spread * (2 / 3) ** 0.5 + 1 / 180  # of means over 3 seeds; one of 180 digits
    assert ours > 0.95


FIGURES = {check.__name__: check for check in (lasso, pixel_fits, heat_equation, gaussian_mixture, keras_digits)}


@pytest.mark.parametrize(("path", "simulated"), PROGRAMS)
def test_example(path, simulated, tmp_path):
    done = run([sys.executable, path], tmp_path, NUMBA_ENABLE_CUDASIM="1" if simulated else "0")
    reason = why_not((done.stderr.strip().splitlines() or [""])[-1])
    if done.returncode != 0 and reason is not None:
        pytest.skip(reason)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip()
    if path.stem in FIGURES:
        FIGURES[path.stem](done.stdout)
    drawn = set(re.findall(r"\b\w+\.png\b", path.read_text()))
    if importlib.util.find_spec("matplotlib") is not None:
        assert {x.name for x in tmp_path.glob("*.png")} == drawn
    assert not [x for x in tmp_path.iterdir() if x.suffix != ".png"]


def test_what_counts_as_missing():
    assert why_not("needs a GPU") == "needs a GPU"
    assert why_not("ModuleNotFoundError: No module named 'sklearn.mixture'") == "sklearn is not installed"
    assert why_not("ModuleNotFoundError: No module named 'nagd_numba.adma'") is None
    assert why_not("AssertionError: it needs more steps") is None


@pytest.mark.parametrize("path", sorted(FOLDER.glob("from_c/*.c")), ids=lambda path: path.stem)
def test_example_in_c(path, exported, tmp_path):
    """The line that builds and runs it stands in its first comment."""
    if shutil.which("cc") is None:
        pytest.skip("cc is not installed")
    line = re.search(r"Build and run:\n \*\s+nagd-numba export \. && (.+)\n", path.read_text())[1]
    for file in (path, *exported.glob("nagd_numba.*")):  # what that command writes
        shutil.copy(file, tmp_path)
    strict = line.replace("cc ", "cc -Wall -Wextra -pedantic -Werror ", 1)
    done = run(["sh", "-c", strict], tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip()
