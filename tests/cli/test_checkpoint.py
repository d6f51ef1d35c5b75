"""nagd-numba train --save and --resume: the bits of a training that was killed, and what is refused."""

import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from nagd_numba.cli.comparison import Comparison
from nagd_numba.cli.config import Config
from nagd_numba.cli.data import load_file, split
from nagd_numba.io import npz
from nagd_numba.model_file import save_model
from tests.helpers.checkpoints import arrays, rewrite, run, without_times, write_clusters


def words(clusters, epochs, path):
    return ["train", "--device", "cpu", "--data", clusters, "--hidden", "16", "--epochs", epochs, "--save", path]


@pytest.fixture
def saved(clusters, tmp_path, capsys):
    """The file of a training that has ended, alone in its directory."""
    path = tmp_path / "model.npz"
    assert run(*words(clusters, 4, path)) == 0
    capsys.readouterr()
    return path


def refused(capsys, path, *arguments):
    """`--resume path` with these options fails before training and leaves the file; returns the line of the error."""
    before = path.read_bytes()
    there = sorted(path.parent.iterdir())
    assert run("train", "--resume", path, *arguments) == 2
    assert path.read_bytes() == before
    assert sorted(path.parent.iterdir()) == there
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("nagd-numba train: error: ")
    return line


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_killed_at_any_moment_and_resumed_to_the_same_bits(clusters, tmp_path, capsys):
    epochs, reference, path = 1000, tmp_path / "reference.npz", tmp_path / "killed.npz"
    assert run(*words(clusters, epochs, reference)) == 0  # the kernels are in the cache now
    chance = random.Random()
    passed = [0]
    for attempt in range(6):
        start = words(clusters, epochs, path)
        goes_on = ["train", "--resume", path]
        output = tmp_path / f"output {attempt}"
        with output.open("w") as file:
            process = subprocess.Popen(
                [sys.executable, "-u", "-m", "nagd_numba", *map(str, goes_on if path.exists() else start)],
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=tmp_path,
            )
            if attempt < 5:
                while process.poll() is None and "epoch" not in output.read_text():
                    time.sleep(0.01)
                time.sleep(chance.uniform(0, 0.25))  # all epochs take about a second
                process.kill()
            code = process.wait(timeout=120)
        if code == 0 and passed[-1] == 0 and attempt < 5:
            path.unlink()  # it was over before it could be killed: again
            continue
        if code == 0:
            break
        assert code == -signal.SIGKILL, output.read_text()
        if path.exists():
            content = arrays(path)  # it can be read at any moment
            passed.append(sum(shape[0] for name, (_, shape, _) in content.items() if name.endswith("/history")))
    assert code == 0, output.read_text()
    assert passed == sorted(passed)
    assert 0 < passed[-1] <= 3 * epochs
    assert without_times(arrays(path)) == without_times(arrays(reference))


@pytest.fixture
def heeded():
    """Ctrl-C is heeded, though a script in the background hands on a SIGINT that is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeded")
def test_interrupted_while_an_epoch_is_kept(clusters, tmp_path, capsys, monkeypatch):
    assert run(*words(clusters, 6, tmp_path / "reference.npz")) == 0
    judge = Comparison._is_best
    for moment in (0, 3, 8, 17):
        path, calls = tmp_path / f"{moment}.npz", iter(range(100))

        def interrupting(self, epoch, moment=moment, calls=calls):
            best = judge(self, epoch)
            if next(calls) == moment:
                signal.raise_signal(signal.SIGINT)
            return best

        with monkeypatch.context() as patched:
            patched.setattr(Comparison, "_is_best", interrupting)
            assert run(*words(clusters, 6, path)) == 130
        number, method = moment % 6 + 1, ("gd", "momentum", "nag")[moment // 6]
        assert f"Interrupted after epoch {number} of {method}" in capsys.readouterr().out
        assert run("train", "--resume", path) == 0
        assert without_times(arrays(path)) == without_times(arrays(tmp_path / "reference.npz"))


def test_more_epochs_continue(clusters, saved, tmp_path, capsys):
    assert run("train", "--resume", saved, "--epochs", 9) == 0
    out = capsys.readouterr().out
    assert "epoch 4/9" not in out
    assert out.count("epoch 5/9") == 3
    assert run(*words(clusters, 9, tmp_path / "direct.npz")) == 0
    assert without_times(arrays(saved)) == without_times(arrays(tmp_path / "direct.npz"))


def test_nothing_is_left_to_do(saved, capsys):
    before = arrays(saved)
    assert run("train", "--resume", saved) == 0
    out = capsys.readouterr().out
    assert "epoch 4/4" not in out
    assert f"Best model: {saved}" in out
    assert arrays(saved) == before


def test_saved_elsewhere(saved, tmp_path, capsys):
    before = saved.read_bytes()
    assert run("train", "--resume", saved, "--epochs", 5, "--save", tmp_path / "other.npz") == 0
    assert saved.read_bytes() == before
    assert arrays(tmp_path / "other.npz")["gd/history"][1] == (5, 4)


def test_options_that_say_the_same_are_accepted(clusters, saved, capsys):
    same = ["--hidden", "16", "--lr", "0.05", "--methods", "gd,momentum,nag", "--target", "80", "--device", "cpu"]
    assert run("train", "--resume", saved, "--data", clusters, *same) == 0


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--hidden", "8"),
        ("--activation", "tanh"),
        ("--loss", "mse"),
        ("--dropout", "0"),
        ("--l2", "0.1"),
        ("--dtype", "float64"),
        ("--precision", "tf32"),
        ("--methods", "nag"),
        ("--batch-size", "8"),
        ("--lr", "0.1"),
        ("--momentum", "0.5"),
        ("--validation", "0.2"),
        ("--seed", "1"),
        ("--seed", "-1"),
    ],
)
def test_options_that_contradict_are_refused(saved, capsys, option, value):
    line = refused(capsys, saved, option, value)
    assert f"error: {option} is " in line
    assert "a training goes on as it began" in line


def test_fewer_epochs_than_have_passed_are_refused(saved, capsys):
    assert f"--epochs is 3, and 4 have passed in {saved}" in refused(capsys, saved, "--epochs", 3)
    assert "--epochs is 0" in refused(capsys, saved, "--epochs", 0)


def test_other_data_are_refused(clusters, saved, tmp_path_factory, capsys):
    place = tmp_path_factory.mktemp("other")
    other = write_clusters(place / "other.npz", seed=1)
    assert f"it was trained on other data than {other}" in refused(capsys, saved, "--data", other)
    assert "missing.npz: no such file" in refused(capsys, saved, "--data", place / "missing.npz")
    assert "--label is for .csv files" in refused(capsys, saved, "--label", "y")


def test_data_that_changed_are_refused(tmp_path, capsys):
    path = write_clusters(tmp_path / "clusters.npz")
    assert run(*words(path, 1, tmp_path / "model.npz")) == 0
    capsys.readouterr()
    write_clusters(path, seed=1)
    assert "it was trained on other data" in refused(capsys, tmp_path / "model.npz")


def test_the_label_may_be_named_like_the_command(tmp_path, capsys):
    random = np.random.default_rng(0)
    lines = [f"{i % 2},{x + 3 * (i % 2):.3f}" for i, x in enumerate(random.normal(size=40))]
    (tmp_path / "trains.csv").write_text("\n".join(["train,length", *lines]), encoding="utf-8")
    path = tmp_path / "model.npz"
    data = ["--data", tmp_path / "trains.csv", "--label", "train"]
    assert run("train", "--device", "cpu", "--hidden", "4", "--epochs", 2, *data, "--save", path) == 0
    assert run("train", "--resume", path, "--epochs", 3) == 0
    assert run("train", "--resume", path, "--epochs", 4, *data) == 0
    assert arrays(path)["nag/history"][1] == (4, 4)


def encrypted(whole):
    """The same, with the bit of an encrypted member set in the first entry of the directory."""
    content = bytearray(whole)
    content[content.index(b"PK\x01\x02") + 8] |= 1
    return bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: b"PK",
        lambda whole: b"not a training\n",
        lambda whole: whole[: len(whole) // 3],
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:-1],
        lambda whole: whole[:-100],
        lambda whole: whole[:900] + bytes(64) + whole[964:],
        encrypted,
    ],
)
def test_files_that_are_broken_are_refused(saved, capsys, damage):
    saved.write_bytes(damage(saved.read_bytes()))
    assert f"{saved}: not a training of nagd-numba train --save, or only a part of one" in refused(capsys, saved)


def test_files_of_other_kinds_are_refused(clusters, saved, tmp_path, capsys):
    data = split(load_file(clusters), 0.1, 0)
    net = Comparison(data, Config(hidden=(16,), device="cpu")).model
    save_model(saved, net, net.init(0), data.preprocessing)
    assert f"{saved}: no training of nagd-numba train --save in it" in refused(capsys, saved)
    write_clusters(saved)
    assert f"{saved}: no training of nagd-numba train --save in it" in refused(capsys, saved)
    with saved.open("wb") as file:
        np.save(file, np.zeros(3))
    assert "not a training" in refused(capsys, saved)
    np.savez(saved, training=np.array([print], dtype=object))
    assert "not a training" in refused(capsys, saved)


@pytest.mark.parametrize(
    "change",
    [
        {"config": "{"},
        {"config": '{"epochs": 0}'},
        {"config": '{"speed": 1}'},
        {"config": "[]", "gd/vel": None},
        {"config": "7"},
        {"source": "7"},
        {"source": None},
        {"gd/params": np.zeros(3, np.float32)},
        {"gd/vel": None},
        {"gd/vel": np.zeros(83)},
        {"gd/history": np.zeros((4, 2))},
        {"gd/history": np.zeros(4)},
        {"gd/history": np.zeros((4, 4))},
        {"gd/history": np.full((4, 4), np.inf)},
        {"gd/history": np.full((4, 4), "1")},
        {"gd/history": np.zeros((4, 4), complex)},
        {"gd/first_loss": np.zeros(2)},
        {"gd/first_loss": "low"},
        {"gd/seconds": None},
        {"epoch": 7},
        {"epoch": 0},
        {"epoch": -1},
        {"epoch": 1.5},
        {"data_digest": None},
        {"config": "[" * 100_000},
        {"config": '{"hidden": 5}'},
        {"config": '{"epochs": 1e999}'},
        {"source": '{"data": 5}'},
        {"source": '{"data": "x.csv", "header": "yes"}'},
        {"source": '{"data": ["x.csv"]}'},
        {"method": "adam"},
        {"params": np.zeros((2, 2), np.float32)},
    ],
)
def test_trainings_that_are_damaged_are_refused(saved, capsys, change):
    rewrite(saved, **change)
    assert f"{saved}: a damaged training: " in refused(capsys, saved)


def test_arrays_of_another_training_are_refused(clusters, saved, tmp_path, capsys):
    """All of it is sound, and each array has its checksum."""
    assert run(*words(clusters, 4, tmp_path / "other.npz"), "--seed", 1) == 0
    capsys.readouterr()
    with np.load(saved) as file, np.load(tmp_path / "other.npz") as other:
        content = {**file, "nag/params": other["nag/params"]}
    (tmp_path / "other.npz").unlink()
    np.savez(saved, **content)
    assert "its arrays are not those that were written" in refused(capsys, saved)
    np.savez(saved, **{name: x for name, x in content.items() if name != npz.DIGEST})
    assert "the digest of its arrays is missing" in refused(capsys, saved)


def test_trainings_of_a_later_version_are_refused(saved, capsys):
    rewrite(saved, training="nagd_numba.train 3")
    assert "its format is 'nagd_numba.train 3'; this version of nagd_numba knows" in refused(capsys, saved)


def test_there_is_nothing_to_resume(tmp_path, capsys):
    assert run("train", "--resume", tmp_path / "missing.npz") == 2
    line = f"nagd-numba train: error: --resume {tmp_path / 'missing.npz'}: no such file or directory\n"
    assert capsys.readouterr() == ("", line)
    assert run("train", "--resume", tmp_path) == 2
    assert f"--resume {tmp_path}: is a directory" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
