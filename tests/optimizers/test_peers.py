"""Against other libraries, where they are installed: to the last bit wherever their rounding is fixed."""

import numpy as np
import pytest

from nagd_numba import step
from tests.helpers.backends import JIT_OFF
from tests.helpers.bits import assert_same_bits

STEPS = 10 if JIT_OFF else 100
SIZES = (1, 5, 33) if JIT_OFF else (1, 7, 64, 1000, 65_539)
LR, MOMENTUM = 0.05, 0.9


def problem(n, dtype, seed=0):
    """A start and a gradient that depends on the parameters (elementwise, rounded the same for everybody)."""
    rng = np.random.default_rng(seed)
    p = rng.normal(size=n).astype(dtype)
    curvature = rng.uniform(0.1, 1, size=n).astype(dtype)
    return p, curvature


def ours(n, dtype, seed=0, lr=LR, **keywords):
    p, curvature = problem(n, dtype, seed)
    v = np.zeros_like(p)
    for _ in range(STEPS):
        step(p, curvature * p, v, lr, MOMENTUM, **keywords)
    return p, v


dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])


@dtypes
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("foreach", [False, True], ids=["single", "foreach"])
@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
@pytest.mark.parametrize("nesterov", [True, False], ids=["nesterov", "heavy-ball"])
@pytest.mark.parametrize("maximize", [False, True], ids=["min", "max"])
def test_torch_sgd(dtype, n, foreach, weight_decay, nesterov, maximize):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    start, curvature = problem(n, dtype)
    p, curvature = torch.nn.Parameter(torch.from_numpy(start)), torch.from_numpy(curvature)
    options = {"nesterov": nesterov, "weight_decay": weight_decay, "maximize": maximize}
    sgd = torch.optim.SGD([p], LR, MOMENTUM, foreach=foreach, **options)
    for _ in range(STEPS):
        p.grad = curvature * p.detach()
        sgd.step()
    theirs = p.detach().numpy(), sgd.state[p]["momentum_buffer"].numpy()
    assert_same_bits(ours(n, dtype, **options), theirs)


@dtypes
def test_torch_sgd_without_momentum(dtype):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    start, curvature = problem(1000, dtype)
    p, curvature = torch.nn.Parameter(torch.from_numpy(start)), torch.from_numpy(curvature)
    sgd = torch.optim.SGD([p], LR)
    for _ in range(STEPS):
        p.grad = curvature * p.detach()
        sgd.step()
    a, scale = problem(1000, dtype)
    v = np.full_like(a, np.nan)  # what the velocity held does not matter
    for _ in range(STEPS):
        step(a, scale * a, v, LR, 0.0)
    assert_same_bits([a], [p.detach().numpy()])


@dtypes
def test_scikit_learn(dtype):
    module = pytest.importorskip(
        "sklearn.neural_network._stochastic_optimizers", reason="scikit-learn is not installed"
    )
    p, curvature = problem(1000, dtype)
    lr, momentum = dtype(LR), dtype(MOMENTUM)  # scikit-learn computes with what it is given
    sgd = module.SGDOptimizer([p], lr, "constant", momentum, nesterov=True)
    for _ in range(STEPS):
        sgd.update_params([p], [curvature * p])
    assert_same_bits(ours(1000, dtype, convention="keras"), (p, sgd.velocities[0]))


def test_optax():
    """Without a compiler in between optax rounds every product and sum."""
    jax = pytest.importorskip("jax", reason="jax is not installed")
    optax = pytest.importorskip("optax", reason="optax is not installed")
    start, curvature = problem(1000, np.float32)
    with jax.disable_jit():
        p, scale = jax.numpy.asarray(start), jax.numpy.asarray(curvature)
        sgd = optax.sgd(LR, MOMENTUM, nesterov=True)
        state = sgd.init(p)
        for _ in range(5):
            updates, state = sgd.update(scale * p, state, p)
            p = optax.apply_updates(p, updates)
    a, v = start.copy(), np.zeros_like(start)
    for _ in range(5):
        step(a, curvature * a, v, LR, MOMENTUM)
    # Ours fuses two of the four roundings: 5 steps of at most 4 roundings each, of numbers below 8.
    np.testing.assert_allclose(a, np.asarray(p), rtol=0, atol=5 * 4 * 8 * np.finfo(np.float32).eps / 2)


def test_keras(monkeypatch):
    """Keras on its NumPy backend, float32, to the last bit."""
    monkeypatch.setenv("KERAS_BACKEND", "numpy")
    keras = pytest.importorskip("keras", reason="keras is not installed")
    if keras.backend.backend() != "numpy":
        pytest.skip(f"keras was loaded with the {keras.backend.backend()} backend")
    start, curvature = problem(1000, np.float32)
    variable = keras.Variable(start)
    sgd = keras.optimizers.SGD(LR, MOMENTUM, nesterov=True)
    for _ in range(STEPS):
        sgd.apply([curvature * np.asarray(variable.value)], [variable])
    p, v = ours(1000, np.float32, convention="keras")
    assert_same_bits([p], [np.asarray(variable.value)])
    assert_same_bits([v], [np.asarray(sgd.momentums[0].value)])
