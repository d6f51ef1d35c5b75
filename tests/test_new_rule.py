"""What the README's contributor section promises: a rule is one file and one line in the registry."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nagd_numba.kernels.jit import SIMULATOR
from tests.helpers.backends import JIT_OFF

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
    for file in ("pyproject.toml", "asv.conf.json"):
        shutil.copy(ROOT / file, tmp_path)
    rules = tmp_path / "nagd_numba" / "rules"
    (rules / "average.py").write_text(RULE)
    registry = (rules / "__init__.py").read_text()
    line = '        "nesterov",\n'
    assert line in registry
    (rules / "__init__.py").write_text(registry.replace(line, line + '        "average",\n'))

    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTEST_ADDOPTS": "", "NAGD_NUMBA_PASSED": ""}

    def run(*arguments, **extra):
        command = [sys.executable, *arguments]
        options = {"capture_output": True, "text": True, "cwd": tmp_path, "check": False}
        done = subprocess.run(command, env={**environment, **extra}, timeout=280, **options)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
        return done.stdout

    tests = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/optimizers/test_rules.py", "-k")
    assert " passed" in run(*tests, "average and not emulator")
    listed = run(*tests, "average", "tests/ptx", "--collect-only")
    assert "test_backends_agree_to_the_last_bit[serial-float32-average]" in listed
    assert "test_compiles_for_every_architecture_without_spills[sm_90-float32-average]" in listed
    assert " passed" in run(*tests, "average and simulator", NUMBA_ENABLE_CUDASIM="1")
    if importlib.util.find_spec("numba_cuda") is not None:
        one = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/ptx", "-k", "average and sm_90 and float32")
        assert re.search(r" (passed|skipped)", run(*one))
    suite = "import benchmarks.rules as r; print(r.Rules.params, r.kernel('average', 'float32', 1000)())"
    assert "'average'" in run("-c", suite)
