"""What the README's contributor section promises: a rule is one file and one line in the registry."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from backends import JIT_OFF
from nagd_numba.compile import SIMULATOR

ROOT = Path(__file__).parent.parent

RULE = '''
"""A throwaway rule: descent on the average of the gradient and two remembered ones."""

from ..compile import inlined
from ..rounding import add, fma, mul
from .base import Rule


@inlined
def _constants(hyper, T, options):
    (lr,) = hyper
    return (T(lr),)


@inlined
def _update(p, g, state, constants, options):
    (signed,) = options
    (lr,) = constants
    last, before = state
    T = type(p)
    mean = mul(add(add(g, last), before), T(1 / 3))
    return fma(-lr if signed else lr, mean, p), (g, last)


RULE = Rule("average", _update, _constants, ("last", "before"), {"lr": 0.1}, {"signed": (True, False)})
'''


@pytest.mark.skipif(JIT_OFF or SIMULATOR, reason="starts the test legs itself")
@pytest.mark.skipif(not (ROOT / "pyproject.toml").exists(), reason="needs the source tree")
def test_one_file_and_one_line(tmp_path):
    ignore = shutil.ignore_patterns("__pycache__", ".*", "digits*")
    for folder in ("nagd_numba", "tests", "benchmarks"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    rules = tmp_path / "nagd_numba" / "rules"
    (rules / "average.py").write_text(RULE)
    registry = (rules / "__init__.py").read_text()
    line = '        "nesterov",\n'
    assert line in registry
    (rules / "__init__.py").write_text(registry.replace(line, line + '        "average",\n'))

    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTEST_ADDOPTS": ""}

    def run(*arguments, **extra):
        command = [sys.executable, *arguments]
        options = {"capture_output": True, "text": True, "cwd": tmp_path, "check": False}
        done = subprocess.run(command, env={**environment, **extra}, timeout=280, **options)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
        return done.stdout

    tests = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "average", "tests/test_rules.py", "tests/ptx")
    common = run(*tests)
    assert " passed" in common
    listed = run("-m", "pytest", "--collect-only", *tests[2:])
    assert "test_backends_agree_to_the_last_bit[serial-float32-average]" in listed
    assert "test_compiles_for_every_architecture_without_spills[sm_90-float32-average]" in listed
    simulated = run(*tests[:-2], "tests/test_rules.py", "-k", "average and simulator", NUMBA_ENABLE_CUDASIM="1")
    assert " passed" in simulated
    suite = "import benchmarks.step as s; print(s.Rules.params, s.Rules().setup('average', 'float32', 1000))"
    assert "'average'" in run("-c", suite)
