"""`MLP(precision="tf32")`: products on tensor cores, run in the emulator, against exact arithmetic and float64."""

import operator
import pickle
import re

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import nagd_numba
from nagd_numba import MLP
from nagd_numba.cli.main import main
from nagd_numba.mlp.gpu import gemm, tf32
from nagd_numba.mlp.gpu.gemm import DELTA, GRADIENT, HIDDEN, OUTPUT, UPDATE, Kind
from nagd_numba.model_file import load_model
from nagd_numba.optimizers.registry import RULES
from tests.helpers import driverless
from tests.helpers.backends import JIT_OFF

RULE = RULES["nesterov"]
LR, MOMENTUM, DECAY = 0.5, 0.25, 0.125
ORDERS = ("forward", "reverse", "random")
purposes = pytest.mark.parametrize(
    "purpose", [HIDDEN, *(pytest.param(x, marks=pytest.mark.slow) for x in (UPDATE, OUTPUT, DELTA, GRADIENT))]
)


@pytest.fixture
def compiler():
    if JIT_OFF:
        pytest.skip("nothing is compiled with the JIT off")
    driverless.require()


class Product:
    """One product of (rows, columns, inner), and what its kernel should make of it."""

    def __init__(self, purpose, rows, columns, inner, whole=False, seed=0):
        rng = np.random.default_rng(seed)

        def drawn(*shape):
            x = rng.integers(-8, 9, shape) if whole else rng.normal(size=shape)
            return x.astype(np.float32)

        self.purpose, self.shape = purpose, (rows, columns, inner)
        self.across = purpose in (GRADIENT, UPDATE)
        self.a = drawn(inner, rows - 1) if self.across else drawn(rows, inner)
        self.b = drawn(columns, inner) if purpose == DELTA else drawn(inner, columns)
        self.biases, self.h, self.params, self.vel = (
            drawn(*shape) for shape in ((columns,), (rows, columns), (rows, columns), (rows, columns))
        )

    def on_device(self, tf32=True, tile=32, order="forward"):
        """What the kernel writes: the results, or parameters and velocities."""
        from tests import emulator

        inner_layer = self.purpose in (HIDDEN, DELTA)
        kind = Kind("float32", "relu" if inner_layer else "identity", tf32=tf32)
        if self.purpose == UPDATE:
            kind = kind._replace(rule=RULE, options=RULE.defaults())
        kernel = gemm.kernel(self.purpose, kind, tile)
        run = emulator.compile(kernel.function, kernel.signature)
        rows, columns, inner = self.shape
        with emulator.memory() as memory:
            a, b, biases, h, params, vel = map(
                memory.array, (self.a, self.b, self.biases, self.h, self.params, self.vel)
            )
            out = memory.array((rows, columns), np.float32)
            to = {
                HIDDEN: (biases, out, 0, 0, 1.0),
                OUTPUT: (biases, out),
                DELTA: (h, out, 0, 0, 1.0, 1.0),
                GRADIENT: (params, out, DECAY, 0),
                UPDATE: (params, vel, rows * columns, DECAY, *rates()),
            }[self.purpose]
            grid = -(-rows // tile), -(-columns // tile)
            run(grid, kernel.threads, a, 0, 1.0, b, rows, columns, inner, *to, order=order, seed=1)
            return (params.array.copy(), vel.array.copy()) if self.purpose == UPDATE else (out.array.copy(),)

    def in_float64(self):
        """The result of anything but an update, and the sum of the absolute values of what is added for it."""
        a, b, biases, params = (x.astype(np.float64) for x in (self.a, self.b, self.biases, self.params))
        if self.across:
            a = np.concatenate([a.T, np.ones((1, self.shape[2]))])
            params[-1] = 0  # the biases are not penalised
        b = b.T if self.purpose == DELTA else b
        total, size = a @ b, abs(a) @ abs(b)
        if self.across:
            return total + DECAY * params, size + DECAY * abs(params)
        if self.purpose == DELTA:
            return total * (self.h > 0), size
        total, size = total + biases, size + abs(biases)
        return (np.maximum(total, 0) if self.purpose == HIDDEN else total), size

    def updated(self, grads):
        """Parameters and velocities after a step of the CPU."""
        params, vel = self.params.copy(), self.vel.copy()
        nagd_numba.step(params.reshape(-1), grads.reshape(-1), vel.reshape(-1), lr=LR, momentum=MOMENTUM)
        return params, vel


def rates():
    return RULE.scalars((LR, MOMENTUM, MOMENTUM, 0.0), np.dtype(np.float32), RULE.defaults())


def rounded(x):
    """To TF32: 10 bits behind the first of the mantissa, to nearest, ties away from 0."""
    mantissa, exponent = np.frexp(x.astype(np.float64))
    return np.ldexp(np.copysign(np.floor(abs(mantissa) * 2**11 + 0.5), mantissa), exponent - 11)


def same(ours, expected):
    for x, y in zip(ours, expected, strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.usefixtures("compiler")
@purposes
@settings(max_examples=4)
@given(rows=st.integers(2, 70), columns=st.integers(1, 70), inner=st.integers(1, 40), order=st.sampled_from(ORDERS))
@example(rows=2, columns=1, inner=1, order="forward")
@example(rows=45, columns=37, inner=300, order="random")
def test_small_whole_numbers_are_multiplied_exactly(purpose, rows, columns, inner, order):
    """They are their own TF32, and no sum is rounded, in whatever order: every factor meets its own."""
    product = Product(purpose, rows, columns, inner, whole=True)
    made = product.on_device(order=order)
    if purpose == UPDATE:
        grads, _ = Product(GRADIENT, rows, columns, inner, whole=True).in_float64()
        same(made, product.updated(grads.astype(np.float32)))
    else:
        same(made, [product.in_float64()[0]])


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("purpose", [DELTA, GRADIENT])
def test_large_tiles(purpose):
    product = Product(purpose, 70, 131, 30, whole=True)
    same(product.on_device(tile=64, order="random"), [product.in_float64()[0]])


@pytest.mark.usefixtures("compiler")
@purposes
def test_the_error_is_within_the_bound_and_the_bits_repeat(purpose):
    """The bound of `tf32.py`, with one addition more: of the bias, or of the penalty."""
    for shape in ((3, 2, 1), (33, 17, 9), (45, 37, 300)):
        product = Product(purpose, *shape)
        made = product.on_device()
        for order in ORDERS[1:]:
            same(product.on_device(order=order), made)
        if purpose == UPDATE:
            same(made, product.updated(Product(GRADIENT, *shape).on_device()[0]))
            continue
        n = shape[2]
        additions = min(n, 128) + -(-n // 128) + 1
        exact, size = product.in_float64()
        error = abs(made[0] - exact)
        assert (error <= ((1 + 2.0**-11) ** 2 * (1 + 2.0**-23) ** additions - 1) * size).all()
        # It was TF32: some errors are beyond those of float32.
        assert (error > ((1 + 2.0**-24) ** (additions + 1) - 1) * size).any()


@pytest.mark.usefixtures("compiler")
def test_factors_are_rounded_to_nearest():
    """A product of two of 11 bits has 22, and needs no rounding."""
    product = Product(OUTPUT, 40, 40, 1)
    product.biases[:] = 0
    product.a[:4, 0] = 1 + 2**-11, -1 - 2**-11, 1 + 2**-11 - 2**-20, 2.0**-100  # ties, and what is near one
    expected = rounded(product.a) * rounded(product.b)
    assert rounded(product.a)[:4, 0].tolist() == [1 + 2**-10, -1 - 2**-10, 1, 2.0**-100]
    same(product.on_device(), [expected])


@pytest.mark.parametrize("tile", [32, 64])
def test_lanes_that_are_served_together_meet_in_no_bank(tile, monkeypatch):
    """16 bytes of 8 lanes at a time, or 8 bytes of 16: each fills the 32 banks."""
    monkeypatch.setattr(tf32, "quotient", operator.floordiv)
    shape = gemm.shape_of(HIDDEN, Kind("float32", tf32=True), tile)
    square = tf32.square.bind(shape=shape)
    places = [square(thread) for thread in range(shape.threads)]
    for at, words in ((2, 4), (3, 2)):
        starts = [place[at] for place in places]
        assert all(start % words == 0 for start in starts)
        for first in range(0, len(starts), 32 // words):
            group = starts[first : first + 32 // words]
            assert {(start + word) % 32 for start in group for word in range(words)} == set(range(32))
    corners = {(row + i, column + j) for row, column, _, _ in places for i in range(4) for j in range(4)}
    assert len(corners) == tile * tile
    assert max(corners) == (tile - 1, tile - 1)


def training(precision):
    """A network and samples of three kinds, which it can tell apart."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 60)
    X = rng.normal(size=(60, 12), scale=0.2) + 0.3 * np.eye(3).repeat(4, axis=1)[y]
    return MLP([12, 20, 3], l2=1e-3, precision=precision), X.astype(np.float32), y


def products_of(launches):
    """The names of the launched products, without what the emulator puts before them."""
    names = (re.search(r"mlp_(hidden|output|delta|gradient|update)_\w+", name) for name, *_ in launches)
    return {name[0] for name in names if name}


@pytest.mark.slow
@pytest.mark.usefixtures("compiler")
def test_training_reaches_the_loss_of_float32():
    """And repeats its bits, in whatever order the threads and blocks run, alone or with other networks."""
    from tests.helpers import fake_driver

    exact, X, y = training("float32")
    start = exact.init(0)
    keywords = {"epochs": 8, "batch_size": 20, "lr": 0.1, "seed": 3}
    host = start.copy()
    expected = exact.fit(host, X, y, **keywords)
    assert expected.last("loss") < 0.2 * expected.values("loss")[0]
    net, made = training("tf32")[0], []
    for order in ORDERS[:2]:
        with fake_driver.installed(order=order) as gpu:
            params = gpu.array(start)
            history = net.fit(params, X, y, **keywords)
            made.append(gpu.download(params))
            names = products_of(gpu.launches)
        assert all("tf32" in name for name in names)
        assert {name.split("_")[1] for name in names} == {"hidden", "output", "delta", "update"}
        np.testing.assert_allclose(history.values("loss"), expected.values("loss"), rtol=2**-9)
    with fake_driver.installed(order="random") as gpu:
        params = gpu.array(np.stack([net.init(1), start]))
        nagd_numba.fit_many(net, params, X, y, **keywords)
        made.append(gpu.download(params)[1])
    same(made[1:], [made[0]] * 2)
    # A gradient errs by about 2^-10 of what it adds up: so the way that the parameters went.
    assert 0 < np.linalg.norm(made[0] - host) <= 2**-9 * np.linalg.norm(host - start)


@pytest.mark.usefixtures("compiler")
def test_methods_take_it():
    from tests.helpers import fake_driver

    exact, X, y = training("float32")
    net, _, _ = training("tf32")
    params = net.init(1)
    with fake_driver.installed() as gpu:
        p, x, t = map(gpu.array, (params, X, y))
        z = gpu.download(net.forward(p, x))
        np.testing.assert_allclose(z, exact.forward(params, X), atol=2**-8)
        assert (z != exact.forward(params, X)).any()
        same([gpu.download(net.predict(p, x))], [z.argmax(axis=1)])
        value, grads = net.value_and_grad(p, x, t)
        assert value == net.loss(p, x, t) == pytest.approx(exact.loss(params, X, y), rel=2**-8)
        expected = exact.value_and_grad(params, X, y)[1]
        np.testing.assert_allclose(gpu.download(grads), expected, atol=2**-8 * abs(expected).max())


@pytest.mark.usefixtures("compiler")
def test_older_devices_are_refused_before_anything_is_written():
    from tests.helpers import fake_driver

    net, X, y = training("tf32")
    params = net.init(0)
    with fake_driver.installed(capability=(7, 5)) as gpu:
        p, x, t = map(gpu.array, (params, X, y))
        out = gpu.array(np.zeros_like(params))
        many = gpu.array(params[None])
        for call in (
            lambda: net.forward(p, x),
            lambda: net.predict_proba(p, x),
            lambda: net.value_and_grad(p, x, t, out=out),
            lambda: net.fit(p, X, y),
            lambda: nagd_numba.fit_many(net, many, X, y),
        ):
            with pytest.raises(ValueError, match=r"'tf32', and device 0 has compute capability 7\.5; 8\.0 or later"):
                call()
        same([gpu.download(p), gpu.download(out)], [params, np.zeros_like(params)])
        assert not gpu.launches


def test_host_memory_is_refused():
    net, X, y = training("tf32")
    params, vel = net.init(0), np.zeros(net.size, np.float32)
    for call in (
        lambda: net.forward(params, X),
        lambda: net.predict(params, X),
        lambda: net.predict_proba(params, X),
        lambda: net.loss(params, X, y),
        lambda: net.value_and_grad(params, X, y, out=vel),
        lambda: net.fit(params, X, y, vel=vel),
        lambda: nagd_numba.fit_many(net, params[None], X, y),
        lambda: net.compiled(),
    ):
        with pytest.raises(ValueError, match=r"precision is 'tf32', which only CUDA devices have.*precision='float32'"):
            call()
    same([params, vel], [net.init(0), np.zeros_like(vel)])


@pytest.mark.usefixtures("compiler")
def test_the_command_trains_in_it_and_the_cpu_reads_the_model(tmp_path, capsys):
    from tests.helpers import fake_driver

    _, X, y = training("tf32")
    data, path = tmp_path / "data.npz", tmp_path / "model.npz"
    np.savez(data, X=X, y=y)
    words = ["train", "--data", data, "--save", path, "--hidden", "none", "--methods", "nag", "--epochs", "2"]
    words += ["--dropout", "0", "--device", "cuda", "--precision"]
    with fake_driver.installed() as gpu:
        assert main([str(word) for word in (*words, "tf32")]) == 0
        assert all("tf32" in name for name in products_of(gpu.launches))
        launched = len(gpu.launches)
        assert main(["train", "--resume", str(path), "--epochs", "3"]) == 0
        assert all("tf32" in name for name in products_of(gpu.launches[launched:]))
        assert main(["train", "--resume", str(path), "--precision", "float32"]) == 2
        assert "--precision is 'float32', and 'tf32' in" in capsys.readouterr().err
    with fake_driver.installed(capability=(7, 5)):
        assert main(["train", "--resume", str(path), "--epochs", "4"]) == 2
        assert "--precision tf32: precision is 'tf32', and device 0 has compute cap" in capsys.readouterr().err
    model, params, preprocessing = load_model(path)
    assert model.precision == "float32"
    assert (model.predict(params, preprocessing(X)) == y).mean() > 0.6


def test_unfit_precisions():
    with pytest.raises(
        ValueError, match=r"precision is 'tf23'; one of 'float32', 'tf32' is needed; did you mean 'tf32'"
    ):
        MLP([2, 1], precision="tf23")
    with pytest.raises(
        ValueError, match="precision is 'tf32' and dtype 'float64'; tf32 is for networks of dtype 'floa"
    ):
        MLP([2, 1], dtype="float64", precision="tf32")


def test_repr_and_pickle_have_it():
    net = MLP([2, 3], precision="tf32")
    assert repr(net).endswith("dtype='float32', precision='tf32')")
    for other in (eval(repr(net)), pickle.loads(pickle.dumps(net))):
        assert repr(other) == repr(net)
    assert "precision" not in repr(MLP([2, 3]))
