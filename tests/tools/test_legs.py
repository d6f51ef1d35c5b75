"""Each leg of CI has a name, is run by `.ci/run`, and can be run alone."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RUN = ROOT / ".ci" / "run"

pytestmark = pytest.mark.skipif(not RUN.exists(), reason="needs the source tree")


def said(*arguments):
    return subprocess.run([str(RUN), *arguments], capture_output=True, text=True, check=False, timeout=30)


def test_the_legs_are_those_that_ci_runs():
    listed = [line.split()[0] for line in said("--list").stdout.splitlines()]
    run = re.findall(r"^(?:start|together|if .*; then together) (.+?)(?:; fi)?$", RUN.read_text(), flags=re.MULTILINE)
    assert sorted(listed) == sorted(name for names in run for name in names.split())
    assert len(listed) >= 10


def test_an_unknown_leg_runs_nothing():
    done = said("lint", "lnit")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "there is no leg 'lnit'; there are: readme lint" in done.stderr
