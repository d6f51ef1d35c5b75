"""Shared fixtures: every way to run a rule, as one parameter called `backend`."""

import os
from pathlib import Path

import hypothesis
import pytest
from llvmlite.binding.ffi import ObjectRef
from llvmlite.binding.newpassmanagers import FunctionPassManager, ModulePassManager, NewPassManager

# Several test processes share the cores: OpenMP's threads must not spin while they wait.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from tests.helpers import backends

# llvmlite 0.50 never frees its pass managers: the empty `_dispose` of ObjectRef comes before that of NewPassManager.
# That is 1 MB of the 1.3 MB that stay with each function that Numba compiles, and test processes compile hundreds.
for manager in (ModulePassManager, FunctionPassManager):
    if manager._dispose is ObjectRef._dispose:
        manager._dispose = NewPassManager._dispose

# Kernels compile inside examples: no deadline.  In CI the same examples are drawn every time.
common = {
    "deadline": None,
    "suppress_health_check": [hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.function_scoped_fixture],
    "print_blob": True,
}
hypothesis.settings.register_profile("default", max_examples=20, **common)
hypothesis.settings.register_profile("ci", max_examples=20, derandomize=True, **common)
hypothesis.settings.register_profile("slow", max_examples=5, derandomize=True, **common)
slow = os.environ.get("NUMBA_ENABLE_CUDASIM", "0") != "0" or os.environ.get("NUMBA_DISABLE_JIT", "0") != "0"
hypothesis.settings.load_profile("slow" if slow else "ci" if os.environ.get("CI") else "default")


@pytest.fixture(params=backends.BACKENDS, ids=lambda backend: backend.name)
def backend(request):
    """A way to run a rule on NumPy arrays in place; skips, with the reason, where it cannot run here."""
    return backends.here(request.param)


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """A folder with the files of `nagd-numba export`, made once for all test processes."""
    import fcntl

    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "exported"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "nagd_numba.f90").exists():
            from nagd_numba.cli.main import main

            assert main(["export", str(folder)]) == 0
    return folder


# The legs of CI note in this file what has passed, and run what has not: what was skipped for want of something.
PASSED = os.environ.get("NAGD_NUMBA_PASSED")
_passed = []


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    if PASSED and Path(PASSED).exists():
        before = set(Path(PASSED).read_text(encoding="utf-8").splitlines())
        done = [item for item in items if item.nodeid in before]
        config.hook.pytest_deselected(items=done)
        items[:] = [item for item in items if item.nodeid not in before]


def pytest_runtest_logreport(report):
    if report.when == "call" and report.passed:
        _passed.append(report.nodeid)


def pytest_sessionfinish(session):
    if PASSED and not hasattr(session.config, "workerinput"):  # workers of xdist tell the one that has started them
        with open(PASSED, "a", encoding="utf-8") as file:
            file.writelines(f"{name}\n" for name in _passed)
