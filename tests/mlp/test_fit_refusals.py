"""Everything that `MLP.fit` refuses, before it writes anything."""

import math
import warnings

import numpy as np
import pytest

from nagd_numba.history import History
from nagd_numba.schedules import Constant, Cosine, Schedule
from tests.helpers.backends import JIT_OFF
from tests.helpers.training import BINARY, TANH, assert_same, changed, fitted, problem, read_only

pytestmark = pytest.mark.skipif(JIT_OFF, reason="is about compiled kernels")


class WrongLength(Schedule):
    def values(self, t, progress):
        return np.zeros(3)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda a: {"epochs": 0}, ValueError, "epochs is 0; a whole number from 1"),
        (lambda a: {"epochs": 2.0}, TypeError, "epochs is 2.0; a whole number"),
        (lambda a: {"epochs": True}, TypeError, "epochs is True"),
        (lambda a: {"batch_size": 0}, ValueError, "batch_size is 0"),
        (lambda a: {"batch_size": -3}, ValueError, "batch_size is -3"),
        (lambda a: {"batch_size": "32"}, TypeError, "batch_size is '32'"),
        (lambda a: {"accumulate": 0}, ValueError, "accumulate is 0"),
        (lambda a: {"accumulate": 1.5}, TypeError, "accumulate is 1.5"),
        (lambda a: {"lr": -0.1}, ValueError, "lr is -0.1; a finite number >= 0"),
        (lambda a: {"lr": math.nan}, ValueError, "lr is nan"),
        (lambda a: {"lr": math.inf}, ValueError, "lr is inf"),
        (lambda a: {"lr": "0.1"}, TypeError, "lr is '0.1'; a number"),
        (lambda a: {"lr": None}, TypeError, "lr is None"),
        (lambda a: {"lr": 1e39}, ValueError, r"lr is 1e\+39 at update 0; .*in float32"),
        (lambda a: {"lr": Cosine}, TypeError, r"lr is the class Cosine; an instance"),
        (lambda a: {"lr": lambda t: -1.0 if t == 3 else 0.1}, ValueError, "lr is -1.0 at update 3"),
        (lambda a: {"lr": Constant(-1)}, ValueError, "lr is -1.0 at update 0"),
        (lambda a: {"momentum": -0.5}, ValueError, "momentum is -0.5"),
        (lambda a: {"momentum": [0.9]}, TypeError, r"momentum is \[0.9\]"),
        (lambda a: {"momentum": lambda t: math.nan if t == 2 else 0.9}, ValueError, "momentum is nan at update 2"),
        (lambda a: {"momentum": lambda t: math.nan if t == 4 else 0.9}, ValueError, "momentum is nan at update 4"),
        (lambda a: {"optimizer": "nga"}, ValueError, "optimizer is 'nga'; one of 'gd', .*did you mean 'nag'"),
        (lambda a: {"optimizer": "sgd"}, ValueError, "did you mean 'gd'"),
        (lambda a: {"optimizer": None}, ValueError, "optimizer is None"),
        (lambda a: {"keep": "bset"}, ValueError, "keep is 'bset'.*did you mean 'best'"),
        (lambda a: {"vel": a["vel"][:-1]}, ValueError, r"vel has shape \(65,\)"),
        (lambda a: {"vel": a["vel"].astype(float)}, TypeError, "vel has dtype float64"),
        (lambda a: {"vel": a["params"]}, ValueError, "params and vel are the same memory"),
        (lambda a: {"vel": read_only(a["vel"])}, ValueError, "vel is read-only"),
        (lambda a: {"vel": np.repeat(a["vel"], 2)[::2]}, ValueError, "vel is strided"),
        (lambda a: {"params": read_only(a["params"])}, ValueError, "params is read-only"),
        (lambda a: {"params": a["params"][:-1]}, ValueError, r"params has shape \(65,\); .* has 66 parameters"),
        (lambda a: {"params": a["params"].astype(float)}, TypeError, "params has dtype float64 and the model float32"),
        (lambda a: {"params": a["params"].tolist()}, TypeError, "params is a list"),
        (lambda a: {"seed": -1}, ValueError, "seed is -1"),
        (lambda a: {"seed": 2**64}, ValueError, "seed is 18446744073709551616"),
        (lambda a: {"seed": 1.5}, TypeError, "seed is 1.5"),
        (lambda a: {"seed": None}, TypeError, "seed is None"),
        (lambda a: {"sample_weight": np.ones(49)}, ValueError, r"sample_weight has shape \(49,\) and X 50 rows"),
        (lambda a: {"sample_weight": np.ones((50, 1))}, ValueError, r"sample_weight has shape \(50, 1\)"),
        (lambda a: {"sample_weight": changed(np.ones(50), 7, -1)}, ValueError, "sample_weight has negative"),
        (lambda a: {"sample_weight": changed(np.ones(50), 7, math.nan)}, ValueError, "sample_weight has"),
        (lambda a: {"sample_weight": np.full(50, 1e39)}, ValueError, "sample_weight has .*infinite"),
        (lambda a: {"sample_weight": np.zeros(50)}, ValueError, "only zero weights"),
        (lambda a: {"sample_weight": ["a"] * 50}, TypeError, "sample_weight has dtype <U1"),
        (lambda a: {"validation": 0}, ValueError, "validation is 0 of 50 rows"),
        (lambda a: {"validation": 1.0}, ValueError, "validation is 1.0"),
        (lambda a: {"validation": 1.5}, ValueError, "validation is 1.5"),
        (lambda a: {"validation": 0.001}, ValueError, "leaves rows on both sides"),
        (lambda a: {"validation": math.nan}, ValueError, "validation is nan"),
        (lambda a: {"validation": True}, ValueError, "validation is True"),
        (lambda a: {"validation": "x"}, TypeError, "validation is 'x'; None, a share"),
        (lambda a: {"validation": (a["X"],)}, ValueError, "validation has 1 parts"),
        (lambda a: {"validation": (a["X"], a["y"][:-1])}, ValueError, r"y has shape \(49,\)"),
        (lambda a: {"validation": (a["X"][:, :3], a["y"])}, ValueError, r"X has shape \(50, 3\)"),
        (lambda a: {"metrics": "acuracy"}, ValueError, "metrics is 'acuracy'.*did you mean 'accuracy'"),
        (lambda a: {"metrics": ["accuracy", "mae"]}, ValueError, "metrics has 'mae', and the targets .* are labels"),
        (lambda a: {"patience": 0}, ValueError, "patience is 0"),
        (lambda a: {"patience": 2.5}, TypeError, "patience is 2.5"),
        (lambda a: {"min_gain": -1e-3}, ValueError, "min_gain is -0.001; a number >= 0"),
        (lambda a: {"min_gain": math.nan}, ValueError, "min_gain is nan"),
        (lambda a: {"target_loss": "low"}, TypeError, "target_loss is 'low'; a number"),
        (lambda a: {"target_loss": math.nan}, ValueError, "target_loss is nan"),
        (lambda a: {"time_budget": 0}, ValueError, "time_budget is 0.0; a number > 0"),
        (lambda a: {"clip": 0.0}, ValueError, "clip is 0.0; a number > 0"),
        (lambda a: {"clip": math.nan}, ValueError, "clip is nan"),
        (lambda a: {"clip": "1"}, TypeError, "clip is '1'; a number"),
        (lambda a: {"callback": 3}, TypeError, "callback is 3; a function"),
        (lambda a: {"X": a["X"][0]}, ValueError, r"X has shape \(5,\); .*X\[None, :\]"),
        (lambda a: {"X": a["X"][:, :4]}, ValueError, r"X has shape \(50, 4\); this network has 5 inputs"),
        (lambda a: {"X": a["X"][:0], "y": a["y"][:0]}, ValueError, "X has no rows"),
        (lambda a: {"X": a["X"].astype(complex)}, TypeError, "X has dtype complex128"),
        (lambda a: {"X": a["X"].astype(str)}, TypeError, "X has dtype <U"),
        (lambda a: {"X": np.ma.masked_array(a["X"])}, TypeError, "X is a masked array"),
        (lambda a: {"y": a["y"][:-1]}, ValueError, r"y has shape \(49,\) and X 50 rows"),
        (lambda a: {"y": a["y"].astype(float)}, TypeError, "y has dtype float64"),
        (lambda a: {"y": changed(a["y"], 4, 3)}, ValueError, r"y is 3 in row 4; labels must be in \[0, 3\)"),
        (lambda a: {"y": changed(a["y"], 9, -1)}, ValueError, "y is -1 in row 9"),
        (lambda a: {"history": History.from_dict({"loss": [1.0]}), "vel": None}, ValueError, "vel is missing"),
        pytest.param(
            lambda a: {"history": History.from_dict({"loss": [1.0]})},
            ValueError,
            "columns",
        ),
        pytest.param(
            lambda a: {"lr": WrongLength()},
            ValueError,
            "lr",
        ),
        pytest.param(
            lambda a: {"metrics": 5},
            TypeError,
            "metrics is 5",
        ),
        pytest.param(
            lambda a: {"history": "old"},
            TypeError,
            "history is 'old'",
        ),
        pytest.param(
            lambda a: {"validation": "0.2"},
            TypeError,
            "validation is '0.2'",
        ),
        pytest.param(
            lambda a: {"validation": (a["X"][:, :3], a["y"])},
            ValueError,
            "validation",
        ),
    ],
)
def test_unfit_arguments_are_refused_before_any_write(change, error, message):
    net, params, X, y = problem()
    arguments = {"params": params, "X": X, "y": y, "epochs": 2, "batch_size": 16, "vel": np.ones_like(params)}
    vel = arguments["vel"]
    before = params.copy()
    arguments.update(change(arguments))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(error, match=message):
            net.fit(**arguments)
    assert params.tobytes() == before.tobytes()
    assert (vel == 1).all()


def test_targets_of_other_losses_are_refused():
    net, params, X, y = problem((5, 7, 2), **BINARY)
    with pytest.raises(ValueError, match=r"y is 0\.5 in row 3; binary_cross_entropy needs targets of 0 or 1"):
        net.fit(params, X, changed(y, (3, 1), 0.5))
    net, params, X, y = problem((5, 7, 2), **TANH)
    with pytest.raises(ValueError, match=r"y has shape \(50,\)"):
        net.fit(params, X, y[:, 0])
    labels = (y[:, 0] > 0).astype(int)
    assert_same(fitted(net, params, X, labels), fitted(net, params, X, np.eye(2)[labels]))  # one-hot


def test_a_rate_that_becomes_unfit_later():
    """Functions are asked at the start of each epoch: the epochs before are kept."""
    net, params, X, y = problem()
    history, vel = History(), np.zeros_like(params)
    got = params.copy()
    with pytest.raises(ValueError, match="lr is nan at update 9"):
        net.fit(got, X, y, 5, 16, vel=vel, history=history, lr=lambda t: math.nan if t == 9 else 0.05)
    assert_same((got, vel, history), fitted(net, params, X, y, 2))
