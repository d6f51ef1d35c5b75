"""`mpiexec -n N nagd-numba train`: one training on many processes, what the first prints and saves, and how it ends."""

import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from nagd_numba.cli import launched
from nagd_numba.cli.comparison import Comparison
from nagd_numba.cli.config import Config
from nagd_numba.cli.data import load_digits, split
from nagd_numba.cli.main import main
from nagd_numba.cli.together import Stop
from nagd_numba.distributed import communicator
from nagd_numba.kernels.jit import SIMULATOR
from tests.helpers.backends import JIT_OFF
from tests.helpers.checkpoints import arrays, run, without_times
from tests.helpers.ranks import ENVIRONMENT, MPIEXEC, SECONDS, require_mpi

processes = pytest.mark.skipif(JIT_OFF or SIMULATOR, reason="is about compiled kernels, in many processes")
OPTIONS = ("--device", "cpu", "--hidden", "16", "--epochs", "4", "--methods", "nag,adam", "--reproducible")
LAUNCHED = [name for names in launched._SIZES.items() for name in names]


def command(ranks, *words):
    return [str(MPIEXEC), "-n", str(ranks), sys.executable, "-m", "nagd_numba", *map(str, words)]


def on_ranks(ranks, *words):
    require_mpi()
    keywords = {"capture_output": True, "text": True, "env": ENVIRONMENT, "timeout": SECONDS, "check": False}
    return subprocess.run(command(ranks, *words), **keywords)


@pytest.fixture
def not_launched(monkeypatch):
    for name in LAUNCHED:
        monkeypatch.delenv(name, raising=False)


@processes
def test_many_processes_save_and_print_what_one_does(clusters, tmp_path, capsys):
    here, there = tmp_path / "one.npz", tmp_path / "many.npz"
    assert run("train", "--data", clusters, *OPTIONS, "--save", here) == 0
    alone = capsys.readouterr().out
    done = on_ranks(3, "train", "--data", clusters, *OPTIONS, "--save", there)
    assert done.returncode == 0, done.stderr
    assert without_times(arrays(there)) == without_times(arrays(here))
    assert ", cpu, 3 processes" in done.stdout
    lines = [line for line in alone.splitlines() if "epoch" in line]
    assert [line for line in done.stdout.splitlines() if "epoch" in line] == lines  # each once

    longer = ("--epochs", "6")
    assert run("train", "--resume", here, *longer) == 0
    done = on_ranks(2, "train", "--resume", there, *longer)
    assert done.returncode == 0, done.stderr
    assert without_times(arrays(there)) == without_times(arrays(here))


@processes
def test_ctrl_c_stops_all_processes_after_the_same_step(tmp_path):
    require_mpi()
    path = tmp_path / "model.npz"
    words = ("train", "--epochs", 100_000, "--methods", "nag", "--save", path)
    with subprocess.Popen(
        command(3, *words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as process:
        for line in process.stdout:
            if "epoch" in line:
                break
        process.send_signal(signal.SIGINT)
        start = time.monotonic()
        out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 130, err
    assert time.monotonic() - start < 30
    found = re.search(r"Interrupted after epoch (\d+) of nag", out)
    with np.load(path) as saved:
        assert len(saved["nag/history"]) == int(found[1])


@processes
@pytest.mark.ci
def test_a_process_that_is_killed_ends_the_job(tmp_path):
    require_mpi()
    marker = f"--seed={os.getpid()}"
    with subprocess.Popen(
        command(3, "train", "--epochs", 100_000, "--methods", "nag", "--save", tmp_path / "model.npz", marker),
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": ENVIRONMENT},
    ) as process:
        for line in process.stdout:
            if "epoch   " in line:
                break
        (victim,) = (pid for pid in pids(marker) if rank_of(pid) == "2")
        os.kill(victim, signal.SIGKILL)
        start = time.monotonic()
        out, err = process.communicate(timeout=SECONDS)
    assert time.monotonic() - start < 10
    assert process.returncode != 0
    assert "rank 2 of 3" in err or "Killed (signal 9)" in out  # mpiexec ends the others, perhaps before they hear of it
    with np.load(tmp_path / "model.npz") as saved:
        assert np.isfinite(saved["nag/params"]).all()


def pids(word):
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
        except OSError:
            continue
        if word.encode() in words and b"mpiexec" not in words[0] and b"hydra" not in words[0]:
            yield int(pid)


def rank_of(pid):
    with open(f"/proc/{pid}/environ", "rb") as file:
        return dict(x.split("=", 1) for x in file.read().decode().split("\0") if "=" in x).get("PMI_RANK")


@processes
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("train", "--lr", "-1"), "train: error: --lr is -1.0"),
        pytest.param(("train", "--epochs", "x"), "train: error: argument --epochs", marks=pytest.mark.ci),
        pytest.param(("train", "--device", "cuda"), "error: --device cuda: many processes", marks=pytest.mark.ci),
        pytest.param(("sweep",), "sweep: error: started as 2 processes, and only train", marks=pytest.mark.ci),
    ],
)
def test_what_is_refused_is_told_once(words, message):
    done = on_ranks(2, *words)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count(message) == 1
    assert "Traceback" not in done.stderr


@processes
def test_an_error_of_one_process_ends_all(clusters, tmp_path):
    """The second process reads another file."""
    path = tmp_path / "program.py"
    path.write_text(
        "import os, sys\n"
        "from nagd_numba.cli.main import main\n"
        f"data = {str(clusters)!r} if os.environ['PMI_RANK'] == '0' else 'nowhere.npz'\n"
        "sys.exit(main(['train', '--data', data]))\n"
    )
    require_mpi()
    done = subprocess.run(
        [str(MPIEXEC), "-n", "2", sys.executable, str(path)],
        **{"capture_output": True, "text": True, "env": ENVIRONMENT, "timeout": SECONDS, "check": False},
    )
    assert done.returncode == 2
    (line,) = (line for line in done.stderr.splitlines() if "error" in line)
    assert line.startswith("nagd-numba train: error: process 1 of 2: ")


def test_without_a_launcher_no_mpi_is_imported():
    program = (
        "import sys; from nagd_numba.cli.main import main\n"
        "code = main(['train', '--epochs', '1', '--methods', 'gd', '--hidden', '4', '--device', 'cpu'])\n"
        "assert 'mpi4py' not in sys.modules; sys.exit(code)\n"
    )
    there = {name: value for name, value in os.environ.items() if name not in LAUNCHED}
    subprocess.run([sys.executable, "-c", program], check=True, timeout=SECONDS, env=there, capture_output=True)


@pytest.mark.usefixtures("not_launched")
@pytest.mark.parametrize(("size", "rank"), launched._SIZES.items())
def test_a_launcher_without_mpi4py(size, rank, monkeypatch, capsys):
    monkeypatch.setenv(size, "4")
    monkeypatch.setenv(rank, "0")
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    assert main(["train"]) == 2
    assert "started as 4 processes, and mpi4py cannot be used" in capsys.readouterr().err
    monkeypatch.setenv(rank, "3")
    assert main(["train"]) == 2
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("not_launched")
def test_the_launcher_of_another_mpi(monkeypatch, capsys):
    class MPI:
        class COMM_WORLD:
            size = 1

        @staticmethod
        def Get_library_version():
            return "MPI of somebody\nbuilt yesterday"

    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "0")
    monkeypatch.setitem(sys.modules, "mpi4py", type("mpi4py", (), {"MPI": MPI}))
    assert main(["train"]) == 2
    assert "of which mpi4py sees 1: its MPI (MPI of somebody) is not that of the launcher" in capsys.readouterr().err


@pytest.mark.usefixtures("not_launched")
def test_processes_that_are_not_of_a_launched_job(monkeypatch):
    assert launched.place() == (0, 1)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")  # in a shell of a job, where nothing was launched
    monkeypatch.setenv("SLURM_PROCID", "0")
    assert launched.place() == (0, 1)
    monkeypatch.setenv("PMIX_RANK", "3")
    assert launched.place() == (3, 4)
    monkeypatch.setenv("PMI_SIZE", "1")
    monkeypatch.setenv("PMI_RANK", "0")
    assert launched.world() is None


def test_one_process_of_a_communicator_is_the_usual_training():
    config = Config(epochs=1, methods=("nag",), device="cpu", hidden=(8,))
    data = split(load_digits(), 0.1, 0, "float32")
    usual, shared = Comparison(data, config), Comparison(data, config, communicator(None))
    for made in (usual, shared):
        made.run()
    np.testing.assert_array_equal(usual.states["nag"].params, shared.states["nag"].params)
    np.testing.assert_array_equal(usual.states["nag"].vel, shared.states["nag"].vel)
    assert usual.states["nag"].result.history == shared.states["nag"].result.history


def test_micro_batches_are_no_more_than_rows(capsys):
    assert main(["train", "--reproducible", "--batch-size", "4"]) == 2
    assert "--micro-batches is 8, and a batch has 4 rows" in capsys.readouterr().err
    assert main(["train", "--micro-batches", "0"]) == 2
    assert "--micro-batches is 0" in capsys.readouterr().err


def test_ranks_ask_each_other_to_stop_every_now_and_then():
    class Two:
        asked = 0

        def all_gather_object(self, x):
            self.asked += 1
            return [x, (self.asked == 4, 1e-4)]

    stop = Stop(Two())
    answers = [stop.wanted(False) for _ in range(200)]
    assert answers.index(True) + 1 == 1 + 4 + 16 + 64  # fewer questions while they come soon after each other
