"""Everything that `MLP.fit` refuses, before it writes anything."""

import math
import warnings

import numpy as np
import pytest

from nagd_numba import MLP
from nagd_numba.history import History
from nagd_numba.schedules import Cosine, Schedule
from tests.helpers.backends import JIT_OFF
from tests.helpers.training import BINARY, TANH, assert_same, changed, fitted, problem, read_only

pytestmark = pytest.mark.skipif(JIT_OFF, reason="is about compiled kernels")


class Sparse:
    """What NumPy takes for a single object."""

    def __init__(self, x):
        self.x = x

    def toarray(self):
        return self.x


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
        (
            lambda a: {"sample_weight": changed(np.ones(50), 7, -1)},
            ValueError,
            "sample_weight is -1.0 in row 7; weights >= 0",
        ),
        (
            lambda a: {"sample_weight": changed(np.ones(50), 7, math.nan)},
            ValueError,
            "sample_weight is nan in row 7; finite",
        ),
        (
            lambda a: {"sample_weight": np.full(50, 1e39)},
            ValueError,
            r"sample_weight is 1e\+39 in row 0; .*\(in float32\)",
        ),
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
        (lambda a: {"time_budget": 0}, ValueError, "time_budget is 0; a number > 0"),
        (lambda a: {"clip": 0.0}, ValueError, "clip is 0.0; a number > 0"),
        (lambda a: {"clip": 1e-50}, ValueError, r"clip is 1e-50; a number >= 1.2e-38 is needed \(in float32\)"),
        (lambda a: {"clip": True}, TypeError, "clip is True; a number"),
        (lambda a: {"lr": True}, TypeError, "lr is True; a number"),
        (lambda a: {"lr": lambda t: None}, TypeError, r"lr\(0\) is None; a number"),
        (lambda a: {"momentum": lambda t: np.ones(2)}, TypeError, r"momentum\(0\) is array.*; a number"),
        (lambda a: {"progress": "no"}, TypeError, "progress is 'no'; True or False"),
        (lambda a: {"min_gain": None}, TypeError, "min_gain is None; a number"),
        (lambda a: {"time_budget": math.nan}, ValueError, "time_budget is nan"),
        (lambda a: {"X": Sparse(a["X"])}, TypeError, r"X is a .*Sparse; a dense array is needed: X.toarray\(\)"),
        (lambda a: {"y": Sparse(a["y"])}, TypeError, r"y is a .*Sparse; a dense array is needed: y.toarray\(\)"),
        (lambda a: {"params": Sparse(a["params"])}, TypeError, r"needed: params.toarray\(\)"),
        (lambda a: {"validation": (Sparse(a["X"]), a["y"])}, TypeError, r"validation: X is .*X.toarray\(\)"),
        (
            lambda a: {"X": changed(a["X"], (7, 2), math.nan)},
            ValueError,
            "MLP.fit: X is nan in row 7, column 2; finite",
        ),
        (lambda a: {"X": changed(a["X"], (49, 0), -math.inf)}, ValueError, "X is -inf in row 49, column 0"),
        (lambda a: {"X": changed(a["X"].T.copy(), (4, 8), math.nan).T}, ValueError, "X is nan in row 8, column 4"),
        (
            lambda a: {"X": changed(a["X"].astype(float), (3, 1), 1e300)},
            ValueError,
            r"X is 1e\+300 in row 3, column 1; finite numbers are needed \(in float32\)",
        ),
        (
            lambda a: {"X": changed(a["X"].astype(np.float16), (3, 1), math.inf)},
            ValueError,
            "X is inf in row 3, column 1",
        ),
        (
            lambda a: {"params": changed(a["params"], 5, math.nan)},
            ValueError,
            "MLP.fit: params is nan at index 5; finite",
        ),
        (lambda a: {"vel": changed(a["vel"], 65, math.inf)}, ValueError, "vel is inf at index 65"),
        (
            lambda a: {"validation": (changed(a["X"], (2, 4), math.nan), a["y"])},
            ValueError,
            "MLP.fit: validation: X is nan in row 2, column 4",
        ),
        (
            lambda a: {"validation": (a["X"], a["y"], changed(np.ones(50), 9, math.nan))},
            ValueError,
            "validation: sample_weight is nan in row 9",
        ),
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


def test_targets_that_are_not_finite():
    net, params, X, y = problem((5, 7, 2), **TANH)
    for value, given in ((math.nan, y), (math.inf, y.astype(np.float32))):
        with pytest.raises(ValueError, match=rf"y is {value} in row 3, column 1; finite numbers are needed"):
            net.fit(params, X, changed(given, (3, 1), value))
    with pytest.raises(ValueError, match=r"validation: y is nan in row 6, column 0"):
        net.fit(params, X, y, validation=(X, changed(y, (6, 0), math.nan)))
    net, params, X, y = problem((5, 1), loss="mse")
    with pytest.raises(ValueError, match=r"y is 1e\+39 in row 2; finite numbers are needed \(in float32\)"):
        net.fit(params, X, changed(y[:, 0].astype(float), 2, 1e39))


def test_scipys_sparse_matrices_are_for_fit():
    sparse = pytest.importorskip("scipy.sparse")
    net, params, X, y = problem()
    for made in (sparse.csr_matrix, sparse.coo_array):
        for call in (net.value_and_grad, net.loss):
            with pytest.raises(TypeError, match=r"X is a scipy\.sparse\..*; a dense array is needed: X\.toarray\(\)"):
                call(params, made(X), y)
        for call in (net.forward, net.predict, net.predict_proba):
            with pytest.raises(TypeError, match=r"X\.toarray\(\)"):
                call(params, made(X))


def test_data_may_not_share_memory_with_what_is_trained():
    net = MLP((2, 1), loss="mse")
    memory = np.zeros(40, np.float32)
    others = {"X": np.ones((8, 2), np.float32), "y": np.ones((8, 1), np.float32)}
    cases = [
        ({"X": memory[:16].reshape(8, 2)}, {}, "params and X"),
        ({"y": memory[2:10].reshape(8, 1)}, {}, "params and y"),
        ({}, {"validation": (memory[:16].reshape(8, 2), others["y"])}, "params and X"),
        ({"X": memory[20:36].reshape(8, 2)}, {"vel": memory[30:33]}, "vel and X"),
    ]
    for change, options, named in cases:
        with pytest.raises(ValueError, match=f"MLP.fit: {named} overlap in memory; each needs its own: pass .*copy"):
            net.fit(memory[:3], **(others | change), **options)
    assert not memory.any()
    net.fit(memory[:3], memory[:16].reshape(8, 2).astype(float), others["y"], 1)  # a copy was made: float64 is not it
    same = np.ones((8, 1), np.float32)
    MLP((1, 1), loss="mse").fit(np.zeros(2, np.float32), same, same, 1)  # data may share memory among themselves


def test_a_rate_that_becomes_unfit_later():
    """Functions are asked at the start of each epoch: the epochs before are kept."""
    net, params, X, y = problem()
    history, vel = History(), np.zeros_like(params)
    got = params.copy()
    with pytest.raises(ValueError, match="lr is nan at update 9"):
        net.fit(got, X, y, 5, 16, vel=vel, history=history, lr=lambda t: math.nan if t == 9 else 0.05)
    assert_same((got, vel, history), fitted(net, params, X, y, 2))
