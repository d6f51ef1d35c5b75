"""Adam, AdamW, Nadam: PyTorch's bits, the formulas, the frameworks' variants, and the public steps."""

import decimal
import math

import numpy as np
import pytest

from nagd_numba import adam_step, adamw_step, nadam_step
from nagd_numba.optimizers import nadam
from tests.helpers.backends import JIT_OFF
from tests.helpers.bits import assert_same_bits
from tests.helpers.torch_roots import rounded

STEPS = 5 if JIT_OFF else 60
N = 20 if JIT_OFF else 1003
LR = 0.01

jit = pytest.mark.skipif(JIT_OFF, reason="is about compiled callers")
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])


def gradients(dtype, n=N, steps=STEPS, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(steps, n)) * np.exp(rng.normal(size=n))).astype(dtype)


def start(dtype, n=N):
    return np.random.default_rng(99).normal(size=n).astype(dtype)


# ---------------------------------------------------------------- PyTorch

PEERS = {
    "adam": ("Adam", adam_step, {}, {}),
    "adam-penalty": ("Adam", adam_step, {"weight_decay": 0.1}, {}),
    "adam-small-beta1": ("Adam", adam_step, {}, {"beta1": 0.3, "beta2": 0.9}),
    "adam-beta1-0": ("Adam", adam_step, {}, {"beta1": 0.0, "beta2": 0.0}),
    "adam-maximize": ("Adam", adam_step, {"maximize": True, "eps": 1e-3}, {}),
    "adamw": ("AdamW", adamw_step, {"weight_decay": 0.1}, {}),
    "nadam": ("NAdam", nadam_step, {}, {}),
    "nadam-penalty": ("NAdam", nadam_step, {"weight_decay": 0.1}, {"beta1": 0.95}),
    "nadam-decoupled": ("NAdam", nadam_step, {"weight_decay": 0.1, "decoupled": True}, {}),
}


@dtypes
@pytest.mark.parametrize(
    ("case", "foreach"), [(x, way) for x in PEERS for way in (False, True) if not (way and x.startswith("nadam"))]
)
def test_torch(dtype, case, foreach):
    """The moments to the last bit.  The parameters too, wherever PyTorch's square root is the rounded one."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    kind, step, common, betas = PEERS[case]
    theirs = dict(common)
    if "decoupled" in theirs:
        theirs["decoupled_weight_decay"] = theirs.pop("decoupled")
    parameter = torch.nn.Parameter(torch.from_numpy(start(dtype)))
    pair = (betas.get("beta1", 0.9), betas.get("beta2", 0.999))
    optimizer = getattr(torch.optim, kind)([parameter], LR, betas=pair, foreach=foreach, **theirs)
    m, v = np.zeros(N, dtype), np.zeros(N, dtype)
    eps = np.finfo(dtype).eps
    for t, g in enumerate(gradients(dtype), 1):
        before = parameter.detach().numpy().copy()
        parameter.grad = torch.from_numpy(g.copy())
        optimizer.step()
        p = before.copy()
        step(p, g, m, v, t, LR, **common, **betas)
        state, after = optimizer.state[parameter], parameter.detach().numpy()
        assert_same_bits((m, v), (state["exp_avg"].numpy(), state["exp_avg_sq"].numpy()))
        under = v / dtype(1 - pair[1] ** t) if kind == "NAdam" else v
        same = rounded(under)
        assert_same_bits([p[same]], [after[same]])
        # The neighbour of the root, and the roundings after it, put the quotients 4 u apart (PyTorch's Nadam has two of
        # them, each at most 20 lr); then up to two sums are rounded.
        moved = 40 * LR if kind == "NAdam" else np.abs(after - before)
        bound = 4 * eps * moved + 2 * eps * np.maximum(np.abs(p), np.abs(after))
        assert (np.abs(p - after) <= bound)[~same].all()


# ---------------------------------------------------------------- the formulas


def formula(name, p, gradients, lr=LR, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0, mu=None, decoupled=False):
    """The rules' docstrings in float64 NumPy; `mu(t)` is Nadam's schedule."""
    m = v = np.zeros_like(p)
    product = 1.0
    for t, g in enumerate(gradients, 1):
        if name == "adamw" or decoupled:
            p = p - lr * weight_decay * p
        else:
            g = g + weight_decay * p
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
        scale = np.sqrt(v / (1 - beta2**t)) + eps
        if name == "nadam":
            product *= mu(t)
            mean = (1 - mu(t)) * g / (1 - product) + mu(t + 1) * m / (1 - product * mu(t + 1))
        else:
            mean = m / (1 - beta1**t)
        p = p - lr * mean / scale
    return p


SCHEDULES = {
    "torch": lambda t: 0.9 * (1 - 0.5 * 0.96 ** (0.004 * t)),
    "keras": lambda t: 0.9 * (1 - 0.5 * 0.96**t),
    "optax": lambda t: 0.9,
}


def run(step, p, gradients, **keywords):
    p, m, v = p.copy(), np.zeros_like(p), np.zeros_like(p)
    for t, g in enumerate(gradients, 1):
        step(p, g, m, v, t, LR, **keywords)
    return p


@pytest.mark.parametrize(
    ("name", "step", "keywords"),
    [
        ("adam", adam_step, {}),
        ("adam", adam_step, {"weight_decay": 0.1, "eps": 0.01, "beta1": 0.4, "beta2": 0.7}),
        ("adamw", adamw_step, {"weight_decay": 0.1}),
        ("nadam", nadam_step, {"weight_decay": 0.1}),
        ("nadam", nadam_step, {"weight_decay": 0.1, "decoupled": True}),
        ("nadam", nadam_step, {"variant": "torch"}),
        ("nadam", nadam_step, {"variant": "keras"}),
        ("nadam", nadam_step, {"variant": "optax"}),
    ],
)
def test_each_method_is_its_formula(name, step, keywords):
    g, p = gradients(np.float64, steps=400 if not JIT_OFF else 5), start(np.float64)
    rest = {k: x for k, x in keywords.items() if k != "variant"}
    if name == "nadam":
        rest["mu"] = SCHEDULES[keywords.get("variant", "torch")]
    # PyTorch's product is rounded to float32 at each of its about 50 factors that matter; its part in a step is below
    # half of it.  All else is float64.
    torch = name == "nadam" and keywords.get("variant", "torch") == "torch"
    atol = 50 * LR * np.finfo(np.float32).eps if torch else 1e-11
    np.testing.assert_allclose(run(step, p, g, **keywords), formula(name, p, g, **rest), rtol=0, atol=atol)


def test_variants_differ():
    g, p = gradients(np.float64, steps=5 if JIT_OFF else 50), start(np.float64)
    ends = [run(nadam_step, p, g, variant=variant) for variant in nadam.VARIANTS]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(ends[a] - ends[b]).max() > 1e-3


@pytest.mark.parametrize("variant", [nadam.TORCH, nadam.KERAS])
def test_the_product_may_be_cut_short(variant):
    """`1 - M_t` is that of the whole product, at any step."""
    from nagd_numba.kernels.jit import plain

    whole = np.float64(1)
    for t in range(1, 500):
        mu = list(SCHEDULES.values())[variant](t)
        whole = np.float64(np.float32(whole) * np.float32(mu)) if variant == nadam.TORCH else whole * mu
        if t % 7 == 1 or t > 350:
            assert 1 - nadam.product(0.9, float(t), float(variant)) == 1 - whole
    assert plain(nadam.product)(0.9, 1e9, float(variant)) < 2.0**-54


@pytest.mark.parametrize("variant", [nadam.TORCH, nadam.KERAS])
def test_the_schedule_is_rounded_from_the_exact_power(variant):
    """So it does not depend on the C library."""
    with decimal.localcontext(prec=50):
        base = 0.96
        log = decimal.Decimal(base).ln()
        for t in (*range(1, 400, 1 if not JIT_OFF else 23), 5000, 50_000, 150_000):
            exponents = [0.004 * k if variant == nadam.TORCH else float(k) for k in (t, t + 1)]
            powers = [float((decimal.Decimal(x) * log).exp()) for x in exponents]
            assert nadam.schedule(0.9, float(t), float(variant)) == tuple(0.9 * (1 - 0.5 * x) for x in powers)


def test_the_product_of_a_long_schedule():
    """Where a momentum near 1 lets the factors count that are equal to it: it takes no more steps than the others."""
    wanted = math.prod(0.999 * (1 - 0.5 * 0.96**i) for i in range(1, 5001))
    np.testing.assert_allclose(nadam.product(0.999, 5000.0, float(nadam.KERAS)), wanted, rtol=1e-12)
    assert 0 < nadam.product(1 - 2.0**-53, 2.0**52, float(nadam.KERAS)) < 1e-6


def test_first_step_is_the_learning_rate_in_size():
    """`m/(1 - beta1)` is the gradient and `v/(1 - beta2)` its square: p moves by `lr g / (|g| + eps)`."""
    g, p = gradients(np.float64)[0], start(np.float64)
    for eps in (1e-8, 0.1):
        expected = p - LR * g / (np.abs(g) + eps)
        np.testing.assert_allclose(run(adam_step, p, [g], eps=eps), expected, rtol=0, atol=20 * np.finfo(float).eps)
        np.testing.assert_allclose(run(adamw_step, p, [g], eps=eps, weight_decay=0.0), expected, rtol=0, atol=1e-14)
    step = np.abs(run(adam_step, p, [g], eps=0.0) - p)
    np.testing.assert_allclose(step, LR, rtol=0, atol=20 * np.finfo(float).eps)


def test_gradients_in_other_units_are_the_same_steps():
    """With eps = 0 a power of two at all gradients changes nothing."""
    g, p = gradients(np.float32), start(np.float32)
    for step in (adam_step, adamw_step, nadam_step):
        assert_same_bits([run(step, p, g, eps=0.0)], [run(step, p, 4 * g, eps=0.0)])


# ---------------------------------------------------------------- other frameworks


def framework_bound(p, steps):
    """How far float32 frameworks may be: they form `1 - beta2^t` in float32, off by u/(1 - beta2^t)."""
    u = np.finfo(np.float32).eps
    corrections = sum(1 / (1 - 0.999**t) for t in range(1, steps + 1))
    return 4 * LR * u * corrections + 4 * steps * u * np.abs(p).max()


@pytest.mark.skipif(JIT_OFF, reason="is about the formulas, which the other legs cover")
@pytest.mark.parametrize(
    ("name", "step", "keywords"),
    [
        ("Adam", adam_step, {}),
        ("AdamW", adamw_step, {"weight_decay": 0.1}),
        ("Nadam", nadam_step, {"variant": "keras"}),
    ],
)
def test_keras(monkeypatch, name, step, keywords):
    monkeypatch.setenv("KERAS_BACKEND", "numpy")
    keras = pytest.importorskip("keras", reason="keras is not installed")
    if keras.backend.backend() != "numpy":
        pytest.skip(f"keras was loaded with the {keras.backend.backend()} backend")
    g, p = gradients(np.float32, steps=20), start(np.float32)
    variable = keras.Variable(p)
    given = {k: x for k, x in keywords.items() if k == "weight_decay"}
    optimizer = getattr(keras.optimizers, name)(LR, epsilon=1e-7, **given)
    for row in g:
        optimizer.apply([row], [variable])
    theirs, bound = np.asarray(variable.value), framework_bound(p, 20)
    assert np.abs(run(step, p, g, eps=1e-7, **keywords) - theirs).max() <= bound
    if name == "Nadam":
        assert np.abs(run(step, p, g, eps=1e-7, variant="torch") - theirs).max() > 10 * bound


@pytest.mark.skipif(JIT_OFF, reason="is about the formulas, which the other legs cover")
@pytest.mark.parametrize(
    ("name", "step", "keywords"),
    [
        ("adam", adam_step, {}),
        ("adamw", adamw_step, {"weight_decay": 0.1}),
        ("nadam", nadam_step, {"variant": "optax"}),
    ],
)
def test_optax(name, step, keywords):
    jax = pytest.importorskip("jax", reason="jax is not installed")
    optax = pytest.importorskip("optax", reason="optax is not installed")
    g, start_ = gradients(np.float32, steps=20), start(np.float32)
    given = {k: x for k, x in keywords.items() if k == "weight_decay"}
    optimizer = getattr(optax, name)(LR, **given)
    p = jax.numpy.asarray(start_)
    state = optimizer.init(p)
    for row in g:
        updates, state = optimizer.update(jax.numpy.asarray(row), state, p)
        p = optax.apply_updates(p, updates)
    bound = framework_bound(start_, 20)
    assert np.abs(run(step, start_, g, **keywords) - np.asarray(p)).max() <= bound
    if name == "nadam":
        assert np.abs(run(step, start_, g, variant="torch") - np.asarray(p)).max() > 10 * bound
