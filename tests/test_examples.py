"""The examples of `minimize` run as they are, and print the figures that they promise."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from backends import JIT_OFF

EXAMPLES = Path(__file__).parent.parent / "examples"

pytestmark = [
    pytest.mark.skipif(not EXAMPLES.exists(), reason="needs the source tree"),
    pytest.mark.skipif(JIT_OFF, reason="too slow without compiled functions"),
]


@pytest.fixture
def run(tmp_path):
    def printed(name):
        environment = {**os.environ, "MPLBACKEND": "Agg"}
        command = [sys.executable, "-W", "error::RuntimeWarning", str(EXAMPLES / f"{name}.py")]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert ("no plot" in done.stdout) != (tmp_path / f"{name}.png").exists()
        return done.stdout

    return printed


def figure(pattern, text):
    return float(re.search(pattern, text).group(1).replace(",", ""))


def test_lasso(run):
    printed = run("lasso")
    assert 50 <= figure(r"restarts need (\d+)%", printed) <= 70
    found, right = figure(r"(\d+) elements", printed), figure(r"not 0, (\d+) of them", printed)
    assert 0.5 * found <= right <= 100


def test_pixel_fits(run):
    printed = run("pixel_fits")
    assert "100.0% converged" in printed
    error, least = figure(r"rate: ([\d.]+)", printed), figure(r"allows ([\d.]+)", printed)
    assert 0.95 * least <= error <= 1.05 * least


def test_heat_equation(run):
    printed = run("heat_equation")
    assert "converged: True" in printed
    assert figure(r"of the start: ([\d.]+)%", printed) < 0.5 * figure(r"taken for it: ([\d.]+)%", printed)
    assert figure(r"misfit of the measurement: ([\d.]+)", printed) < 0.0033


def test_gaussian_mixture(run):
    printed = run("gaussian_mixture")
    assert "converged: True" in printed
    if "no comparison" not in printed:
        assert figure(r"difference: ([-+][\d.e+-]+)", printed) >= -1e-9
