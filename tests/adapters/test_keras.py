"""The optimizers for Keras, on each of its backends.

Keras has one backend a process: the checks of `tests.helpers.keras_checks` run in one process for each, all that are
asked for together, since Keras takes seconds to be imported.
"""

import functools
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import nagd_numba
from nagd_numba.kernels.jit import SIMULATOR
from tests.helpers.backends import JIT_OFF

pytestmark = [
    pytest.mark.skipif(JIT_OFF or SIMULATOR, reason="starts other processes, whose legs these are"),
    pytest.mark.skipif(importlib.util.find_spec("keras") is None, reason="keras is not installed"),
]
ROOT = Path(__file__).parent.parent.parent
BACKENDS = {"numpy": (), "torch": ("torch",), "jax": ("jax", "optax"), "tensorflow": ("tensorflow",)}
QUICK = {
    "numpy": ("sgd", "library", "rules", "options", "parts", "configs", "stateless", "refusals"),
    "torch": ("sgd", "library", "options", "parts", "stateless", "refusals", "memory", "files"),
    "jax": ("sgd", "options", "parts", "stateless", "refusals", "files"),
    "tensorflow": ("sgd", "library", "options", "parts", "refusals", "graphs", "files"),
}
LONG = {
    "torch": ("rules", "configs"),
    "jax": ("library", "rules", "configs", "articles", "convolutions", "recurrences"),
    "tensorflow": ("rules", "configs"),
}


@functools.cache
def failures(backend, names):
    """The tracebacks of checks that failed, and None for the others, by name."""
    for package in BACKENDS[backend]:
        pytest.importorskip(package, reason=f"{package} is not installed")
    folders = [str(ROOT), str(Path(nagd_numba.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-m", "tests.helpers.keras_checks", *names],
        env={**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": os.pathsep.join(filter(None, folders))},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(map(json.loads, done.stdout.splitlines()))


SLOWEST = (
    *(("jax", name) for name in ("library", "rules", "configs", "articles", "convolutions")),
    ("torch", "rules"),
)


def each(table):
    """The checks of a table; some compile every rule, which takes half a minute."""
    return [
        pytest.param(backend, name, id=f"{backend}-{name}", marks=[pytest.mark.slow] * ((backend, name) in SLOWEST))
        for backend, names in table.items()
        for name in names
    ]


@pytest.mark.parametrize(("backend", "name"), each(QUICK))
def test_quick(backend, name):
    assert failures(backend, QUICK[backend])[name] is None, failures(backend, QUICK[backend])[name]


@pytest.mark.ci
@pytest.mark.parametrize(("backend", "name"), each(LONG))
def test_long(backend, name):
    assert failures(backend, LONG[backend])[name] is None, failures(backend, LONG[backend])[name]


def test_other_backends_are_refused():
    code = "import keras; keras.backend.backend = lambda: 'openvino'; import nagd_numba.adapters.keras"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "KERAS_BACKEND": "numpy"}, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert "no step for Keras' backend 'openvino'; numpy, torch, jax, tensorflow are supported" in done.stderr
