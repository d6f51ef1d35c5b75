"""Everything that `MLP` refuses, before it writes anything."""

import math

import numpy as np
import pytest

from nagd_numba import MLP

NET = {"sizes": (3, 4, 2)}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"sizes": (3,)}, ValueError, r"sizes is \(3,\); at least two widths"),
        ({"sizes": ()}, ValueError, "at least two widths"),
        ({"sizes": (3, 0, 2)}, ValueError, r"sizes is \(3, 0, 2\); every width must be >= 1"),
        ({"sizes": (3, -1)}, ValueError, "every width"),
        ({"sizes": (3, 2.5)}, TypeError, "integer widths"),
        ({"sizes": 7}, TypeError, "sizes is 7"),
        ({**NET, "activation": "rleu"}, ValueError, "activation is 'rleu'.*did you mean 'relu'"),
        ({**NET, "loss": "cross-entropy"}, ValueError, "loss is 'cross-entropy'.*did you mean 'cross_entropy'"),
        ({**NET, "dropout": 1.0}, ValueError, "dropout is 1.0; a finite number >= 0 and < 1"),
        ({**NET, "dropout": -0.1}, ValueError, "dropout is -0.1"),
        ({**NET, "dropout": math.nan}, ValueError, "dropout is nan"),
        ({**NET, "dropout": "x"}, TypeError, "dropout is 'x'; a number"),
        ({**NET, "l2": -1}, ValueError, "l2 is -1; a finite number >= 0"),
        ({**NET, "l2": math.nan}, ValueError, "l2 is nan"),
        ({**NET, "l2": True}, TypeError, "l2 is True; a number"),
        ({**NET, "l2": 1e39}, ValueError, r"l2 is 1e\+39; .*in float32"),
        ({**NET, "dtype": "float16"}, TypeError, "dtype is 'float16'; 'float32' or 'float64'"),
        ({**NET, "dtype": int}, TypeError, "'float32' or 'float64'"),
        ({**NET, "dtype": "float31"}, TypeError, "dtype is 'float31'"),
    ],
)
def test_unfit_options(options, error, message):
    with pytest.raises(error, match=message):
        MLP(**options)


def _good():
    net = MLP((3, 4, 2), l2=0.1)
    random = np.random.default_rng(0)
    X, y = random.normal(size=(5, 3)).astype(np.float32), random.integers(0, 2, 5)
    return {"params": net.init(0), "X": X, "y": y, "out": np.full(net.size, 7, np.float32)}


def _read_only(x):
    x.flags.writeable = False
    return x


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            lambda a: {"params": a["params"][:-1]},
            ValueError,
            r"params has shape \(25,\); .*\(3, 4, 2\) has 26 parameters",
        ),
        (lambda a: {"params": a["params"].reshape(2, 13)}, ValueError, r"params has shape \(2, 13\)"),
        (lambda a: {"params": a["params"].astype(float)}, TypeError, "params has dtype float64 and the model float32"),
        (lambda a: {"params": a["params"].astype(int)}, TypeError, "params has dtype int64"),
        (lambda a: {"params": list(a["params"])}, TypeError, "params is a list; an array is needed"),
        (lambda a: {"params": np.repeat(a["params"], 2)[::2]}, ValueError, "params is strided"),
        (lambda a: {"X": a["X"][0]}, ValueError, r"X has shape \(3,\); .*X\[None, :\] for one sample"),
        (lambda a: {"X": a["X"][None]}, ValueError, r"X has shape \(1, 5, 3\); a matrix"),
        (lambda a: {"X": a["X"][:, :2]}, ValueError, r"X has shape \(5, 2\); this network has 3 inputs"),
        (lambda a: {"X": a["X"][:0]}, ValueError, "X has no rows"),
        (lambda a: {"X": a["X"].astype(complex)}, TypeError, "X has dtype complex128; real numbers"),
        (lambda a: {"X": a["X"].astype(str)}, TypeError, "X has dtype <U"),
        (lambda a: {"X": np.ma.masked_array(a["X"])}, TypeError, "X is a masked array"),
        (lambda a: {"X": [[1, 2, 3], [1, 2]]}, TypeError, "X cannot be read as an array"),
        (lambda a: {"y": a["y"][:4]}, ValueError, r"y has shape \(4,\) and X 5 rows"),
        (
            lambda a: {"y": a["y"][:, None]},
            ValueError,
            r"y has shape \(5, 1\) and X 5 rows; cross_entropy needs one label a",
        ),
        (lambda a: {"y": a["y"].astype(float)}, TypeError, r"y has dtype float64; .*integer labels in \[0, 2\)"),
        (lambda a: {"y": np.array([0, 1, 2, 1, 9])}, ValueError, r"y is 2 in row 2; labels must be in \[0, 2\)"),
        (lambda a: {"y": np.array([0, 1, 1, -3, 9])}, ValueError, "y is -3 in row 3"),
        (
            lambda a: {"y": np.array([0, 2**64 - 1, 1, 0, 0], np.uint64)},
            ValueError,
            "y is 18446744073709551615 in row 1",
        ),
        (lambda a: {"out": a["out"][:-1]}, ValueError, r"out has shape \(25,\)"),
        (lambda a: {"out": a["out"].astype(float)}, TypeError, "out has dtype float64"),
        (lambda a: {"out": _read_only(a["out"])}, ValueError, "out is read-only"),
        (lambda a: {"out": a["params"]}, ValueError, "out and params are the same memory"),
        (lambda a: {"out": np.repeat(a["out"], 2)[::2]}, ValueError, "out is strided"),
        (lambda a: {"dropout_seed": 1.5}, TypeError, "dropout_seed is 1.5; a whole number"),
        (lambda a: {"dropout_seed": -1}, ValueError, "dropout_seed is -1; a whole number from 0"),
        (lambda a: {"dropout_seed": 2**64}, ValueError, "dropout_seed is 18446744073709551616"),
    ],
)
def test_unfit_arrays_are_refused_before_any_write(change, error, message):
    net, arguments = MLP((3, 4, 2), l2=0.1), _good()
    out = arguments["out"]
    arguments.update(change(arguments))
    with pytest.raises(error, match=message):
        net.value_and_grad(**arguments)
    assert (out == 7).all()
    if not {"out", "dropout_seed"} & set(change(_good())):
        with pytest.raises(error, match=message):
            net.loss(arguments["params"], arguments["X"], arguments["y"])


def test_out_may_not_share_memory_with_the_inputs():
    net = MLP((2, 1), loss="mse")
    memory = np.arange(12, dtype=np.float32)
    params = np.ones(3, np.float32)
    X, y = memory[:8].reshape(4, 2), memory[8:].reshape(4, 1)
    with pytest.raises(ValueError, match="out and X overlap"):
        net.value_and_grad(params, X, y, out=memory[5:8])
    with pytest.raises(ValueError, match="out and y overlap"):
        net.value_and_grad(params, X, y, out=memory[9:12])
    net.value_and_grad(params, memory[:8].reshape(4, 2), memory[4:8].reshape(4, 1), out=memory[8:11])


@pytest.mark.parametrize(
    ("loss", "outputs", "y", "error", "message"),
    [
        ("mse", 2, np.zeros(3), ValueError, r"y has shape \(3,\) and X 3 rows; .*the shape \(3, 2\)"),
        ("mse", 2, np.zeros((3, 1)), ValueError, r"y has shape \(3, 1\)"),
        ("mse", 1, np.zeros((4, 1)), ValueError, r"y has shape \(4, 1\) .*\(3, 1\) or \(3,\)"),
        ("mse", 2, np.array([0, 2, 1]), ValueError, r"y is 2 in row 1; labels must be in \[0, 2\)"),
        ("mse", 1, np.zeros(3, complex), TypeError, "y has dtype complex128"),
        ("binary_cross_entropy", 2, np.zeros(3, int), ValueError, r"y has shape \(3,\)"),
        ("binary_cross_entropy", 2, np.array([[0, 1], [0, 0.5], [3, 0]]), ValueError, "y is 0.5 in row 1; .*0 or 1"),
        ("binary_cross_entropy", 1, np.array([0, 1, math.nan]), ValueError, "y is nan in row 2"),
    ],
)
def test_unfit_targets(loss, outputs, y, error, message):
    net = MLP((2, outputs), loss=loss)
    with pytest.raises(error, match=message):
        net.value_and_grad(net.init(0), np.zeros((3, 2), np.float32), y)
    with pytest.raises(error, match=message):
        net.loss(net.init(0), np.zeros((3, 2), np.float32), y)
