"""`python -m benchmarks.gpu`: what it does without a device, and what it writes, on a driver that is none."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from tests.helpers import driverless, fake_driver

gpu = pytest.importorskip("benchmarks.gpu", reason="the benchmarks are not beside the tests")
from benchmarks import gpu_report, gpu_step, gpu_tests, gpu_timing  # noqa: E402
from benchmarks.gpu_report import Row, Unusable  # noqa: E402
from nagd_numba.kernels.jit import SIMULATOR  # noqa: E402

pytestmark = pytest.mark.skipif(SIMULATOR, reason="the CUDA simulator stands in for the device")

ALONE = ["--no-tests", "--largest", "4", "--without", "torch", "cupy", "jax", "--only"]


@pytest.fixture
def fake(monkeypatch):
    """A fake driver, and sizes and times that suit it."""
    driverless.require()
    for name, value in {"WARM_UP": 0.0, "ROUNDS": 2, "ROUND_SECONDS": 0.001, "MOST_STEPS": 3}.items():
        monkeypatch.setattr(gpu_timing, name, value)
    monkeypatch.setattr(gpu_step, "EXPONENTS", range(4, 5))
    monkeypatch.setattr(gpu_step, "OTHER_DTYPES", (("bfloat16", True, 20),))
    monkeypatch.setattr(gpu_step, "copy_of", no_copy)
    with fake_driver.installed() as driver:
        yield driver


def no_copy(nbytes):
    raise RuntimeError("no copies here")


def run(path, *arguments):
    status = gpu.main(["--json", str(path), *arguments])
    assert [file.name for file in path.parent.iterdir()] == [path.name]  # no temporary file is left
    return status, json.loads(path.read_text())


def test_without_a_device(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(gpu, "why_no_cuda", lambda: "CUDA is not available: looked everywhere")
    assert gpu.main(["--json", str(tmp_path / "out.json")]) == 2
    assert capsys.readouterr().err == "CUDA is not available: looked everywhere\n"
    assert not list(tmp_path.iterdir())


def test_a_section(fake, capsys, tmp_path):
    status, data = run(tmp_path / "out.json", *ALONE, "step")
    assert status == 0
    assert data["complete"]
    assert data["problems"] == []
    for name in ("date", "commit", "device", "versions", "platform", "budget_s", "seconds"):
        assert name in data
    assert set(data["skipped"]) == {"tests", "lists", "launch", "training", "sweep", "fits"}
    first, half = data["sections"]["step"]["rows"]
    assert first["case"] == {"n": "2^4", "dtype": "float32", "bytes": 20}
    assert half["case"]["dtype"] == "bfloat16, master"
    ours = first["figures"]["ours"]
    assert ours["unit"] == "us"
    assert ours["spread"]["low"] <= ours["value"] <= ours["spread"]["high"]
    assert first["figures"]["our rate"]["unit"] == "GB/s"
    assert first["not_measured"]["copy"] == "failed: RuntimeError: no copies here"
    assert first["not_measured"]["JAX"] == "n/a: left out by --without jax"
    said = capsys.readouterr().out
    assert "a step on one array" in said
    assert "copy: failed: RuntimeError: no copies here" in said


def test_our_own_failure(fake, monkeypatch, capsys, tmp_path):
    def broken(n, dtype, master=False):
        raise ValueError("a mistake")

    monkeypatch.setattr(gpu_step, "our_step", broken)
    monkeypatch.setattr(gpu_step, "copy_of", lambda nbytes: gpu_timing.Contender(lambda: None))
    status, data = run(tmp_path / "out.json", *ALONE, "step")
    assert status == 1
    assert len(data["problems"]) == 2
    assert "ValueError: a mistake" in data["problems"][0]
    row = data["sections"]["step"]["rows"][0]
    assert row["not_measured"]["ours"] == "failed: ValueError: a mistake"
    assert "copy" in row["figures"]  # the others went on
    assert "ratio" not in row["figures"]["copy"]
    assert "a mistake" in capsys.readouterr().err


def test_budget(fake, tmp_path):
    status, data = run(tmp_path / "out.json", *ALONE, "step", "launch", "--budget", "1e-9")
    assert status == 0
    assert data["sections"] == {}
    assert "the budget of 1e-09 s was used up" in data["skipped"]["step: n 2^4, dtype float32, bytes 20"]


def in_place_of_pytest(monkeypatch, program):
    """The tests are a Python program in place of pytest."""
    monkeypatch.setattr(gpu, "SECTIONS", {})
    monkeypatch.setattr(gpu_tests, "command", lambda: [sys.executable, "-c", program])
    monkeypatch.setattr(gpu_report, "_output", lambda *command: None)


@pytest.mark.parametrize(("code", "status"), [(0, 0), (3, 1)])
def test_tests_are_recorded(fake, monkeypatch, tmp_path, code, status):
    in_place_of_pytest(monkeypatch, f"print('SKIPPED [1] x'); print('7 passed'); exit({code})")
    got, data = run(tmp_path / "out.json")
    assert got == status
    assert data["tests"]["return_code"] == code
    assert data["tests"]["summary"] == "7 passed"
    assert data["tests"]["lines"] == ["SKIPPED [1] x"]


def test_tests_that_take_too_long_are_stopped(fake, monkeypatch, tmp_path):
    in_place_of_pytest(monkeypatch, "import time; print('half', flush=True); time.sleep(60)")
    status, data = run(tmp_path / "out.json", "--budget", "1")
    assert status == 0
    assert data["tests"]["return_code"] is None
    assert re.fullmatch(r"not finished after [01] s; the last line: half", data["tests"]["summary"])
    assert "the tests were stopped" in data["missing"]["time"][0]


def test_measurements_leave_time_for_the_tests(tmp_path):
    report = gpu_report.Report(tmp_path / "out.json", 100.0, {})
    report.start -= 60.0
    assert report.spent() is None
    assert report.spent(50.0) == "the budget of 100 s was used up after 60 s, but for 50 s for the tests"


def test_a_plugin_that_is_missing_is_named_with_what_it_costs(fake, monkeypatch, capsys, tmp_path):
    in_place_of_pytest(
        monkeypatch, "print(\"ERROR tests/x.py: ModuleNotFoundError: No module named 'hypothesis'\"); exit(1)"
    )
    monkeypatch.setattr(gpu_tests, "find_spec", lambda name: None if name in gpu_tests.PLUGINS else name)
    status, data = run(tmp_path / "out.json")
    assert status == 0  # a file that cannot be imported for want of a package is no failure of ours
    assert data["missing"]["pytest-xdist is not installed"] == ["the tests ran in one process"]
    assert "hypothesis is not installed; without it: the test files that use it" in capsys.readouterr().out


def test_peers_that_are_missing_are_named_with_what_they_cost(fake, tmp_path):
    _, data = run(tmp_path / "out.json", *ALONE, "step")
    assert data["missing"]["left out by --without jax"] == ["step: JAX"]


PROGRAM = """
import pytest

@pytest.mark.parametrize("backend", ["host", "device"])
def test_it(backend):
    assert backend == "host", "here is why"

def test_device_after():
    import time
    time.sleep(0.1)
"""


@pytest.mark.parametrize("absent", [(), ("xdist", "pytest_timeout")], ids=["plugins", "no plugins"])
def test_strict_options_do_not_matter_and_failures_come_at_once(monkeypatch, tmp_path, absent):
    """In a project with strict options of its own, as this one's, which refuse to run without the plugins."""
    (tmp_path / "test_some.py").write_text(PROGRAM)
    options = "[pytest]\naddopts = --strict-config --dist=loadfile\ntimeout = 300\n"
    (tmp_path / "pytest.ini").write_text(options)
    find_spec = gpu_tests.find_spec
    monkeypatch.setattr(gpu_tests, "find_spec", lambda name: None if name in absent else find_spec(name))
    monkeypatch.setattr(gpu_tests, "WORKERS", 1)
    monkeypatch.setattr(gpu_tests, "TESTS", ("test_some.py",))
    left_out = [f"-pno:{name.removeprefix('pytest_')}" for name in absent]
    done = subprocess.run(
        [*gpu_tests.command(), *left_out],
        **{
            "capture_output": True,
            "text": True,
            "cwd": tmp_path,
            "env": {**os.environ, "PYTHONPATH": str(gpu_report.ROOT)},
        },
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed, 1 passed" in done.stdout
    said = done.stdout.index("FAILED test_some.py::test_it[device] (call)")
    assert said < done.stdout.index("here is why") < done.stdout.index("short test summary")


def test_the_usual_place_of_a_toolkit(monkeypatch, tmp_path):
    (tmp_path / "nvvm").mkdir()
    monkeypatch.setattr(gpu, "TOOLKIT", tmp_path)
    for name in ("CUDA_HOME", "CUDA_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(gpu.toolchain, "version_of", lambda package: "13.5.37")
    assert gpu.find_toolkit() is None
    assert "CUDA_HOME" not in os.environ
    monkeypatch.setattr(gpu.toolchain, "version_of", lambda package: None)
    monkeypatch.setenv("CUDA_HOME", "elsewhere")
    assert gpu.find_toolkit() is None
    monkeypatch.delenv("CUDA_HOME")
    assert gpu.find_toolkit() == f"no wheel of NVVM is installed: CUDA_HOME={tmp_path}"
    assert os.environ["CUDA_HOME"] == str(tmp_path)


def test_table_without_rich(monkeypatch, capsys):
    row = Row({"n": 3})
    row.put("ours", 1234.5, "us", target=2.0)
    row.put("torch", 5.0, "us", ratio=1.25)
    row.failed("JAX", Unusable("no JAX"))
    gpu_report.show("title", [row], "note")
    assert re.search(r"3 .* 1,234 \[2\] .* 1\.25 .* n/a", capsys.readouterr().out)
    monkeypatch.setitem(sys.modules, "rich.console", None)
    gpu_report.show("title", [row], "note")
    said = capsys.readouterr().out.splitlines()
    assert said == ["title", "n 3; ours (us) 1,234 [2]; torch (x ours) 1.25; JAX n/a", "note", "  JAX: n/a: no JAX"]


def test_arguments(fake, capsys, tmp_path):
    for wrong in (["--budget", "0"], ["--largest", "3"], ["--only", "everything"]):
        with pytest.raises(SystemExit):
            gpu.main(wrong)
    assert gpu.main(["--json", str(tmp_path / "nowhere" / "out.json")]) == 2
    assert "there is no directory" in capsys.readouterr().err


def test_bfloat16_by_its_bits(fake):
    x = gpu_step.device_array(100, "bfloat16", 0)
    wide = (x.bits.copy_to_host().astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_allclose(wide, gpu_timing.values(100, np.float32, 0), rtol=2**-7)
