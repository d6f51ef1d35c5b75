"""The disk cache: never an old rule, a fast second start, unwritable places, pruning, damage, many processes."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import nagd_numba
from nagd_numba.kernels import cache
from nagd_numba.kernels.jit import SIMULATOR
from tests.helpers.backends import JIT_OFF

PACKAGE = Path(nagd_numba.__file__).parent
pytestmark = pytest.mark.skipif(JIT_OFF or SIMULATOR, reason="is about compiled kernels")

# Prints the first parameter after a step, and how many kernels were compiled.
STEP = """
import numpy as np, nagd_numba
from nagd_numba.kernels.jit import compiled_now
p, g, v = np.ones(3), np.ones(3), np.zeros(3)
nagd_numba.step(p, g, v, lr=1.0, momentum=0.0)
print(p[0], compiled_now())
"""


@pytest.fixture
def installed(tmp_path):
    """A copy of the package, as if installed."""
    shutil.copytree(PACKAGE, tmp_path / "site" / "nagd_numba", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "site"


@pytest.fixture
def folder(tmp_path):
    """Where the kernels go."""
    return tmp_path / "cache"


def started(site, folder, code=STEP, **environment):
    inherited = {k: v for k, v in os.environ.items() if k not in ("NUMBA_CACHE_DIR", "NAGD_NUMBA_CACHE")}
    there = {} if folder is None else {"NUMBA_CACHE_DIR": str(folder)}
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=site,
        env={**inherited, "PYTHONPATH": str(site), **there, **environment},
    )


def finished(process):
    out, errors = process.communicate()
    assert process.returncode == 0, errors
    return out.split()


def run(*given, **environment):
    return finished(started(*given, **environment))


def kernels(folder):
    return sorted(folder.rglob("*.nbc"))


def test_second_process_loads_what_the_first_compiled(installed, folder):
    value, compiled = run(installed, folder)
    assert value == "0.0"
    assert int(compiled) == len(kernels(folder)) > 0
    assert run(installed, folder) == ["0.0", "0"]


def edit(file, old, new):
    text = file.read_text()
    assert old in text
    stat = file.stat()
    file.write_text(text.replace(old, new))
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # an upgrade may keep time stamps


@pytest.mark.parametrize(
    ("file", "old", "new", "result"),
    [
        pytest.param(
            *("optimizers/conventions.py", "fma(step, direction, p), v", "fma(step, direction, add(p, p)), v", "1.0"),
            marks=pytest.mark.slow,
        ),
        ("kernels/rounding.py", "return builder.fma(*operands)", "return builder.fmul(*operands[:2])", "-1.0"),
        pytest.param("kernels/loops.py", "peek(grads, i, 1)", "-peek(grads, i, 1)", "2.0", marks=pytest.mark.ci),
    ],
)
def test_a_changed_source_is_never_served_from_the_cache(installed, folder, file, old, new, result):
    """Also where the change is in a function that the cached kernel only calls."""
    _, compiled = run(installed, folder)
    edit(installed / "nagd_numba" / file, old, new)
    assert run(installed, folder) == [result, compiled]


@pytest.mark.parametrize(
    "file",
    [
        "validation.py",
        pytest.param("cli/main.py", marks=pytest.mark.ci),
        *(pytest.param(x, marks=pytest.mark.slow) for x in ("adapters/sklearn.py", "bench/command.py", "flat.py")),
    ],
)
def test_a_change_elsewhere_recompiles_nothing(installed, folder, file):
    run(installed, folder)
    with open(installed / "nagd_numba" / file, "a") as source:
        source.write("\n# a comment\n")
    assert run(installed, folder) == ["0.0", "0"]


NETWORKS = """
import numpy as np, nagd_numba
X, y = np.linspace(-1, 1, 20, dtype="f4").reshape(4, 5), np.arange(4) % 3
def network(activation):
    net = nagd_numba.MLP((5, 8, 3), activation=activation)
    loss, grads = net.value_and_grad(net.init(0), X, y)
    print(loss, float(np.abs(grads).sum()))
"""


def test_kernels_of_different_processes_do_not_mix(installed, folder):
    """Two processes compile different kernels; a third loads both."""
    one, other = (run(installed, folder, f"{NETWORKS}network({name!r})") for name in ("relu", "tanh"))
    assert one != other
    assert run(installed, folder, NETWORKS + "network('relu'); network('tanh')") == [*one, *other]
    assert run(installed, folder, NETWORKS + "network('tanh'); network('relu')") == [*other, *one]


def test_eight_processes_start_at_once_with_an_empty_cache(installed, folder):
    processes = [started(installed, folder) for _ in range(8)]
    assert {finished(process)[0] for process in processes} == {"0.0"}
    assert run(installed, folder) == ["0.0", "0"]


def test_the_cache_can_be_turned_off(installed, folder):
    for _ in range(2):
        value, compiled = run(installed, folder, NAGD_NUMBA_CACHE="0")
        assert value == "0.0"
        assert int(compiled) > 0
    assert not kernels(folder)


def test_the_cache_is_in_the_users_cache_folder(installed, tmp_path):
    run(installed, None, HOME=str(tmp_path), XDG_CACHE_HOME=str(tmp_path / "xdg"))
    assert kernels(tmp_path / "xdg")
    assert not kernels(installed)


def test_without_a_writable_place_kernels_compile_all_the_same(installed, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    value, compiled = run(installed, blocked)
    assert value == "0.0"
    assert int(compiled) > 0


DAMAGES = {
    "empty": lambda b: b"",
    "half": lambda b: b[: len(b) // 2],
    "other": lambda b: b"\x80garbage" * 9,
    "one bit": lambda b: b[: len(b) // 2] + bytes([b[len(b) // 2] ^ 1]) + b[len(b) // 2 + 1 :],  # of machine code
}


@pytest.mark.parametrize(
    "damage",
    [pytest.param(x, id=name, marks=() if name == "one bit" else pytest.mark.slow) for name, x in DAMAGES.items()],
)
def test_damaged_files_are_compiled_anew(installed, folder, damage):
    _, compiled = run(installed, folder)
    for file in kernels(folder):
        file.write_bytes(damage(file.read_bytes()))
    assert run(installed, folder) == ["0.0", compiled]
    assert run(installed, folder) == ["0.0", "0"]


def test_a_user_without_a_home_has_no_cache(monkeypatch):
    """Python then leaves the `~` of `~/.cache` as it is, which is no folder to make."""
    monkeypatch.setattr(cache._settings, "CACHE_DIR", "")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert cache.root() is None
    assert cache.folder("version") is None


def test_a_relative_folder_stays_where_it_is(monkeypatch, tmp_path):
    monkeypatch.setattr(cache._settings, "CACHE_DIR", f"kept {tmp_path.name}")
    monkeypatch.chdir(tmp_path)
    first = cache.root()
    monkeypatch.chdir("/")
    assert cache.root() == first
    assert first.is_relative_to(tmp_path)


def test_the_lock_of_the_folder_is_no_warning_at_exit(installed, folder):
    process = started(installed, folder, PYTHONDEVMODE="1")
    assert process.communicate()[1] == ""


def aged(path, days):
    """A folder of another version, last used so many days ago."""
    path.mkdir(parents=True)
    (path / "kernel.nbc").write_bytes(b"x" * 1000)
    (path / "in_use").touch()
    then = time.time() - days * 86400
    os.utime(path / "in_use", (then, then))


def test_folders_of_other_versions_are_removed_when_they_are_old_and_not_in_use(tmp_path):
    base = tmp_path / "nagd_numba"
    aged(base / "old", 30)
    aged(base / "recent", 1)
    aged(base / "held", 30)
    holder = "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_SH); print(1, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(base / "held" / "in_use")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline()
        assert cache.prune(base, keep=None) == 1000
        assert sorted(x.name for x in base.iterdir()) == ["held", "recent"]
        process.communicate(b"\n")
    assert cache.prune(base, keep=None) == 1000
    assert [x.name for x in base.iterdir()] == ["recent"]


def test_a_new_version_prunes(installed, folder):
    aged(folder / "nagd_numba" / "old", 30)
    run(installed, folder)
    assert not (folder / "nagd_numba" / "old").exists()


def test_clearing_the_cache(installed, folder):
    run(installed, folder)
    code = "from nagd_numba.kernels import cache; print(cache.size(cache.root()), cache.clear())"
    before, freed = map(int, run(installed, folder, code))
    assert before == freed > 0
    assert not kernels(folder)
    assert run(installed, folder)[0] == "0.0"
