"""A planted slowdown, through asv.

Needs asv, git, and a package index: asv installs the project from two commits.  Takes about a minute.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FIGURE = "step.Step.track_over_moved_bytes"
FIRST_LINE = "    if momentum_next is None:\n"  # of `step`
SLOWER = f"""\
    from time import perf_counter

    end = perf_counter() + 1e-6  # about as long as a step of 1,000 elements takes
    while perf_counter() < end:
        pass
{FIRST_LINE}"""

pytestmark = [
    pytest.mark.slow,  # it builds two environments; CI runs the suites themselves
    pytest.mark.skipif(importlib.util.find_spec("asv") is None, reason="asv is not installed"),
    pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not in a git checkout"),
    pytest.mark.timeout(900),
]


def run(*command, cwd, check=True):
    env = {**os.environ, "HOME": str(cwd.parent), "NAGD_NUMBA_QUICK_BENCH": "1"}
    env.pop("PYTHONPATH", None)
    who = {f"GIT_{role}_{what}": "tests@example.org" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env={**env, **who})
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A clone with one commit more, in which `step` takes twice as long."""
    folder = tmp_path_factory.mktemp("asv") / "clone"
    pip = subprocess.run(
        [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder.parent / "index"), "rich"]
    )
    if pip.returncode:
        pytest.skip("no package index can be reached")
    run("git", "clone", "-q", str(ROOT), str(folder), cwd=folder.parent)
    source = folder / "nagd_numba" / "optimizers" / "nesterov.py"
    text = source.read_text()
    assert FIRST_LINE in text
    source.write_text(text.replace(FIRST_LINE, SLOWER, 1))
    run("git", "commit", "-qam", "planted", cwd=folder)
    run(sys.executable, "-m", "asv", "machine", "--yes", cwd=folder)
    return folder


@pytest.fixture(scope="module")
def compared(project):
    """What `asv continuous` says of the two commits."""
    return run(
        *(sys.executable, "-m", "asv", "continuous", "--factor", "1.4", "--bench", f"^{FIGURE}", "HEAD~1", "HEAD"),
        cwd=project,
        check=False,
    )


def test_a_slowdown_is_reported(compared):
    assert compared.returncode == 1, compared.stdout + compared.stderr
    worse = [line for line in compared.stdout.splitlines() if line.startswith("| +")]
    assert [line for line in worse if f"{FIGURE}(1000, 'float32', 'ours')" in line], compared.stdout
    assert "PERFORMANCE DECREASED" in compared.stdout


def test_nothing_is_timed_cold(project, compared):
    """A compilation or an import in any figure would be a thousand times the kernel that only moves the bytes."""
    files = list((project / ".asv" / "results").glob("*/*-*.json"))
    assert len(files) == 2
    for file in files:
        figures = next(iter(json.loads(file.read_text())["results"].values()))
        values = [value for value in figures[0] if value is not None]
        assert len(values) >= 2 * 6
        assert max(values) < 1000
