"""What `nagd-numba train` takes by default, what it says of the outcome, and what it suggests."""

import math
import shlex
from types import SimpleNamespace

import pytest

from nagd_numba.cli import options
from nagd_numba.cli.comparison import Epoch, Result
from nagd_numba.cli.config import Config
from nagd_numba.cli.defaults import BATCH_SIZE, OPTIONS, PAIRS, config_of
from nagd_numba.cli.main import _parser, main
from nagd_numba.cli.verdict import next_commands, sentence
from nagd_numba.optimizers.registry import METHODS
from tests.helpers.checkpoints import arrays, run, without_times


def parsed(*arguments):
    args = _parser().parse(["train", *arguments])
    return config_of(args, {name: getattr(args, name) for name in OPTIONS})


def result(method, *losses, accuracy=0.5):
    return Result(method, [Epoch(k + 1, loss, loss, accuracy) for k, loss in enumerate(losses)])


def test_each_method_has_its_pair_on_the_digits():
    assert set(PAIRS) == set(METHODS)
    config = parsed()
    assert config.batch_size == BATCH_SIZE
    assert {method: config.pair(method) for method in METHODS} == PAIRS


def test_what_is_given_is_taken():
    config = parsed("--lr", "0.2", "--batch-size", "7")
    assert config.batch_size == 7
    assert [config.pair(method) for method in ("gd", "momentum", "nag")] == [
        (0.2, None),
        (0.2, PAIRS["momentum"][1]),
        (0.2, PAIRS["nag"][1]),
    ]
    assert config.pair("adam") == PAIRS["adam"]
    assert parsed("--momentum", "0.5").pair("nag") == (PAIRS["nag"][0], 0.5)
    assert parsed("--adam-lr", "0.5").pair("lion") == (0.5, None)


def test_other_data_has_the_same_rate_for_all():
    config = parsed("--data", "rows.csv")
    assert config.batch_size == Config.batch_size
    assert {config.pair(method) for method in ("momentum", "nag")} == {(Config.lr, Config.momentum)}
    assert config.pair("gd") == (Config.lr, None)
    assert config.pair("adam") == (Config.adam_lr, None)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ({"nagg": (0.1, None)}, "did you mean 'nag'"),
        ({"nag": (-0.1, 0.9)}, "--lr is -0.1"),
        ({"adam": (-0.1, None)}, "--adam-lr is -0.1"),
        ({"nag": (0.1, 1.0)}, "--momentum is 1.0"),
    ],
)
def test_bad_pairs_are_refused(pairs, message):
    with pytest.raises(ValueError, match=message):
        Config(pairs=pairs)


def test_a_training_goes_on_with_its_pairs(tmp_path, capsys, monkeypatch):
    """Also where other defaults came in between."""
    path = tmp_path / "model.npz"
    common = ["train", "--device", "cpu", "--hidden", "4", "--methods", "nag"]
    assert run(*common, "--epochs", 2, "--save", tmp_path / "whole.npz") == 0
    assert run(*common, "--epochs", 1, "--save", path) == 0
    monkeypatch.setitem(PAIRS, "nag", (0.001, 0.1))
    assert run("train", "--resume", path, "--epochs", 2, "--lr", 0.5) == 0
    assert without_times(arrays(path)) == without_times(arrays(tmp_path / "whole.npz"))
    assert run("train", "--resume", path, "--epochs", 3, "--lr", 0.1) == 2
    assert "--lr is 0.1, and 0.5 in" in capsys.readouterr().err


def test_the_sentence_says_what_was_compared_and_what_came_out():
    results = [result("gd", 1.0, 0.4, accuracy=0.94), result("nag", 0.5, 0.02, accuracy=0.96)]
    results.append(result("momentum", 0.5, 0.021, accuracy=0.97))
    said = sentence(results, parsed())
    assert said == (
        "Trained from the same weights, with the same batches and dropout, each method at its own best learning rate "
        "and momentum of a grid, nag ends with the lowest train loss: that of momentum is about the same and that of "
        "gd is 20 times as high; epochs until 95 % of the validation rows are right: momentum 1 and nag 1."
    )
    assert "all at the same learning rate and momentum, nag ends" in sentence(results, Config())
    assert "at the learning rates and momenta of the table, nag" in sentence(results, parsed("--lr", "0.1"))


def test_the_sentence_of_one_method_and_of_those_that_diverged():
    assert sentence([result("nag", 0.25)], parsed()) == (
        "Trained from the same weights, with the same batches and dropout, nag ends with a train loss of 0.2500."
    )
    lost = result("gd", math.nan)
    assert "lowest train loss: gd diverged." in sentence([lost, result("nag", 0.25)], Config())
    assert sentence([lost], Config()).endswith("each diverged.")


@pytest.mark.parametrize("data", [None, "it's mine.csv"])
def test_the_commands_to_try_next_are_understood(data):
    parser = _parser()
    for methods in (("gd", "nag"), ("nag", "adam")):
        tries = next_commands(SimpleNamespace(data=data), Config(methods=methods, seed=3))
        assert len(tries) >= 2
        for command, _ in tries:
            name, *words = shlex.split(command)
            assert name == "nagd-numba"
            args = parser.parse(words)
            assert data is None or args.data == data


def test_help_says_the_defaults(capsys):
    assert main(["train", "--help"]) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert f"rows for each step ({BATCH_SIZE} for the digits, {Config.batch_size} for other data)" in words
    assert f"for the digits the best of a grid for each, else {Config.lr})" in words
    assert options._methods("lr") in words
