"""The network on CUDA: its kernels, run in the emulator, give the bits of the CPU; and what the methods refuse."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nagd_numba import MLP
from nagd_numba.gpu.driver import why_no_cuda
from nagd_numba.kernels.jit import SIMULATOR
from nagd_numba.mlp.activations import ACTIVATIONS
from nagd_numba.mlp.losses import NAMES
from tests.helpers import driverless
from tests.helpers.backends import JIT_OFF

SMALL_TILES, LARGE_TILES = 1000, 1  # multiprocessors: with few of them, tiles are large


@pytest.fixture
def compiler():
    if JIT_OFF:
        pytest.skip("nothing is compiled with the JIT off")
    driverless.require()


@pytest.fixture
def gpu(compiler):
    from tests.helpers import fake_driver

    with fake_driver.installed(multiprocessors=SMALL_TILES) as fake:
        yield fake


def problem(sizes, rows, activation="relu", loss="cross_entropy", dtype="float32", seed=0, **options):
    random = np.random.default_rng(seed)
    net = MLP(sizes, activation, loss, dtype=dtype, **options)
    params = random.normal(scale=0.5, size=net.size).astype(dtype)
    X = random.normal(size=(rows, sizes[0])).astype(dtype)
    if loss == "cross_entropy":
        y = random.integers(0, sizes[-1], rows)
    else:
        y = random.integers(0, 2, (rows, sizes[-1])).astype(dtype)
    return net, params, X, y


def same_bits(got, expected):
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    assert got.tobytes() == expected.tobytes()


def agree(net, params, X, y, seed, **options):
    """Every method gives the same bits on the (emulated) device as on the host."""
    from tests.helpers import fake_driver

    with fake_driver.installed(**options) as gpu:
        p, x, t = map(gpu.array, (params, X, y))
        same_bits(gpu.download(net.forward(p, x)), net.forward(params, X))
        same_bits(gpu.download(net.predict(p, x)), net.predict(params, X))
        if net.loss_name != "mse":
            same_bits(gpu.download(net.predict_proba(p, x)), net.predict_proba(params, X))
        assert net.loss(p, x, t) == net.loss(params, X, y)
        value, grads = net.value_and_grad(p, x, t, dropout_seed=seed)
        expected_value, expected_grads = net.value_and_grad(params, X, y, dropout_seed=seed)
        assert type(value) is float
        assert value == expected_value
        same_bits(gpu.download(grads), expected_grads)


KINDS = [
    pytest.param("relu", "cross_entropy", "float32", {"dropout": 0.4, "l2": 0.1}, id="cross_entropy"),
    pytest.param("tanh", "mse", "float64", {}, id="mse", marks=pytest.mark.slow),
    pytest.param(
        "sigmoid", "binary_cross_entropy", "float32", {"l2": 0.01}, id="binary_cross_entropy", marks=pytest.mark.slow
    ),
]
sizes = st.lists(st.integers(1, 40), min_size=2, max_size=4)


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize(
    ("activation", "loss", "dtype", "options"), KINDS, ids=["cross_entropy", "mse", "binary_cross_entropy"]
)
@settings(max_examples=4)
@given(sizes=sizes, rows=st.integers(1, 40), order=st.sampled_from(["forward", "reverse", "random"]))
@example(sizes=[3, 2], rows=1, order="forward")
@example(sizes=[300, 33, 32, 5], rows=33, order="random")  # in parts, by blocks of terms
def test_everything_equals_the_cpu(activation, loss, dtype, options, sizes, rows, order):
    net, params, X, y = problem(sizes, rows, activation, loss, dtype, **options)
    agree(net, params, X, y, 7, multiprocessors=SMALL_TILES, order=order)


@pytest.mark.usefixtures("compiler")
@pytest.mark.slow
@pytest.mark.parametrize("order", ["forward", "random"])
def test_large_tiles_and_sums_of_more_than_a_block_of_terms(order):
    net, params, X, y = problem([261, 66, 3], 131, "relu", "cross_entropy", dropout=0.4, l2=0.1)
    agree(net, params, X, y, 3, multiprocessors=LARGE_TILES, order=order)


@pytest.mark.parametrize("inputs", [1, 17, 129])
def test_a_sum_of_minus_zero_stays_one(gpu, inputs):
    """What fills up a tile must not turn -0 (an underflow here) into 0."""
    net = MLP([inputs, 2], loss="mse")
    params, X = np.zeros(net.size, np.float32), np.zeros((3, inputs), np.float32)
    params[: 2 * inputs], X[:] = 1e-30, 0
    X[:, -1] = -1e-30
    params[-2:] = -0.0
    X[:, :-1] = -1e-30
    expected = net.forward(params, X)
    assert np.signbit(expected).any()
    same_bits(gpu.download(net.forward(gpu.array(params), gpu.array(X))), expected)


def test_not_a_number_goes_where_it_goes_on_the_cpu(gpu):
    net, params, X, _ = problem((4, 5, 3), 6)
    X[1, 2], X[3, 0] = np.nan, np.inf
    got, expected = (net.forward(*x) for x in ((gpu.array(params), gpu.array(X)), (params, X)))
    assert np.array_equal(gpu.download(got), expected, equal_nan=True)
    finite = np.isfinite(expected).all(axis=1)
    assert not finite.all()
    labels = gpu.download(net.predict(gpu.array(params), gpu.array(X)))
    same_bits(labels[finite], net.predict(params, X[finite]))
    with pytest.raises(ValueError, match="X is nan in row 1, column 2"):  # where nothing has to wait for it
        net.predict(params, X)


def test_logits_of_ten_thousand(gpu):
    net = MLP((2, 2))
    params = np.array([1, 0, 0, 1, 0, 0], np.float32)
    X, y = np.array([[1e4, -1e4], [-1e4, 1e4]], np.float32), np.array([1, 1])
    expected = net.value_and_grad(params, X, y)
    value, grads = net.value_and_grad(*map(gpu.array, (params, X, y)))
    assert value == expected[0]
    same_bits(gpu.download(grads), expected[1])


def test_labels_of_any_integer_type_and_one_hot(gpu):
    net, params, X, y = problem((4, 3), 6)
    p, x = gpu.array(params), gpu.array(X)
    expected = net.loss(params, X, y)
    for kind in (np.int32, np.uint8, np.uint16, np.int16, np.uint64):
        assert net.loss(p, x, gpu.array(y.astype(kind))) == expected
    squares = MLP((4, 3), loss="mse")
    value, grads = squares.value_and_grad(p, x, gpu.array(y))
    expected_value, expected_grads = squares.value_and_grad(params, X, y)
    assert value == expected_value
    same_bits(gpu.download(grads), expected_grads)
    whole = np.arange(18).reshape(6, 3)
    assert squares.loss(p, x, gpu.array(whole)) == squares.loss(params, X, whole)


def test_bits_repeat_and_a_used_buffer_is_not_seen(gpu):
    net, params, X, y = problem((4, 5, 3), 6, dropout=0.5, l2=0.1)
    p, x, t = map(gpu.array, (params, X, y))
    first = net.value_and_grad(p, x, t, dropout_seed=3)
    net.value_and_grad(gpu.array(-params), x, t, dropout_seed=4)
    uploads = gpu.uploads
    again = net.value_and_grad(p, x, t, dropout_seed=3)
    assert gpu.uploads == uploads
    assert again[0] == first[0]
    same_bits(gpu.download(again[1]), gpu.download(first[1]))


def _unfit(d):
    """What to change, and the error."""
    return [
        ({"y": d(np.array([0, 1, 3, 0, -1, 9]))}, ValueError, r"y is 3 in row 2; labels must be in \[0, 3\)"),
        ({"y": d(np.array([0, 1, 2, 0, 2**64 - 1, 9], np.uint64))}, ValueError, "y is 18446744073709551615 in row 4"),
        ({"y": d(np.zeros(6, np.float32))}, TypeError, "y has dtype float32; cross_entropy needs integer"),
        ({"y": d(np.zeros(5, int))}, ValueError, r"y has shape \(5,\) and X 6 rows"),
        ({"X": d(np.zeros((6, 4)))}, TypeError, "X has dtype float64 and the model float32; .*converted"),
        ({"X": d(np.zeros((6, 4), np.float16))}, TypeError, "X has dtype float16"),
        ({"X": d(np.zeros((6, 5), np.float32))}, ValueError, "this network has 4 inputs"),
        ({"X": d(np.zeros((0, 4), np.float32))}, ValueError, "X has no rows"),
        ({"X": d(np.zeros((6, 4), np.float32), device=1)}, ValueError, "different devices .*params on device 0, X on"),
        ({"params": d(np.zeros(3, np.float32))}, ValueError, r"params has shape \(3,\)"),
        ({"params": d(np.zeros(15))}, TypeError, "params has dtype float64 and the model float32"),
        ({"X": np.zeros((6, 4), np.float32)}, ValueError, "params and y and out live on a CUDA .* and X on the"),
        ({"y": np.zeros(6, int)}, ValueError, "y on the host"),
        ({"out": np.zeros(15, np.float32)}, ValueError, "out on the host"),
        ({"out": "params"}, ValueError, "out and params overlap in device memory"),
        ({"out": d(np.zeros(14, np.float32))}, ValueError, r"out has shape \(14,\)"),
        ({"out": d(np.zeros(15))}, TypeError, "out has dtype float64"),
        ({"out": d(np.zeros(15, np.float32), read_only=True)}, ValueError, "read-only"),
    ]


@pytest.mark.parametrize("case", range(18))
def test_unfit_arrays_are_refused_before_any_write(gpu, case):
    def array(x, device=0, read_only=False):
        made = gpu.array(x, device)
        return gpu.array(x, device, data=(int(made.pointer), True)) if read_only else made

    changes, error, message = _unfit(array)[case]
    net, params, X, y = problem((4, 3), 6)
    out = gpu.array(np.full(15, 7, np.float32))
    arguments = dict(zip(("params", "X", "y"), map(gpu.array, (params, X, y)), strict=True), out=out)
    p = arguments["params"]
    changes = {name: p if isinstance(x, str) else x for name, x in changes.items()}
    with pytest.raises(error, match=message):
        net.value_and_grad(**{**arguments, **changes})
    assert (gpu.download(out) == 7).all()
    same_bits(gpu.download(p), params)


@pytest.mark.ci
@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
def test_probabilities(dtype):
    net, params, X, labels = problem([7, 5], 40, dtype=dtype)
    y = np.random.default_rng(1).random((40, 5)).astype(dtype)
    for targets in (y / y.sum(axis=1, keepdims=True), np.eye(5)[labels].astype(bool)):
        agree(net, params, X, targets, None)


def test_unfit_targets_of_the_other_losses(gpu):
    X = gpu.array(np.ones((3, 2), np.float32))
    for loss, y, message in (
        ("mse", np.array([0, 1, 2]), r"y is 2 in row 2; labels must be in \[0, 2\)"),
        ("binary_cross_entropy", np.array([[0, 1], [0, 0.5], [1, 1]], np.float32), "y is 0.5 in row 1"),
        ("binary_cross_entropy", np.array([[0, 1], [0, 1], [1, np.nan]], np.float32), "y is nan in row 2"),
        ("mse", np.zeros((3, 2)), "y has dtype float64 and the model float32"),
        ("cross_entropy", np.array([[0.5, 0.5], [1, 0], [1, 0.5]], np.float32), "y sums to 1.5 in row 2"),
        ("cross_entropy", np.array([[0.5, 0.5], [2, -1], [1, 0]], np.float32), "y is -1.0 in row 1, column 1"),
    ):
        net = MLP((2, 2), loss=loss)
        with pytest.raises((TypeError, ValueError), match=message):
            net.loss(gpu.array(net.init(0)), X, gpu.array(y))


@pytest.mark.parametrize("call", ["empty", "load", "launch"])
def test_failures_of_the_driver_leave_everything_alone(gpu, call):
    net, params, X, y = problem((4, 3), 6)
    p, x, t = map(gpu.array, (params, X, y))
    out = gpu.array(np.full(15, 7, np.float32))
    gpu.fail = call
    with pytest.raises(RuntimeError, match="CUDA_ERROR_OUT_OF_MEMORY"):
        net.value_and_grad(p, x, t, out=out)
    assert (gpu.download(out) == 7).all()
    same_bits(gpu.download(p), params)
    assert net.value_and_grad(p, x, t, out=out)[0] == net.loss(params, X, y)


def test_launches_go_to_the_stream_of_the_arrays(gpu):
    net, params, X, _ = problem((4, 3), 6)
    net.forward(gpu.array(params), gpu.array(X))
    assert len(gpu.launches) == 1
    assert {(device, stream) for _, device, stream in gpu.launches} == {(0, 0)}


@pytest.mark.skipif(SIMULATOR, reason="the simulator has its own arrays")
def test_device_arrays_without_a_device_are_refused():
    if why_no_cuda() is None:
        pytest.skip("there is a CUDA device here")

    class Pretended:
        def __init__(self, x):
            self.__cuda_array_interface__ = {**x.__array_interface__, "version": 3}

    net, params, X, y = problem((4, 3), 6)
    for call in (net.forward, net.predict, net.predict_proba):
        with pytest.raises(RuntimeError, match="CUDA is not available"):
            call(Pretended(params), Pretended(X))
    with pytest.raises(RuntimeError, match="CUDA is not available"):
        net.value_and_grad(Pretended(params), Pretended(X), Pretended(y))


in_simulator = pytest.mark.skipif(not SIMULATOR, reason="runs with NUMBA_ENABLE_CUDASIM=1")


@in_simulator
@pytest.mark.parametrize("loss", NAMES)
def test_the_simulators_arrays_are_worked_on_by_the_cpu(loss):
    from numba import cuda

    net, params, X, y = problem((4, 5, 3), 6, loss=loss, dropout=0.3, l2=0.1)
    p, x, t = map(cuda.to_device, (params, X, y))
    same_bits(net.forward(p, x).copy_to_host(), net.forward(params, X))
    same_bits(net.predict(p, x).copy_to_host(), net.predict(params, X))
    assert net.loss(p, x, t) == net.loss(params, X, y)
    out = cuda.to_device(np.zeros_like(params))
    value, grads = net.value_and_grad(p, x, t, out=out, dropout_seed=3)
    assert grads is out
    expected, expected_grads = net.value_and_grad(params, X, y, dropout_seed=3)
    assert value == expected
    same_bits(out.copy_to_host(), expected_grads)


@in_simulator
def test_cells_keep_their_type_when_the_simulator_calls_them():
    for cell in (ACTIVATIONS["tanh"].value, ACTIVATIONS["relu"].value, ACTIVATIONS["sigmoid"].derivative):
        assert type(cell(np.float32(0.5))) is np.float32
