"""Every file that can exist is read, or refused by a ValueError of one line that names it: models, trainings, data."""

import math
import warnings

import numpy as np
import pytest

from nagd_numba import MLP
from nagd_numba.cli import checkpoint
from nagd_numba.cli.checkpoint import Checkpoint
from nagd_numba.cli.comparison import Best, Comparison, Epoch, Result, State
from nagd_numba.cli.config import Config
from nagd_numba.cli.data import load_file, split
from nagd_numba.cli.data.samples import checked
from nagd_numba.model_file import Preprocessing, load_model, save_model
from tests.helpers.damage import mutated

CONFIG = Config(methods=("nag",), hidden=(2,), epochs=2, device="cpu", validation=0.3)
SOURCE = {"data": "x.npz", "label": None, "delimiter": None, "header": None, "decimal": None}


def small_data():
    X = np.arange(24.0).reshape(12, 2)
    return split(checked(X, np.array(["a", "b"])[np.arange(12) % 2], "small"), CONFIG.validation, CONFIG.seed)


def trained():
    """A comparison as it is after an epoch, without the time that takes."""
    run = Comparison(small_data(), CONFIG)
    params = run.model.init(0)
    epoch = Epoch(1, 0.5, 0.6, 0.75)
    run.states["nag"] = State(Result("nag", [epoch], 0.7, 0.1), params, np.zeros_like(params))
    run.best = Best("nag", epoch, params)
    return run


def write_model(path):
    model = MLP((2, 3, 2))
    save_model(path, model, model.init(0), Preprocessing(np.zeros(2), np.ones(2), np.array(["a", "b"])))


def write_training(path):
    run = trained()
    content = checkpoint.content(run, SOURCE)
    save_model(path, run.model, run.best.params, run.data.preprocessing, "nag", 1, 0.75, content)


def write_data(path):
    np.savez(path, X=np.arange(24.0).reshape(12, 2), y=np.array(["a", "b"])[np.arange(12) % 2])


def resume(path):
    kept = Checkpoint(path)
    run = Comparison(small_data(), kept.config)
    kept.restore(run)
    return run


def sound_model(read):
    model, params, preprocessing = read
    assert model.predict(params, preprocessing(np.zeros((1, model.sizes[0])), params.dtype)).shape == (1,)
    assert str(preprocessing.classes[0])


def sound_training(run):
    assert all(1 <= epoch.number <= len(result.history) for result in run.results for epoch in result.history)


def sound_data(samples):
    assert math.isfinite(samples.X.sum())
    assert samples.understood == ""


KINDS = {
    "model": (write_model, load_model, sound_model),
    "training": (write_training, resume, sound_training),
    "data": (write_data, load_file, sound_data),
}


def read_or_refuse(tmp_path, kind, seeds):
    """Returns how many of the damaged files were refused."""
    write, read, check = KINDS[kind]
    path = tmp_path / "file.npz"
    write(path)
    check(read(path))
    whole, refused = path.read_bytes(), 0
    for seed in seeds:
        path.write_bytes(mutated(whole, seed))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                result = read(path)
            except ValueError as error:
                refused += 1
                message = str(error)
                assert message.startswith((f"{path}: ", "--epochs is ")), (seed, message)
                assert message.isprintable(), (seed, message)
                assert len(message) < 1000, (seed, message)
                continue
            except Exception as error:
                raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
        try:
            check(result)
        except Exception as error:
            raise AssertionError(f"seed {seed} was read, and is not sound: {error}") from error
    return refused


@pytest.mark.parametrize("kind", KINDS)
def test_a_thousand_damaged_files(tmp_path, kind):
    number = 334
    assert read_or_refuse(tmp_path, kind, range(number)) > number / 2


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", KINDS)
def test_many_damaged_files(tmp_path, kind):
    read_or_refuse(tmp_path, kind, range(1000, 21_000))
