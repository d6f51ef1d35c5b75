"""The disk cache: never an old rule, fast second start, read-only installs, and a switch to turn it off."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import nagd_numba
from nagd_numba.kernels.jit import SIMULATOR
from tests.helpers.backends import JIT_OFF

PACKAGE = Path(nagd_numba.__file__).parent
pytestmark = pytest.mark.skipif(JIT_OFF or SIMULATOR, reason="is about compiled kernels")

STEP = """
import numpy as np, nagd_numba
from nagd_numba.optimizers._host import host_kernel, vectors
from nagd_numba.optimizers.registry import RULES
p, g, v = np.ones(3), np.ones(3), np.zeros(3)
nagd_numba.step(p, g, v, lr=1.0, momentum=0.0)
rule = RULES["nesterov"]
kernel = host_kernel(rule, rule.defaults(), vectors(rule, np.float64), parallel=False)
print(p[0], sum(kernel.stats.cache_hits.values()), sum(kernel.stats.cache_misses.values()))
"""


@pytest.fixture
def installed(tmp_path):
    """A copy of the package, as if installed."""
    shutil.copytree(PACKAGE, tmp_path / "site" / "nagd_numba", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "site"


def run(site, code=STEP, **environment):
    inherited = {k: v for k, v in os.environ.items() if k not in ("NUMBA_CACHE_DIR", "NAGD_NUMBA_CACHE")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=site,
        env={**inherited, "PYTHONPATH": str(site), **environment},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def cache_files(folder):
    return sorted(folder.rglob("*.nbc"))


def test_second_process_loads_what_the_first_compiled(installed):
    assert run(installed) == ["0.0", "0", "1"]
    assert cache_files(installed)
    assert run(installed) == ["0.0", "1", "0"]


@pytest.mark.parametrize(
    ("file", "old", "new", "result"),
    [
        ("optimizers/nesterov.py", "fma(step, direction, p), v", "fma(step, direction, add(p, p)), v", "1.0"),
        ("kernels/rounding.py", "return builder.fma(*operands)", "return builder.fmul(*operands[:2])", "-1.0"),
        ("kernels/elementwise.py", "grads[i], gather(states, i)", "-grads[i], gather(states, i)", "2.0"),
    ],
)
def test_a_changed_source_is_never_served_from_the_cache(installed, file, old, new, result):
    """Also where the change is in a function that the cached kernel only calls."""
    assert run(installed) == ["0.0", "0", "1"]
    source = installed / "nagd_numba" / file
    text = source.read_text()
    assert old in text
    stat = source.stat()
    source.write_text(text.replace(old, new))
    os.utime(source, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # an upgrade may keep time stamps
    assert run(installed) == [result, "0", "1"]


NETWORKS = """
import numpy as np, nagd_numba
X, y = np.linspace(-1, 1, 20, dtype="f4").reshape(4, 5), np.arange(4) % 3
def network(dropout):
    net = nagd_numba.MLP((5, 8, 3), dropout=dropout)
    loss, grads = net.value_and_grad(net.init(0), X, y, dropout_seed=1)
    print(loss, float(np.abs(grads).sum()))
"""


def test_kernels_of_different_processes_do_not_mix(installed):
    """Two processes compile different kernels; a third loads both.

    Their inner functions have equal types and, without names of their own, would have equal symbols: one kernel would
    then run the inner functions of the other.
    """
    plain, dropped = run(installed, NETWORKS + "network(0.0)"), run(installed, NETWORKS + "network(0.5)")
    assert plain != dropped
    both = run(installed, NETWORKS + "network(0.0); network(0.5)")
    assert both == [*plain, *dropped]
    other_order = run(installed, NETWORKS + "network(0.5); network(0.0)")
    assert other_order == [*dropped, *plain]


def test_the_cache_can_be_turned_off(installed):
    for _ in range(2):
        value, hits, _ = run(installed, NAGD_NUMBA_CACHE="0")
        assert (value, hits) == ("0.0", "0")
    assert not cache_files(installed)


def test_the_cache_can_be_moved(installed, tmp_path):
    run(installed, NUMBA_CACHE_DIR=str(tmp_path / "elsewhere"))
    assert not cache_files(installed)
    assert cache_files(tmp_path / "elsewhere")


def test_read_only_install_without_a_home(installed, tmp_path):
    """Where numba finds no place for a cache, kernels compile and run all the same."""
    blocked = tmp_path / "file"
    blocked.write_text("")
    code = (
        "import numba.core.caching as caching\n"
        # As root every folder is writable: take the places away instead of the permission.
        "for locator in list(caching.CacheImpl._locator_classes):\n"
        "    locator.from_function = classmethod(lambda cls, *a: None)\n" + STEP
    )
    value, hits, _ = run(installed, code, HOME=str(blocked), XDG_CACHE_HOME=str(blocked))
    assert (value, hits) == ("0.0", "0")
    assert not cache_files(installed)
