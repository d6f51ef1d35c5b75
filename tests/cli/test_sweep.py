"""nagd-numba sweep: networks as MLP.fit trains them, the table, the picture, the file, errors, Ctrl-C."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest

import nagd_numba
from nagd_numba import MLP
from nagd_numba.cli import sweep_report
from nagd_numba.cli.compile_notice import TEXT
from nagd_numba.cli.config import Config, SweepConfig
from nagd_numba.cli.data import load_file, split
from nagd_numba.cli.grid import Sweep
from nagd_numba.cli.main import main
from tests.helpers.heed import heed


@pytest.fixture(scope="module")
def clusters(tmp_path_factory):
    """Three groups of points that overlap a little."""
    path = tmp_path_factory.mktemp("data") / "clusters.npz"
    random = np.random.default_rng(0)
    y = np.arange(90) % 3
    np.savez(path, X=random.normal(0, 0.8, (90, 2)) + np.array([[0, 0], [3, 0], [0, 3]])[y], y=y)
    return path


def small(clusters, lrs=(0.01, 0.1), momenta=(0.0, 0.5, 0.9), optimizer="nag", **changes):
    """A sweep of a few networks that takes no time."""
    base = {"hidden": (8,), "epochs": 4, "batch_size": 16, "validation": 0.3, **changes}
    config = SweepConfig(Config(**base), lrs, momenta, 2, optimizer)
    data = split(load_file(clusters), config.base.validation, config.base.seed, config.base.dtype)
    return Sweep(data, config)


def words(clusters):
    return ["--data", str(clusters), "--hidden", "8", "--epochs", "4", "--batch-size", "16", "--validation", "0.3"]


def alone(sweep, network):
    """The parameters, history and outputs of one network trained by `MLP.fit`."""
    base, data = sweep.config.base, sweep.data
    classes = len(data.preprocessing.classes)
    net = MLP((data.X.shape[1], *base.hidden, classes), loss=base.loss, dropout=base.dropout)
    y = data.y if base.loss == "cross_entropy" else np.eye(classes, dtype=np.float32)[data.y]
    params = net.init(network.seed)
    history = net.fit(
        *(params, data.X, y, base.epochs, base.batch_size, network.lr, network.momentum),
        optimizer=sweep.config.optimizer,
        seed=network.seed,
    )
    return params, history, net.forward(params, data.X_validation)


def test_every_network_is_that_of_fit_to_the_last_bit(clusters):
    sweep = small(clusters, seed=5)
    rows = sweep.run()
    assert [[(cell.momentum, cell.lr) for cell in row] for row in rows] == [
        [(momentum, lr) for lr in (0.01, 0.1)] for momentum in (0.0, 0.5, 0.9)
    ]
    assert [network.seed for network in sweep.networks] == [5, 6] * 6
    for network in sweep.networks:
        params, history, outputs = alone(sweep, network)
        np.testing.assert_array_equal(network.params, params)
        np.testing.assert_array_equal(network.history["loss"], history["loss"])
        assert network.accuracy == (outputs.argmax(axis=1) == sweep.data.y_validation).mean()
        assert network.accuracy == network.history.last("validation_accuracy")
        assert not network.diverged
    first = rows[0][0]
    accuracies = [network.accuracy for network in first.networks]
    assert first.accuracy == np.mean(accuracies)
    assert first.deviation == pytest.approx(np.std(accuracies, ddof=1), abs=1e-15)
    assert sweep.best.accuracy == max(cell.accuracy for row in rows for cell in row)


def test_accuracy_is_of_classes_where_each_output_has_a_target(clusters):
    sweep = small(clusters, loss="binary_cross_entropy")
    sweep.run()
    network = sweep.networks[-1]
    params, _, outputs = alone(sweep, network)
    np.testing.assert_array_equal(network.params, params)
    assert network.accuracy == (outputs.argmax(axis=1) == sweep.data.y_validation).mean()
    assert "validation_accuracy" not in network.history  # it would be that of the outputs
    assert network.history.epochs == 4
    assert "validation_loss" in network.history


def test_the_table(capsys, clusters, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")  # not a terminal: the table is as wide as it needs to be
    assert main(["sweep", *words(clusters), "--lr", "0.01,0.1", "--momentum", "0,0.5,0.9", "--seeds", "2"]) == 0
    out, err = capsys.readouterr()
    assert err.replace(f"{TEXT}\n", "") == ""
    assert "\x1b" not in out
    sweep = small(clusters)
    rows = sweep.run()
    lines = out.splitlines()
    assert lines[0] == (
        f"{clusters}: 63 training and 27 validation rows, 3 classes; network 2-8-3, cpu; "
        "2 learning rates x 3 momenta x 2 seeds, 4 epochs"
    )
    assert lines[1] == "Validation accuracy in % after 4 epochs of nag, mean of 2 seeds"
    table = [line.strip("│┃").replace("┃", "│").split("│") for line in lines if line[0] in "│┃"]
    table = [[cell.strip() for cell in line] for line in table]
    assert table[0] == ["momentum", "lr 0.01", "0.1"]
    for momentum, row, means, spreads in zip(("0", "0.5", "0.9"), rows, table[1::2], table[2::2], strict=True):
        assert means[0] == momentum
        for cell, mean, spread in zip(row, means[1:], spreads[1:], strict=True):
            assert mean == f"{'* ' if cell is sweep.best else ''}{100 * cell.accuracy:.1f}"
            assert spread == f"± {100 * cell.deviation:.1f}"
    assert f"Best (*): lr {sweep.best.lr:g}, momentum {sweep.best.momentum:g}, {100 * sweep.best.accuracy:.1f}" in out
    assert lines[-1].startswith("12 networks in ")
    assert lines[-1].endswith(" a second.")


def test_one_seed_has_no_deviation(capsys, clusters):
    assert main(["sweep", *words(clusters), "--lr", "0.1", "--momentum", "0.9", "--seeds", "1"]) == 0
    out = capsys.readouterr().out
    assert "1 learning rate x 1 momentum x 1 seed, 4 epochs" in out
    assert "±" not in out
    assert "1 network in " in out


@pytest.mark.parametrize("optimizer", ["nag", "adam"])
def test_the_results_as_json(capsys, clusters, tmp_path, optimizer):
    path = tmp_path / "results.json"
    options = ["--lr", "0.1,1e30", "--momentum", "0.5", "--seeds", "2", "--optimizer", optimizer, "--seed", "7"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a network that diverges is told in the table
        assert main(["sweep", *words(clusters), *options, "--json", str(path)]) == 0
    out, err = capsys.readouterr()
    assert err.replace(f"{TEXT}\n", "") == ""
    assert f"Results: {path}" in out
    assert "diverged" in out
    assert "2 of 2" in out

    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    results = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    assert results["nagd_numba"] == nagd_numba.__version__
    assert (results["data"], results["sizes"]) == (str(clusters), [2, 8, 3])
    assert (results["training_rows"], results["validation_rows"]) == (63, 27)
    assert (results["lr"], results["momentum"], results["seeds"], results["seed"]) == ([0.1, 1e30], [0.5], 2, 7)
    assert (results["optimizer"], results["epochs"], results["batch_size"]) == (optimizer, 4, 16)
    assert results["networks_per_second"] == pytest.approx(4 / results["seconds"])
    good, bad = results["cells"]
    assert good == results["best"]
    assert (good["lr"], good["momentum"], good["diverged"]) == (0.1, 0.5, 0)
    assert (bad["diverged"], bad["validation_accuracy"], bad["validation_loss"]) == (2, None, None)
    assert [(n["lr"], n["seed"], n["diverged"]) for n in results["networks"]] == [
        (0.1, 7, False),
        (0.1, 8, False),
        (1e30, 7, True),
        (1e30, 8, True),
    ]
    assert good["validation_accuracy"] == np.mean([n["validation_accuracy"] for n in results["networks"][:2]])
    assert results["networks"][2]["validation_accuracy"] is None
    assert results["networks"][2]["history"]["loss"][-1] is None
    same = small(clusters, (0.1,), (0.5,), optimizer, seed=7)
    same.run()
    for network, told in zip(same.networks, results["networks"], strict=False):
        assert told["history"]["loss"] == network.history["loss"].tolist()
        params, _, _ = alone(same, network)
        np.testing.assert_array_equal(network.params, params)


def test_nothing_but_divergence(capsys, clusters, tmp_path):
    options = ["--lr", "1e30", "--momentum", "0.9", "--json", str(tmp_path / "x.json")]
    assert main(["sweep", *words(clusters), *options]) == 0
    assert "Every cell diverged; try an --lr below 1e+30." in capsys.readouterr().out
    assert json.loads((tmp_path / "x.json").read_text())["best"] is None


def test_a_cell_in_which_one_network_diverged_is_not_the_best(clusters):
    sweep = small(clusters)
    sweep.run()
    best = sweep.best
    object.__setattr__(best.networks[0], "diverged", True)
    assert math.isnan(best.accuracy)
    assert math.isnan(best.deviation)
    assert sweep.best is not best


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_plot(capsys, clusters, tmp_path, suffix):
    pytest.importorskip("matplotlib")
    path = tmp_path / f"map.{suffix}"
    options = ["--lr", "0.01,0.1,1e30", "--momentum", "0,0.9", "--seeds", "2", "--plot", str(path)]
    assert main(["sweep", *words(clusters), *options]) == 0
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG") if suffix == "png" else b"<svg" in content
    assert f"Plot: {path}" in capsys.readouterr().out
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("lr", ["0.1", "1e30", "0.1,1e30"])
def test_plot_of_few_cells(capsys, clusters, tmp_path, lr):
    pytest.importorskip("matplotlib")
    options = ["--lr", lr, "--momentum", "0.9", "--seeds", "1", "--plot", str(tmp_path / "map.png")]
    assert main(["sweep", *words(clusters), *options]) == 0


def test_colours_and_a_bar_on_a_terminal(capsys, clusters):
    from rich.console import Console

    sweep = small(clusters)
    out = Console(force_terminal=True, force_interactive=True, color_system="truecolor", width=100, markup=False)
    with sweep_report.progress(out, sweep) as on_epoch:
        sweep.run(on_epoch)
    sweep_report.show(out, sweep)
    shown = capsys.readouterr().out
    assert "12 networks" in shown
    assert "epoch 4/4" in shown
    accuracies = {cell.accuracy for row in sweep.cells for cell in row}
    assert len(set(re.findall(r"48;2;\d+;\d+;\d+", shown))) == len(accuracies)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lr", "0.1,fast"], "argument --lr: '0.1,fast'; numbers are needed"),
        (["--lr", "0.1,0"], "--lr is 0.0; a finite number > 0"),
        (["--lr", "1e39"], "--lr is 1e+39; a finite number > 0 and <= 3.4"),
        (["--lr", "nan"], "--lr is nan"),
        (["--lr", "0.1,0.01,0.1"], "--lr is '0.1,0.01,0.1'; at least one number is needed, and each once"),
        (["--lr", ""], "argument --lr: ''"),
        (["--momentum", "0.5,1"], "--momentum is 1.0; a finite number >= 0 and < 1"),
        (["--momentum", "0.5,0.50"], "--momentum is '0.5,0.5'"),
        (["--seeds", "0"], "--seeds is 0; a whole number from 1"),
        (["--seeds", "x"], "argument --seeds: invalid int value"),
        (["--seed", "-1"], "--seed is -1"),
        (["--optimizer", "sgd"], "--optimizer is 'sgd'"),
        (["--optimizer", "rmsprop", "--momentum", "0.5"], "--momentum is given, and rmsprop has none"),
        (["--epochs", "0"], "--epochs is 0"),
        (["--batch-size", "0"], "--batch-size is 0"),
        (["--hidden", "8,x"], "argument --hidden: '8,x'; widths are needed"),
        (["--hidden", "0"], "--hidden is 0"),
        (["--dropout", "1"], "--dropout is 1.0"),
        (["--loss", "hinge"], "--loss is 'hinge'"),
        (["--dtype", "float16"], "--dtype is 'float16'"),
        (["--validation", "0.9"], "--validation is 0.9"),
        (["--label", "kind"], "--label is for a csv file given with --data"),
        (["--data", "missing.csv"], "missing.csv: no such file or directory"),
        (["--json", "no/such/place.json"], "--json: no/such/place.json cannot be written: there is no directory"),
        (["--json", "."], "--json: . is a directory"),
        (["--plot", "map.xyz"], "--plot map.xyz: suffix '.xyz' is not supported"),
        (["--plot", "no/such/map.png"], "--plot: no/such/map.png cannot be written"),
    ],
)
def test_errors_before_training(capsys, tmp_path, monkeypatch, arguments, message):
    if "--plot" in arguments:
        pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    assert main(["sweep", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    line = err.strip().splitlines()[-1]
    assert line.startswith("nagd-numba sweep: error: ")
    assert message in line
    assert not list(tmp_path.iterdir())


def test_an_error_while_writing(capsys, clusters, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sweep_report, "write_json", full)
    options = ["--lr", "0.1", "--momentum", "0.9", "--json", str(tmp_path / "x.json")]
    assert main(["sweep", *words(clusters), *options]) == 1
    out, err = capsys.readouterr()
    assert err == "nagd-numba sweep: error: --json: [Errno 28] No space left on device\n"
    assert "Best (*)" in out


def test_stopped_where_the_exception_is_lost(clusters):
    sweep = small(clusters)
    seen = []

    def on_epoch(done, histories):
        seen.append(done)
        sweep.stop = done == 2

    with pytest.raises(KeyboardInterrupt):
        sweep.run(on_epoch)
    assert seen == [0, 1, 2]
    assert sweep.cells == []


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("twice", [False, True])
def test_interrupt_writes_nothing(tmp_path, clusters, twice):
    assert main(["sweep", *words(clusters), "--lr", "0.1", "--momentum", "0.9"]) == 0  # the kernels are in the cache
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "nagd_numba", "sweep", "--epochs", "100000", "--json", "results.json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        preexec_fn=heed,
    )
    assert "digits: 1617" in process.stdout.readline()
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    if twice:
        time.sleep(0.005)
        process.send_signal(signal.SIGINT)
    sent = time.perf_counter()
    out, err = process.communicate(timeout=60)
    assert not list(tmp_path.iterdir())
    assert out == ""
    assert time.perf_counter() - sent < 5
    if twice and process.returncode == -signal.SIGINT:
        return  # the second one came when the process was about to end
    assert process.returncode == 130
    assert err.strip().splitlines()[-1] == "nagd-numba sweep: interrupted"
    assert "Traceback" not in err
