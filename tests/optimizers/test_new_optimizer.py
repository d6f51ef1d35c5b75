"""An optimizer is one file and one line: Lion under another name, in a copy of the package, has everything Lion has."""

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

ROOT = Path(__file__).parent.parent.parent
PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider")

pytestmark = [
    pytest.mark.skipif(JIT_OFF or SIMULATOR, reason="starts the test legs itself"),
    pytest.mark.skipif(not (ROOT / "pyproject.toml").exists(), reason="needs the source tree"),
]

EVERYWHERE = """
import contextlib, ctypes, io
import numpy as np
import nagd_numba
from numba import njit
from nagd_numba import MLP, fit_many
from nagd_numba.c import text
from nagd_numba.cli.main import main
import benchmarks.rules


def same(a, b):
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x.view(np.uint8), y.view(np.uint8))


def arrays():
    rng = np.random.default_rng(0)
    return [rng.normal(size=50).astype(np.float32) for _ in range(3)]


# from Python
want = arrays()
nagd_numba.lion_step(*want, lr=0.1, weight_decay=0.5, maximize=True)
here = arrays()
nagd_numba.tiger_step(*here, lr=0.1, weight_decay=0.5, maximize=True)
same(here, want)


# from compiled code
@njit
def user(p, g, m):
    nagd_numba.tiger_step(p, g, m, lr=0.1, weight_decay=0.5, maximize=True)


here = arrays()
user(*here)
same(here, want)

# from C
assert "const float *grads, float *m, int64_t n, double lr" in nagd_numba.c_functions()["tiger_step_f32"]
kinds = [*3 * [ctypes.c_void_p], ctypes.c_int64, *4 * [ctypes.c_double], ctypes.c_int]
function = ctypes.CFUNCTYPE(ctypes.c_int, *kinds)(nagd_numba.c_address("tiger_step_f32"))
here = arrays()
assert function(*(x.ctypes.data for x in here), 50, 0.1, 0.9, 0.99, 0.5, 1) == 0
same(here, want)
assert "int nagd_tiger_step_f64(" in text.header("here", False, ())
assert "interface nagd_tiger_step" in text.fortran("here", ())

# training
X = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
net = MLP([1, 8, 1], activation="tanh", loss="mse")
trained = {}
for name in ("lion", "tiger"):
    params, vel = net.init(0), np.zeros(net.size, np.float32)
    net.fit(params, X, X[:, 0] ** 2, epochs=2, lr=0.001, momentum=0.8, optimizer=name, vel=vel)
    trained[name] = params, vel
same(trained["tiger"], trained["lion"])
params = np.stack([net.init(0)] * 2)
fit_many(net, params, X, X[:, 0] ** 2, epochs=2, lr=[0.001, 0.01], momentum=0.8, optimizer="tiger")
same([params[0]], [trained["lion"][0]])

# the command line
common = ["--hidden", "4", "--epochs", "1"]
for arguments in (["train", "--methods", "nag,tiger", *common],
                  ["sweep", "--optimizer", "tiger", "--lr", "0.001", "--momentum", "0.9", "--seeds", "1", *common]):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert main(arguments) == 0
    assert "tiger" in out.getvalue(), out.getvalue()

# benchmarks
assert "tiger" in benchmarks.rules.Rules.params[0]
assert benchmarks.rules.kernel("tiger", "float32", 1000)() == 0
print("everywhere")
"""


PYTORCH = """
import torch
from nagd_numba.adapters.torch import Lion, Tiger

x, y = (torch.nn.Parameter(torch.linspace(-1, 1, 50)) for _ in range(2))
for p, make in ((x, Lion), (y, Tiger)):
    p.grad = torch.ones(50)
    make([p], lr=0.1, weight_decay=0.5).step()
assert torch.equal(x, y) and "Tiger as a `torch.optim.Optimizer`" in Tiger.__doc__
"""

JAX = """
import jax.numpy as jnp
from nagd_numba.adapters.optax import lion_step, tiger_step

given = jnp.linspace(-1, 1, 50), jnp.ones(50), jnp.zeros(50)
assert all((x == y).all() for x, y in zip(lion_step(*given), tiger_step(*given)))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Run Python with a copy of the package in which one file and one line are new."""
    copy = tmp_path_factory.mktemp("copy")
    ignore = shutil.ignore_patterns("__pycache__", ".*")
    for folder in ("nagd_numba", "tests", "benchmarks"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=ignore)
    for file in ("pyproject.toml", "asv.conf.json"):
        shutil.copy(ROOT / file, copy)
    optimizers = copy / "nagd_numba" / "optimizers"
    lion = (optimizers / "lion.py").read_text()
    (optimizers / "tiger.py").write_text(lion.replace("lion", "tiger").replace("Lion", "Tiger"))
    registry = (optimizers / "registry.py").read_text()
    line = '        "lion",\n'
    assert line in registry
    (optimizers / "registry.py").write_text(registry.replace(line, line + '        "tiger",\n'))
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTEST_ADDOPTS": "", "NAGD_NUMBA_PASSED": ""}

    def run(*arguments, **extra):
        command = [sys.executable, *arguments]
        options = {"capture_output": True, "text": True, "cwd": copy, "check": False}
        done = subprocess.run(command, env={**environment, **extra}, timeout=280, **options)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    return run


@pytest.mark.ci
def test_everywhere(run):
    assert "everywhere" in run("-c", EVERYWHERE)


@pytest.mark.parametrize(("code", "needed"), [(PYTORCH, ["torch"]), (JAX, ["jax", "optax"])], ids=["PyTorch", "JAX"])
def test_in_a_framework(run, code, needed):
    for name in needed:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    run("-c", code)


@pytest.mark.ci
def test_the_common_tests_take_it_up(run):
    common = [f"tests/optimizers/test_{name}.py" for name in ("rules", "public_steps", "in_compiled_code")]
    assert " passed" in run(*PYTEST, *common[:2], "-k", "tiger and not emulator")
    listed = run(*PYTEST, *common, "tests/ptx", "tests/c", "-k", "tiger", "--collect-only")
    for name in (
        "test_backends_agree_to_the_last_bit[serial-float32-tiger]",
        "test_inside_njit[tiger]",
        "test_cuda_kernel_in_the_emulator[float32-tiger]",
        "test_compiles_for_every_architecture_without_spills[sm_90-float32-tiger]",
        "test_bits_of_the_public_step[object-tiger_step_f32]",
    ):
        assert name in listed


def test_the_simulator_takes_it_up(run):
    tests = "tests/optimizers/test_rules.py"
    assert " passed" in run(*PYTEST, tests, "-k", "tiger and simulator", NUMBA_ENABLE_CUDASIM="1")


@pytest.mark.skipif(importlib.util.find_spec("numba_cuda") is None, reason="numba-cuda is not installed")
def test_it_compiles_for_a_device(run):
    assert re.search(r" (passed|skipped)", run(*PYTEST, "tests/ptx", "-k", "tiger and sm_90 and float32"))
