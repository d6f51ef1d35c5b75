"""The CUDA kernels of the network: compiled to PTX without a device, run in the simulator against the CPU's."""

import re

import numpy as np
import pytest
from numba import config

import driverless
from nagd_numba import MLP
from nagd_numba.compile import SIMULATOR
from nagd_numba.launch import why_no_cuda
from nagd_numba.mlp.cells import ACTIVATIONS, LOSSES
from nagd_numba.rounding import fma

cuda = pytest.importorskip("numba.cuda")
from nagd_numba.mlp.cuda import kernels  # noqa: E402  (needs numba.cuda)

in_simulator = pytest.mark.skipif(not SIMULATOR, reason="runs with NUMBA_ENABLE_CUDASIM=1")
compiled = pytest.mark.skipif(SIMULATOR or bool(config.DISABLE_JIT), reason="needs the compiler, without the simulator")

# Networks that between them use every kernel with every option.
KINDS = [
    ("relu", "cross_entropy", True, False),
    ("tanh", "mse", False, False),
    ("sigmoid", "binary_cross_entropy", True, False),
    ("identity", "mse", False, True),
    ("tanh", "cross_entropy", True, False),
    ("relu", "mse", False, True),
]


def ptx(kernel, signature, cc):
    driverless.require()
    return driverless.ptx(kernel.py_func, signature, cc)


@compiled
@pytest.mark.parametrize(("activation", "loss", "dropout", "one_hot"), KINDS)
def test_float32_kernels_compute_in_float32(activation, loss, dropout, one_hot):
    for name, (kernel, signature) in kernels("float32", activation, loss, dropout, one_hot).items():
        text = ptx(kernel, signature, (9, 0))
        assert ".visible .entry" in text
        assert ".f64" not in text, name
        assert not re.search(r"\b(?:atom|red)\.", text), name
        assert not re.search(r"\b(?:sqrt|div|ex2|lg2|tanh|rcp)\.approx", text), name


@compiled
@pytest.mark.parametrize("cc", driverless.CAPABILITIES, ids=lambda cc: f"sm_{cc[0]}{cc[1]}")
def test_kernels_compile_for_every_architecture(cc):
    for name, (kernel, signature) in kernels("float64", "tanh", "cross_entropy", True).items():
        text = ptx(kernel, signature, cc)
        assert f".target sm_{cc[0]}{cc[1]}" in text, name
        assert "fma.rn.f64" in text or name not in ("hidden", "output", "weights", "delta", "loss", "probabilities")


@compiled
def test_products_use_shared_memory_and_barriers():
    table = kernels("float32", "relu", "cross_entropy", False)
    for name in ("hidden", "output", "weights", "delta"):
        text = ptx(*table[name], (9, 0))
        assert text.count("bar.sync") >= 2
        assert "ld.shared.f32" in text or "ld.shared.b32" in text or "ld.shared.v" in text
        assert len(re.findall(r"fma\.rn\.f32", text)) >= 16  # the inner loop is unrolled
        # every bit of a product is that of a chain of fma: nothing is added any other way
        assert "add.f32" not in text
        assert "mul.f32" not in text


def test_networks_share_the_kernels_that_do_not_depend_on_them():
    one, other = (kernels("float32", activation, "mse", False) for activation in ("relu", "tanh"))
    assert one["weights"][0] is other["weights"][0]
    assert one["sum"][0] is other["sum"][0]
    assert one["hidden"][0] is not other["hidden"][0]


def problem(activation, loss, sizes, rows, dtype="float32", **options):
    random = np.random.default_rng(0)
    net = MLP(sizes, activation, loss, dtype=dtype, **options)
    params = random.normal(scale=0.5, size=net.size).astype(dtype)
    X = random.normal(size=(rows, sizes[0])).astype(dtype)
    if loss == "cross_entropy":
        y = random.integers(0, sizes[-1], rows)
    else:
        y = random.integers(0, 2, (rows, sizes[-1])).astype(dtype)
    return net, params, X, y


def agree(got, expected, terms):
    """Sums of `terms` products in another order, through a few layers."""
    bound = 4 * terms * float(np.finfo(expected.dtype).eps) * max(1.0, float(np.abs(expected).max()))
    assert np.abs(got - expected).max() <= bound


SHAPES = {"inside one tile": ((5, 4, 3), 6), "across tiles": ((18, 17, 2), 17), "no hidden layer": ((3, 2), 4)}
RUNS = [
    ("relu", "binary_cross_entropy", "inside one tile"),
    ("sigmoid", "mse", "inside one tile"),
    ("identity", "cross_entropy", "inside one tile"),
    ("tanh", "cross_entropy", "across tiles"),
    ("relu", "binary_cross_entropy", "no hidden layer"),
]


@in_simulator
@pytest.mark.parametrize(("activation", "loss", "shape"), RUNS)
def test_value_and_grad_are_those_of_the_cpu(activation, loss, shape):
    sizes, rows = SHAPES[shape]
    net, params, X, y = problem(activation, loss, sizes, rows, dropout=0.3, l2=0.1)
    value, grads = net.value_and_grad(params, X, y, dropout_seed=7)
    out = cuda.to_device(np.full(net.size, np.nan, np.float32))
    device_value, device_grads = net.value_and_grad(*map(cuda.to_device, (params, X, y)), out=out, dropout_seed=7)
    assert type(device_value) is float
    assert device_grads is out
    agree(np.float32(device_value), np.float32(value), max(*sizes, rows))
    agree(out.copy_to_host(), grads, max(*sizes, rows))


@in_simulator
def test_float64_without_dropout_three_layers():
    net, params, X, y = problem("tanh", "mse", (4, 3, 5, 2), 5, "float64")
    value, grads = net.value_and_grad(params, X, y)
    device_value, device_grads = net.value_and_grad(*map(cuda.to_device, (params, X, y)))
    assert device_grads.copy_to_host().dtype == np.float64
    agree(np.float64(device_value), np.float64(value), 5)
    agree(device_grads.copy_to_host(), grads, 5)


@in_simulator
@pytest.mark.parametrize("loss", LOSSES)
def test_predictions_and_loss(loss):
    net, params, X, y = problem("relu", loss, (4, 5, 3), 6, l2=0.2)
    p, x, t = map(cuda.to_device, (params, X, y))
    agree(net.forward(p, x).copy_to_host(), net.forward(params, X), 5)
    agree(np.float32(net.loss(p, x, t)), np.float32(net.loss(params, X, y)), 5)
    prediction = net.predict(p, x).copy_to_host()
    expected = net.predict(params, X)
    assert prediction.dtype == expected.dtype
    assert prediction.shape == expected.shape
    if loss == "mse":
        agree(prediction, expected, 5)
    else:
        assert np.array_equal(prediction, expected)
        agree(net.predict_proba(p, x).copy_to_host(), net.predict_proba(params, X), 5)


@in_simulator
def test_labels_of_any_integer_type_and_one_hot():
    net, params, X, y = problem("relu", "cross_entropy", (4, 3), 6)
    p, x = map(cuda.to_device, (params, X))
    expected = net.loss(params, X, y)
    for kind in (np.int32, np.uint8, np.uint64):
        agree(np.float32(net.loss(p, x, cuda.to_device(y.astype(kind)))), np.float32(expected), 4)
    squares = MLP((4, 3), loss="mse")
    grads = squares.value_and_grad(params, X, np.eye(3, dtype=np.float32)[y])[1]
    agree(squares.value_and_grad(p, x, cuda.to_device(y))[1].copy_to_host(), grads, 6)


@in_simulator
def test_bits_repeat_and_a_reused_buffer_is_not_seen():
    net, params, X, y = problem("relu", "cross_entropy", (4, 5, 3), 6, dropout=0.5)
    p, x, t = map(cuda.to_device, (params, X, y))
    first = net.value_and_grad(p, x, t, dropout_seed=3)
    net.value_and_grad(cuda.to_device(-params), x, t, dropout_seed=4)
    again = net.value_and_grad(p, x, t, dropout_seed=3)
    assert again[0] == first[0]
    assert again[1].copy_to_host().tobytes() == first[1].copy_to_host().tobytes()


@in_simulator
def test_logits_of_ten_thousand():
    for loss in ("cross_entropy", "binary_cross_entropy"):
        net = MLP((2, 2), loss=loss)
        params = np.array([1, 0, 0, 1, 0, 0], np.float32)
        X = np.array([[1e4, -1e4], [-1e4, 1e4]], np.float32)
        y = np.array([1, 1]) if loss == "cross_entropy" else np.array([[0, 1], [0, 1]], np.float32)
        expected = net.value_and_grad(params, X, y)
        value, grads = net.value_and_grad(*map(cuda.to_device, (params, X, y)))
        assert value == expected[0]
        assert np.array_equal(grads.copy_to_host(), expected[1])


@in_simulator
@pytest.mark.parametrize(
    ("name", "rows", "columns", "inner"), [("output", 3, 5, 4), ("delta", 17, 2, 3), ("weights", 2, 3, 18)]
)
def test_products_are_chains_of_fma_and_read_nothing_outside(name, rows, columns, inner):
    """Vectors that end with their matrix: the simulator raises where a kernel reads beyond."""
    random = np.random.default_rng(0)
    a = random.normal(size=(inner, rows) if name == "weights" else (rows, inner)).astype(np.float32)
    b = random.normal(size=(columns, inner) if name == "delta" else (inner, columns)).astype(np.float32)
    c = cuda.to_device(np.zeros(1 + rows * columns, np.float32))
    other = np.zeros(rows * columns, np.float32)
    operands = (cuda.to_device(a.ravel()), 0, cuda.to_device(b.ravel()), 0, c, 1, rows, columns, inner)
    scalars = (np.float32(0), np.float32(1), np.uint64(0), np.uint64(0))
    kernel, _ = kernels("float32", "identity", "mse", False)[name]
    kernel[(-(-rows // 16), -(-columns // 16)), (16, 16)](*operands, cuda.to_device(other), 0, *scalars)
    left, right = (a.T if name == "weights" else a), (b.T if name == "delta" else b)
    expected = np.zeros((rows, columns), np.float32)
    for i in range(rows):
        for j in range(columns):
            for k in range(inner):
                expected[i, j] = fma(left[i, k], right[k, j], expected[i, j])
    assert np.array_equal(c.copy_to_host()[1:].reshape(rows, columns), expected)


@in_simulator
def test_sums_of_more_elements_than_threads():
    table = kernels("float64", "relu", "mse", False)
    x = np.random.default_rng(0).normal(size=(300, 18))
    flat, out = cuda.to_device(x.ravel()), cuda.to_device(np.zeros(20))
    table["sum"][0][1, 256](flat, 5, 1000, out, 0)
    table["sum_of_squares"][0][1, 256](flat, 5, 1000, out, 1)
    part = x.ravel()[5:1005]
    np.testing.assert_allclose(out.copy_to_host()[:2], [part.sum(), (part**2).sum()], rtol=1e-13)
    table["column_sums"][0][2, (16, 16)](flat, 18, 39, 18, out, 2)
    np.testing.assert_allclose(out.copy_to_host()[2:], x[1:40].sum(axis=0), rtol=1e-12, atol=1e-13)


def _unfit():
    d = cuda.to_device
    return [
        (lambda a: {"y": d(np.array([0, 1, 3, 0, -1, 9]))}, ValueError, r"y is 3 in row 2; labels must be in \[0, 3\)"),
        (lambda a: {"y": d(np.zeros(6, np.float32))}, TypeError, "y has dtype float32; cross_entropy needs integer"),
        (lambda a: {"y": d(np.zeros(5, int))}, ValueError, r"y has shape \(5,\) and X 6 rows"),
        (lambda a: {"X": d(np.zeros((6, 4)))}, TypeError, "X has dtype float64 and the model float32; .*converted"),
        (lambda a: {"X": d(np.zeros((6, 5), np.float32))}, ValueError, "this network has 4 inputs"),
        (lambda a: {"X": d(np.zeros((0, 4), np.float32))}, ValueError, "X has no rows"),
        (lambda a: {"params": d(np.zeros(3, np.float32))}, ValueError, r"params has shape \(3,\)"),
        (lambda a: {"params": d(np.zeros(15))}, TypeError, "params has dtype float64 and the model float32"),
        (
            lambda a: {"X": np.zeros((6, 4), np.float32)},
            ValueError,
            "params and y and out live on a CUDA .* and X on the",
        ),
        (lambda a: {"y": np.zeros(6, int)}, ValueError, "y on the host"),
        (lambda a: {"out": np.zeros(15, np.float32)}, ValueError, "out on the host"),
        (lambda a: {"out": a["params"]}, ValueError, "out and params overlap in device memory"),
        (lambda a: {"out": d(np.zeros(14, np.float32))}, ValueError, r"out has shape \(14,\)"),
        (lambda a: {"out": d(np.zeros(15))}, TypeError, "out has dtype float64"),
    ]


@in_simulator
@pytest.mark.parametrize("case", range(14))
def test_unfit_arrays_are_refused_before_any_write(case):
    change, error, message = _unfit()[case]
    net, params, X, y = problem("relu", "cross_entropy", (4, 3), 6)
    out = cuda.to_device(np.full(15, 7, np.float32))
    arguments = dict(zip(("params", "X", "y"), map(cuda.to_device, (params, X, y)), strict=True), out=out)
    arguments.update(change(arguments))
    with pytest.raises(error, match=message):
        net.value_and_grad(**arguments)
    assert (out.copy_to_host() == 7).all()
    assert np.array_equal(cuda.to_device(params).copy_to_host(), params)


@in_simulator
def test_unfit_targets_of_the_other_losses():
    random = np.random.default_rng(0)
    X = cuda.to_device(random.normal(size=(3, 2)).astype(np.float32))
    for loss, y, message in (
        ("mse", np.array([0, 1, 2]), r"y is 2 in row 2; labels must be in \[0, 2\)"),
        ("binary_cross_entropy", np.array([[0, 1], [0, 0.5], [1, 1]], np.float32), "y is 0.5 in row 1"),
        ("mse", np.zeros((3, 2)), "y has dtype float64 and the model float32"),
    ):
        net = MLP((2, 2), loss=loss)
        with pytest.raises((TypeError, ValueError), match=message):
            net.loss(cuda.to_device(net.init(0)), X, cuda.to_device(y))


@pytest.mark.skipif(SIMULATOR, reason="the simulator has its own arrays")
def test_device_arrays_without_a_device_are_refused():
    if why_no_cuda() is None:
        pytest.skip("there is a CUDA device here")

    class Pretended:
        def __init__(self, x):
            self.__cuda_array_interface__ = {**x.__array_interface__, "version": 3}

    net, params, X, y = problem("relu", "cross_entropy", (4, 3), 6)
    for call in (net.forward, net.predict, net.predict_proba):
        with pytest.raises(RuntimeError, match="CUDA is not available"):
            call(Pretended(params), Pretended(X))
    with pytest.raises(RuntimeError, match="CUDA is not available"):
        net.value_and_grad(Pretended(params), Pretended(X), Pretended(y))


@pytest.mark.skipif(not SIMULATOR, reason="compiled code keeps types by itself")
def test_cells_keep_their_type_when_the_simulator_calls_them():
    for cell in (ACTIVATIONS["tanh"].value, ACTIVATIONS["relu"].value, ACTIVATIONS["sigmoid"].slope):
        assert type(cell(np.float32(0.5))) is np.float32
