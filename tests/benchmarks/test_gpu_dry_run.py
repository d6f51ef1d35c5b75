"""`python -m benchmarks.gpu` as a whole, small, on the CUDA driver for tests: measurements, then the tests on it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nagd_numba.kernels.jit import SIMULATOR
from tests.helpers import driverless

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(SIMULATOR, reason="the CUDA simulator stands in for the device")


def dry_run(path, *arguments):
    driverless.require()
    benchmark = ["-m", "benchmarks.gpu", "--dry-run", "--largest", "10", "--without", "torch", "cupy", "jax"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.helpers.on_driver", *benchmark, "--json", str(path), *arguments],
        **{"cwd": ROOT, "capture_output": True, "text": True},
        env={**os.environ, "PYTEST_ADDOPTS": "-p tests.helpers.on_driver"},
    )
    assert path.exists(), done.stderr
    data = json.loads(path.read_text())
    assert data["problems"] == [], done.stdout + done.stderr
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAULT" not in done.stderr
    return data, done.stdout


@pytest.mark.slow
def test_every_section_has_figures_of_ours(tmp_path):
    data, _ = dry_run(tmp_path / "out.json", "--no-tests")
    assert data["complete"]
    assert list(data["sections"]) == ["training", "sweep", "step", "lists", "launch", "fits"]
    for name, section in data["sections"].items():
        assert "figures" in section["rows"][0], name
        assert any(figure in section["rows"][0]["figures"] for figure in ("ours", "all networks")), name


@pytest.mark.slow
def test_the_device_tests_run_after_the_measurements(tmp_path):
    data, said = dry_run(tmp_path / "out.json", "--only", "launch")
    assert data["tests"]["return_code"] == 0, data["tests"]
    assert "passed" in data["tests"]["summary"]
    assert said.index("host's time to start a step") < said.index("passed")
