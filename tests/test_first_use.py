"""Every public name in compiled code, first thing in a process: nothing comes from an import that is too late."""

import subprocess
import sys

import pytest

import nagd_numba
from nagd_numba.kernels.jit import SIMULATOR
from nagd_numba.optimizers.registry import OPTIMIZERS
from tests.helpers.backends import JIT_OFF

pytestmark = pytest.mark.skipif(JIT_OFF or SIMULATOR, reason="is about compiled code")

PRELUDE = """
import numpy as np
from numba import njit
import nagd_numba
x = np.ones(3)
"""

MINIMIZE = """
@njit
def fun(x):
    return 0.5 * np.sum((x - 1) ** 2), x - 1

@njit
def use(x):
    return nagd_numba.minimize(fun, x, (), True).x[0]

assert abs(use(np.zeros(3)) - 1) < 1e-4
"""

VERSION = """
@njit
def use():
    return nagd_numba.__version__

assert use() == nagd_numba.__version__
"""

T = """
@njit
def use(t):
    return nagd_numba.fista_t(t)

assert use(1.0) > 1.6
"""

WEIGHT = """
@njit
def use(k):
    return nagd_numba.average_weight(k)

assert use(4) == 0.25
"""

X = """
@njit
def use(y, z):
    return nagd_numba.schedule_free_x(y, z, 0.5)

assert use(1.0, 2.0) == 0.0
"""


def uses():
    """The code that uses each name; what is not here is for Python."""
    made = {
        "minimize": MINIMIZE,
        "__version__": VERSION,
        "fista_t": T,
        "average_weight": WEIGHT,
        "schedule_free_x": X,
    }
    for optimizer in OPTIMIZERS.values():
        states = len(optimizer.rule.states)
        t = "t=3" if "t" in optimizer.settings else ""
        step, update = optimizer.name, optimizer.update.__name__
        arrays = ", ".join(["x.copy()"] * (2 + states))
        made[step] = f"""
@njit
def use(x):
    return nagd_numba.{step}({arrays}, {t})

assert np.isfinite(use(x)).all()
"""
        scalars = ", ".join(["x[0]"] * (2 + states))
        if optimizer.constants is None:
            more = "0.1, 0.9, 0.9"
            made[update] = f"""
@njit
def use(x):
    return nagd_numba.{update}({scalars}, {more})[0]

assert np.isfinite(use(x))
"""
            continue
        constants = optimizer.constants.__name__
        made[constants] = f"""
@njit
def use(x):
    return nagd_numba.{constants}(np.float64, {t})[0]

assert np.isfinite(use(x))
"""
        made[update] = f"""
constants = nagd_numba.{constants}(np.float64, {t})

@njit
def use(x, constants):
    return nagd_numba.{update}({scalars}, constants)[0]

assert np.isfinite(use(x, constants))
"""
    return made


USES = uses()
FOR_PYTHON = {
    "Average",
    "MLP",
    "FlatParams",
    "Guard",
    "History",
    "Int8State",
    "StochasticRounding",
    "bind",
    "c_address",
    "c_functions",
    "check_grad",
    "finish_rows",
    "fit_many",
    "int8_states",
    "load_states",
    "minimize_many",
    "row_history",
    "save_states",
    "schedule_free_eval",
    "schedule_free_train",
    "schedules",
    "scipy_method",
    "step_rows",
}
FIRST = ("minimize", "fista_t", "lion_update")
SECOND = ("step", "adam_step", "nadam_constants", "nesterov_update", "adagrad_update", "rmsprop_step")


def test_each_name_is_known():
    assert set(USES) | FOR_PYTHON == set(nagd_numba.__all__)


def mark(name):
    return () if name in FIRST else pytest.mark.ci if name in SECOND else pytest.mark.slow


@pytest.mark.parametrize("name", [pytest.param(x, marks=mark(x)) for x in USES])
def test_first_use(name):
    done = subprocess.run([sys.executable, "-c", PRELUDE + USES[name]], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
