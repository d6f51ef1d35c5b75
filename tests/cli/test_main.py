"""The command line: output, errors, exit codes, Ctrl-C."""

import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import nagd_numba
from nagd_numba.cli import train_report
from nagd_numba.cli.compile_notice import TEXT
from nagd_numba.cli.data import load_digits, split
from nagd_numba.cli.info import collect
from nagd_numba.cli.main import _parser, main
from nagd_numba.gpu import toolchain
from nagd_numba.gpu.driver import why_no_cuda
from nagd_numba.gpu.toolchain import Tool
from nagd_numba.model_file import load_model
from tests.helpers.heed import heed

SHORT = ("train", "--device", "cpu", "--epochs", "2")


def fails(capsys, *arguments):
    """Run what must fail before training; returns the one line of the error."""
    assert main(["train", *map(str, arguments)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    line = err.strip().splitlines()[-1]
    assert line.startswith("nagd-numba train: error: ")
    return line


def test_version_and_help(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"nagd-numba {nagd_numba.__version__}"
    assert main(["train", "--help"]) == 0
    assert "standardised" in capsys.readouterr().out


def test_alone_it_says_where_to_start(capsys):
    assert main([]) == 0
    said = capsys.readouterr().out
    assert "Begin with: nagd-numba train" in said
    commands = _parser()._subparsers._group_actions[0].choices
    assert all(f"nagd-numba {name}" in said for name in commands)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["trian"],
            "nagd-numba: error: argument COMMAND: invalid choice: 'trian'; one of info, export, train, sweep, ",
        ),
        (["trian"], "did you mean 'train'?"),
        (["--verson"], "nagd-numba: error: unrecognized arguments: --verson; did you mean '--version'?"),
        (["--"], "nagd-numba: error: "),
        (["train", "--metods", "gd"], "train: error: unrecognized arguments: --metods gd; did you mean '--methods'?"),
        (
            ["train", "--batchsize=3"],
            "train: error: unrecognized arguments: --batchsize=3; did you mean '--batch-size'",
        ),
        (["train", "digits"], "train: error: unrecognized arguments: digits; nagd-numba train --help lists all"),
        (["sweep", "--lrs", "1"], "sweep: error: unrecognized arguments: --lrs 1; did you mean '--lr'?"),
        (["info", "--suport"], "info: error: unrecognized arguments: --suport; did you mean '--support'?"),
        (["export"], "export: error: the following arguments are required: DIR"),
        (["train", "--qqqq"], "unrecognized arguments: --qqqq; nagd-numba train --help lists all"),
    ],
)
def test_the_nearest_command_or_option_is_suggested(capsys, arguments, message):
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err.splitlines()[-1]


def test_info():
    run = subprocess.run(
        [sys.executable, "-m", "nagd_numba", "info"], capture_output=True, text=True, timeout=60, check=True
    )
    lines = dict(line.split(maxsplit=1) for line in run.stdout.splitlines())
    assert lines["nagd_numba"].startswith(nagd_numba.__version__)
    assert lines["numpy"].strip() == np.__version__
    for name in ("processor", "numba", "cache", "gpu"):
        assert lines[name]


def test_the_cache_is_cleared(tmp_path):
    folder = tmp_path / "nagd_numba" / "a-version"
    folder.mkdir(parents=True)
    (folder / "in_use").touch()
    (folder / "kernel").write_bytes(bytes(3_000_000))
    run = subprocess.run(
        [sys.executable, "-m", "nagd_numba", "info", "--clear-cache"],
        **{"capture_output": True, "text": True, "timeout": 60, "check": True},
        env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)},
    )
    assert "3.0 MB of compiled kernels removed" in run.stdout
    assert not folder.exists()


def test_info_finds_packages_that_do_not_fit_together(monkeypatch):
    installed = {"numba-cuda": "0.30.4", "cuda-core": "0.5.1", "nvvm": "13.5.37", "nvJitLink": "13.0.88"}
    monkeypatch.setattr(toolchain, "found", lambda: {name: Tool(text) for name, text in installed.items()})
    monkeypatch.setattr(toolchain, "driver_version", lambda: (12, 8))
    told = collect()
    assert ("numba-cuda", "0.30.4") in told
    assert ("cuda-bindings", "not found") in told
    assert ("driver", "knows CUDA 12.8") in told
    assert [value for name, value in told if name == "does not fit"] == [
        "cuda-core 0.5.1 is not supported: pip install 'cuda-core>=0.6,<2'",
        "NVVM 13.5.37 is newer than nvJitLink 13.0.88, which cannot read what it writes: "
        "pip install 'nvidia-nvvm==13.0.*'",
        "the driver knows CUDA 12.8, and cannot load code of CUDA 13: pip install 'nagd-numba[cuda12]'",
    ]


def test_info_without_numba_cuda(monkeypatch):
    monkeypatch.setattr(toolchain, "found", lambda: {"numpy": Tool("2.5.0")})
    told = collect()
    assert ("numba-cuda", "not installed") in told
    assert "does not fit" not in dict(told)


def test_info_without_cache(capsys, monkeypatch):
    monkeypatch.setenv("NAGD_NUMBA_CACHE", "off")
    assert main(["info"]) == 0
    assert "off (NAGD_NUMBA_CACHE=off)" in capsys.readouterr().out


def test_train_prints_plain_lines_and_a_table(capsys):
    assert main([*SHORT, "--methods", "gd,nag", "--seed", "3"]) == 0
    out, err = capsys.readouterr()
    assert err.replace(f"{TEXT}\n", "") == ""
    assert "\x1b" not in out
    assert "digits: 1617 training and 180 validation rows, 10 classes; network 64-128-10, cpu" in out
    lines = [line.split() for line in out.splitlines()]
    assert [line[0] for line in lines if line[1:2] == ["epoch"]] == ["gd", "gd", "nag", "nag"]
    for heading in ("momentum", "accuracy", "epochs to", "95 %", "seconds", "Best model: nag", "Next:"):
        assert heading in out
    assert "Traceback" not in out


def test_train_on_own_data(capsys, tmp_path):
    random = np.random.default_rng(0)
    rows = [f"{x + 4 * (i % 2):.3f},{'pear' if i % 2 else '[red] apple'}" for i, x in enumerate(random.normal(size=80))]
    (tmp_path / "fruit.csv").write_text("\n".join(["size,kind", *rows]), encoding="utf-8")
    model_path = tmp_path / "model.npz"
    arguments = ["--data", tmp_path / "fruit.csv", "--label", "kind", "--hidden", "4,4", "--save", model_path]
    assert main([*SHORT, "--epochs", "10", "--dropout", "0", *map(str, arguments)]) == 0
    assert "network 1-4-4-2" in capsys.readouterr().out
    model, params, preprocessing = load_model(model_path)
    said = preprocessing.classes[model.predict(params, preprocessing([[0.0], [4.0]]))]
    assert list(said) == ["[red] apple", "pear"]


def test_a_saved_model_has_the_accuracy_it_names(tmp_path, capsys):
    path = tmp_path / "model.npz"
    assert main([*SHORT, "--save", str(path)]) == 0
    model, params, preprocessing = load_model(path)
    digits = load_digits()
    parts = split(digits, 0.1, 0)
    right = model.predict(params, parts.X_validation) == parts.y_validation
    with np.load(path) as file:
        assert right.mean() == float(file["accuracy"])
        assert (preprocessing.scale == 16).all()
    assert (preprocessing.classes[model.predict(params, preprocessing(digits.X))] == digits.y).mean() > 0.9
    assert [p.name for p in tmp_path.iterdir()] == ["model.npz"]


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_plot(tmp_path, capsys, suffix):
    pytest.importorskip("matplotlib")
    path = tmp_path / f"curves.{suffix}"
    assert main([*SHORT, "--plot", str(path)]) == 0
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG") if suffix == "png" else b"<svg" in content
    assert str(path) in capsys.readouterr().out.replace("\n", "")


def test_plot_without_matplotlib(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert "pip install matplotlib" in fails(capsys, "--plot", tmp_path / "curves.png")


def test_plot_of_an_unknown_kind(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    assert "suffix '.xyz' is not supported; one of" in fails(capsys, "--plot", tmp_path / "curves.xyz")


def test_a_diverged_method_is_told(tmp_path, capsys):
    path = tmp_path / "model.npz"
    assert main([*SHORT, "--lr", "1e30", "--loss", "mse", "--methods", "nag", "--save", str(path)]) == 0
    out = capsys.readouterr().out
    assert "diverged" in out
    assert "Nothing to save: every method diverged." in out
    assert not path.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", "0"], "--epochs is 0; a whole number from 1"),
        (["--epochs", "many"], "argument --epochs: invalid int value: 'many'"),
        (["--hidden", "12,x"], "argument --hidden: '12,x'; widths are needed"),
        (["--lr", "-1"], "--lr is -1.0"),
        (["--lr", "nan"], "--lr is nan"),
        (["--methods", "gd,nagg"], "did you mean 'nag'"),
        (["--methods", ","], "--methods is empty"),
        (["--loss", "cross-entropy"], "did you mean 'cross_entropy'"),
        (["--device", "gpu"], "--device is 'gpu'"),
        (
            ["--precision", "tf32", "--device", "cpu"],
            "--precision is tf32, --dtype float32 and --device cpu; tf32 is for float32 on cuda",
        ),
        (["--label", "kind"], "--label is for a csv file given with --data"),
        (["--data", "missing.csv"], "missing.csv: no such file or directory"),
        (["--data", "missing.txt"], "missing.txt: suffix '.txt' is not known"),
        (["--save", "model.pkl"], "--save model.pkl: a name that ends in .npz is needed"),
        (["--save", "no/such/place.npz"], "no/such/place.npz cannot be written: there is no directory"),
    ],
)
def test_errors_before_training(capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert message in fails(capsys, *arguments)


def test_data_errors_are_one_line(capsys, tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("a,b\n" + "1,u\n2,v\n" * 6 + "x,u\n", encoding="utf-8")
    assert fails(capsys, "--data", path).startswith(
        f"nagd-numba train: error: {path}: text 'x' in line 14, column 'a'; features are numbers"
    )


def test_a_read_only_place_is_told_before_training(capsys, tmp_path):
    place = tmp_path / "locked"
    place.mkdir()
    place.chmod(0o500)
    if os.access(place, os.W_OK):  # the super-user may write anywhere but in such file systems
        place = "/proc"
        if not os.path.isdir(place):
            pytest.skip("every directory can be written here")
    assert "model.npz cannot be written" in fails(capsys, "--save", f"{place}/model.npz")


def test_an_error_while_saving(capsys, tmp_path, monkeypatch):
    from nagd_numba import model_file

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(model_file.np, "savez", full)
    assert main([*SHORT, "--save", str(tmp_path / "model.npz")]) == 1
    out, err = capsys.readouterr()
    assert "No space left" in err
    assert "Best model: " in out
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(why_no_cuda() is None, reason="CUDA can be used here")
def test_cuda_without_a_gpu_says_what_was_looked_for(capsys):
    line = fails(capsys, "--device", "cuda")
    assert "--device cuda: CUDA is not available" in line
    assert why_no_cuda() in line


def test_bars_on_a_terminal(capsys):
    from rich.console import Console

    from nagd_numba.cli.comparison import Comparison
    from nagd_numba.cli.config import Config

    config = Config(epochs=2, device="cpu", methods=("nag",))
    run = Comparison(split(load_digits(), 0.1, 0), config)
    out = Console(force_terminal=True, force_interactive=True, width=100, markup=False)
    with train_report.progress(out, run) as callbacks:
        run.run(callbacks.on_epoch, callbacks.on_batch)
    shown = capsys.readouterr().out
    assert "Nesterov (nag)" in shown
    assert "epoch 2/2" in shown


def start(tmp_path, *arguments):
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "nagd_numba", "train", "--device", "cpu", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        preexec_fn=heed,
    )


def interrupt(process, twice=False):
    process.send_signal(signal.SIGINT)
    if twice:
        time.sleep(0.005)
        process.send_signal(signal.SIGINT)
    sent = time.perf_counter()
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err
    return out, err, time.perf_counter() - sent


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("twice", [False, True])
def test_interrupt_saves_the_best_model_so_far(tmp_path, twice):
    process = start(tmp_path, "--epochs", "100000", "--save", "model.npz")
    for line in process.stdout:
        if "epoch      3/" in line:
            break
    out, _, seconds = interrupt(process, twice)
    assert "Interrupted after epoch" in out
    assert "Best model: model.npz" in out
    assert "gd (" in out
    assert seconds < 20  # of the minutes that it would take; tests.reliability measures
    assert [p.name for p in tmp_path.iterdir()] == ["model.npz"]
    model, params, _ = load_model(tmp_path / "model.npz")
    parts = split(load_digits(), 0.1, 0)
    with np.load(tmp_path / "model.npz") as file:
        assert (model.predict(params, parts.X_validation) == parts.y_validation).mean() == float(file["accuracy"])


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129)])
def test_signals_that_end_a_process_save_the_best_model(tmp_path, name, code):
    process = start(tmp_path, "--epochs", "100000", "--save", "model.npz")
    for line in process.stdout:
        if "epoch      3/" in line:
            break
    process.send_signal(getattr(signal, name))
    out, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert err == "" or err.splitlines() == [TEXT]
    reached = re.search(r"Interrupted after epoch (\d+) of gd", out)
    assert [p.name for p in tmp_path.iterdir()] == ["model.npz"]
    with np.load(tmp_path / "model.npz") as file:
        assert len(file["gd/history"]) == int(reached[1])


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_interrupted_while_it_compiles(tmp_path, monkeypatch):
    """The main thread is in LLVM, which it cannot leave; there is nothing in the cache."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    process = start(tmp_path, "--save", "model.npz")
    assert TEXT in process.stderr.readline()
    out, err, _ = interrupt(process)
    assert "Interrupted before the first epoch ended.\nNothing to save: no epoch ended.\n" in out
    assert err == ""
    assert not (tmp_path / "model.npz").exists()


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("given", [["-m", "nagd_numba"], ["-c", "import nagd_numba"]])
def test_interrupted_while_it_is_imported(given, tmp_path):
    """The command ends by the signal, without a traceback; a program that imports the library is left alone."""
    (tmp_path / "sitecustomize.py").write_text(
        "import builtins, os, signal\n"
        "known = builtins.__import__\n"
        "def importing(name, *rest):\n"
        "    if name == 'numba':\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "    return known(name, *rest)\n"
        "builtins.__import__ = importing\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    )
    path = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run(
        [sys.executable, *given], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}, check=False
    )
    assert done.returncode == -signal.SIGINT
    assert ("Traceback" in done.stderr) == (given[0] == "-c")


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_interrupt_before_the_first_epoch(tmp_path):
    random = np.random.default_rng(0)
    np.savez(tmp_path / "large.npz", X=random.normal(size=(20000, 200)), y=np.arange(20000) % 7)
    process = start(tmp_path, "--data", "large.npz", "--batch-size", "1", "--hidden", "2000", "--save", "model.npz")
    assert "large.npz: 18000" in process.stdout.readline()
    time.sleep(0.3)
    out, _, seconds = interrupt(process)
    assert "Interrupted before the first epoch ended." in out
    assert "Nothing to save: no epoch ended." in out
    assert seconds < 20
    assert not (tmp_path / "model.npz").exists()
