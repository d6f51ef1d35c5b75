"""Steps for JAX: bits of the library's own steps, and what is refused."""

import subprocess
import sys

import numpy as np
import pytest
from numba import config

pytest.importorskip("jax", reason="jax is not installed")
pytest.importorskip("optax", reason="optax is not installed")
if config.DISABLE_JIT:
    pytest.skip("the custom calls are compiled code", allow_module_level=True)

import jax
import jax.numpy as jnp

import nagd_numba
from nagd_numba.adapters import optax as ours
from nagd_numba.adapters.xla import MOST
from tests.helpers.bits import assert_same_bits
from tests.helpers.optax_arrays import DTYPES, STEPS, arrays_of, in_place, needed


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", STEPS)
def test_a_step_has_the_bits_of_the_step_in_place(name, dtype, x64):
    optimizer = STEPS[name]
    arrays = arrays_of(optimizer, dtype=dtype)
    settings = needed(optimizer)
    made = jax.jit(lambda given: getattr(ours, name)(**given, **settings))(jax.tree.map(jnp.array, arrays))
    assert_same_bits(map(np.asarray, made), in_place(optimizer, arrays, **settings))


OPTIONS = [
    *({"convention": x} for x in ("keras", "caffe", "bengio")),
    {"nesterov": False},
    {"momentum_next": 0.5},
    {"weight_decay": 0.1},
    {"weight_decay": 0.1, "decoupled": True, "maximize": True},
    {"momentum": 0.0},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.ci
def test_options_of_the_step(options):
    arrays = arrays_of(STEPS["step"])
    made = ours.step(**jax.tree.map(jnp.array, arrays), **options)
    assert_same_bits(map(np.asarray, made), in_place(STEPS["step"], arrays, **options))


def test_numbers_that_are_traced_are_those_of_their_type(x64):
    """A float32 0.999 is 0.99900001287: 1 - beta2 then is off by 1.3e-5 of itself.  A float64 is what Python has."""
    arrays = arrays_of(STEPS["adam_step"])
    program = jax.jit(lambda given, beta2, t: ours.adam_step(**given, t=t, beta2=beta2))
    given = jax.tree.map(jnp.array, arrays)
    for kind in (np.float32, np.float64):
        made = program(given, jnp.array(0.999, kind), 5)
        assert_same_bits(map(np.asarray, made), in_place(STEPS["adam_step"], arrays, t=5, beta2=float(kind(0.999))))
    assert abs((1 - float(np.float32(0.999))) / (1 - 0.999) - 1) == pytest.approx(1.3e-5, rel=0.05)


def test_a_pytree_is_one_call_for_each_dtype(x64):
    rng = np.random.default_rng(0)
    shapes = {"a": [(3, 4), (), (0, 5)], "b": (7,), "c": None}
    sizes = jax.tree.map(lambda s: s, shapes, is_leaf=lambda s: isinstance(s, tuple))

    def tree(dtype="float32"):
        made = jax.tree.map(lambda s: rng.normal(size=s).astype(dtype), sizes, is_leaf=lambda s: isinstance(s, tuple))
        made["d"] = rng.normal(size=(2, 2)).astype("float64")
        return made

    p, g, v = tree(), tree(), tree()
    program = jax.jit(ours.step)
    assert program.lower(p, g, v).as_text().count("custom_call") == 2
    new_p, new_v = program(p, g, v)
    assert jax.tree.structure(new_p) == jax.tree.structure(p)
    for a, b, c, x, y in zip(*map(jax.tree.leaves, (p, g, v, new_p, new_v)), strict=True):
        a, c = np.array(a), np.array(c)
        nagd_numba.step(a, b, c)
        assert_same_bits(map(np.ravel, (x, y)), map(np.ravel, (a, c)))


def test_many_leaves_are_a_few_calls():
    arrays = arrays_of(STEPS["step"], n=3 * 150)
    p, g, v = (list(np.split(arrays[x], 150)) for x in ("params", "grads", "vel"))
    program = jax.jit(lambda p, g, v, lr: ours.step(p, g, v, lr=lr))
    assert program.lower(p, g, v, 0.1).as_text().count("custom_call") == -(-150 // MOST)
    made = program(p, g, v, 0.1)
    assert_same_bits(map(np.concatenate, made), in_place(STEPS["step"], arrays, lr=float(np.float32(0.1))))


def test_nothing_to_step():
    assert ours.step({}, {}, {}) == ({}, {})


def test_a_sweep_of_rates_by_vmap_is_one_call():
    arrays = arrays_of(STEPS["step"], n=50_000)
    p, g, v = (jnp.array(arrays[x]) for x in ("params", "grads", "vel"))
    rates, momenta = jnp.array([0.1, 0.01, 1.0]), jnp.array([0.5, 0.9])
    program = jax.jit(jax.vmap(jax.vmap(lambda lr, mu: ours.step(p, g, v, lr=lr, momentum=mu), (0, None)), (None, 0)))
    assert program.lower(rates, momenta).as_text().count("custom_call") == 1
    new_p, new_v = program(rates, momenta)
    assert new_p.shape == (2, 3, 50_000)
    for j, mu in enumerate(np.asarray(momenta)):
        for k, lr in enumerate(np.asarray(rates)):
            alone = in_place(STEPS["step"], arrays, lr=float(lr), momentum=float(mu))
            assert_same_bits((np.asarray(new_p[j, k]), np.asarray(new_v[j, k])), alone)


def test_vmap_over_arrays_on_any_axis():
    arrays = {x: a.reshape(7, 11, 13) for x, a in arrays_of(STEPS["step"]).items()}
    p, g, v = (jnp.array(arrays[x]) for x in ("params", "grads", "vel"))
    moved = [jnp.moveaxis(p, 0, 2), jnp.moveaxis(g, 0, 1), v]
    made = jax.vmap(ours.step, in_axes=(2, 1, 0))(*moved)
    assert_same_bits(map(np.asarray, made), in_place(STEPS["step"], arrays))
    assert jax.vmap(lambda lr: ours.step(p, g, v, lr=lr))(jnp.zeros(0))[0].shape == (0, 7, 11, 13)


def test_inside_scan_as_one_after_another():
    arrays = arrays_of(STEPS["adam_step"])
    p, g, m, v = (jnp.array(arrays[x]) for x in ("params", "grads", "m", "v"))

    def body(carry, t):
        return ours.adam_step(carry[0], carry[0] - g, *carry[1:], t), None

    made, _ = jax.jit(lambda *x: jax.lax.scan(body, x, jnp.arange(1, 6)))(p, m, v)
    q, n, w = (np.array(x) for x in (p, m, v))
    for t in range(1, 6):
        nagd_numba.adam_step(q, q - np.asarray(g), n, w, t)
    assert_same_bits(map(np.asarray, made), (q, n, w))


def test_a_loss_is_differentiated_around_it_and_not_through_it():
    x = jnp.arange(12.0).reshape(4, 3) / 10

    @jax.jit
    def train(p, v):
        return ours.step(p, jax.grad(lambda p: ((x @ p - 1) ** 2).mean())(p), v, lr=0.1)

    p, v = jnp.zeros(3), jnp.zeros(3)
    start = ((x @ p - 1) ** 2).mean()
    for _ in range(300):
        p, v = train(p, v)
    assert ((x @ p - 1) ** 2).mean() < 1e-3 * start
    for wrong in (lambda p: ours.step(p, p, v)[0].sum(), lambda lr: ours.step(p, p, v, lr=lr)[0].sum()):
        with pytest.raises(ValueError, match="cannot be differentiated"):
            jax.grad(wrong)(p if wrong.__code__.co_varnames[0] == "p" else 0.1)


# ------------------------------------------------------------------------------------------------------------- refusals

V = jnp.zeros(3)
REFUSED = [
    (lambda: ours.step(V.astype(jnp.bfloat16), V, V), TypeError, r"step: params has dtype bfloat16; float32 or"),
    (
        lambda: ours.step({"w": V.astype(jnp.float16)}, {"w": V}, {"w": V}),
        TypeError,
        r"params\['w'\] has dtype float16",
    ),
    (lambda: ours.step(V.astype(int), V, V), TypeError, "params has dtype int32"),
    (lambda: ours.step(np.zeros(3), V, V), TypeError, "float64, which JAX makes float32 of: jax.config.update"),
    (lambda: ours.step(V, [V], V), ValueError, "grads has the structure .*, and params"),
    (lambda: ours.step(V, V, V[:2]), ValueError, r"vel has shape \(2,\) and params \(3,\)"),
    (lambda: ours.step(V, 1.0, V), TypeError, "grads is a float; an array of JAX is needed"),
    (lambda: ours.step(V, V, V, lr=-1), ValueError, "step: lr is -1; a finite number >= 0"),
    (lambda: ours.step(V, V, V, lr=1e300), ValueError, r"lr is 1e\+300; .* \(in float32"),
    (
        lambda: ours.step(V, V, V, lr=1e30, weight_decay=1e30, decoupled=True),
        ValueError,
        "together they leave the range",
    ),
    (lambda: ours.step(V, V, V, lr="fast"), TypeError, "lr is 'fast'; a number is needed"),
    (lambda: ours.step(V, V, V, lr=V), ValueError, r"lr has shape \(3,\); one number is needed"),
    (lambda: ours.step(V, V, V, lr=jnp.array(True)), TypeError, "lr is an array of bool"),
    (lambda: ours.step(V, V, V, convention="kers"), ValueError, "did you mean 'keras'"),
    (lambda: ours.step(V, V, V, nesterov="no"), TypeError, "nesterov is 'no'; True or False is needed"),
    (lambda: ours.adam_step(V, V, V, V, 0), ValueError, "adam_step: t is 0; a whole number from 1"),
    (lambda: ours.adam_step(V, V, V, V, 1.5), TypeError, "t is 1.5; a whole number is needed"),
    (lambda: ours.nag(-0.1), ValueError, "nag: learning_rate is -0.1"),
    (lambda: ours.nag(True), TypeError, "nag: learning_rate is True"),
    (lambda: ours.adam(0.1, beta1=1.0), ValueError, "adam: beta1 is 1.0; .* < 1"),
    (lambda: ours.nadam(0.1, variant="tf"), ValueError, "nadam: variant is 'tf'"),
    (
        lambda: ours.nag(0.1).init({"w": V.astype(jnp.bfloat16)}),
        TypeError,
        r"nag.init: params\['w'\] has dtype bfloat16",
    ),
    (lambda: ours.adamw(0.1).update(V, ours.adamw(0.1).init(V)), ValueError, "adamw.update: weight_decay needs params"),
    (lambda: ours.nag(0.1).update(V[:2], ours.nag(0.1).init(V)), ValueError, "nag.update: vel has shape"),
]


@pytest.mark.parametrize(("call", "error", "said"), REFUSED, ids=[x[2] for x in REFUSED])
def test_refused_when_it_is_traced(call, error, said):
    with pytest.raises(error, match=said):
        call()


@pytest.mark.parametrize(
    ("t", "said"),
    [(0, "adam: t is 0; a whole number >= 1"), (1.5, "adam: t is 1.5; a whole"), (np.nan, "adam: t is nan")],
)
def test_refused_when_it_runs(t, said):
    with pytest.raises(jax.errors.JaxRuntimeError, match=said):
        jax.block_until_ready(jax.jit(lambda t: ours.adam_step(V, V, V, V, t))(t))


def test_arrays_of_jax_are_never_updated_in_place():
    net = nagd_numba.MLP([4, 3, 2])
    data = np.zeros((8, 4), np.float32), np.zeros(8, int)

    immutable = "is an array of JAX, which is immutable, .* nagd_numba.adapters.optax"
    n = np.zeros(3, np.float32)
    calls = {
        "params": lambda: nagd_numba.step(V, n, n.copy()),
        "vel": lambda: nagd_numba.step(n, V, V),
        "in a list": lambda: nagd_numba.step([n.copy(), V], [n, n], [n.copy(), n.copy()]),
        "guard": lambda: nagd_numba.step(V, n, n.copy(), guard=nagd_numba.Guard()),
        "out": lambda: net.value_and_grad(net.init(seed=0), *data, out=jnp.array(net.init(seed=0))),
        "fit": lambda: net.fit(jnp.array(net.init(seed=0)), *data, epochs=1),
        "fit_many": lambda: nagd_numba.fit_many(net, jnp.array(net.init(seed=0))[None], *data, epochs=1),
    }
    for name in STEPS.keys() - {"step"}:
        arrays = arrays_of(STEPS[name], n=3)
        state = STEPS[name].rule.states[-1]
        for written in ("params", state):
            given = {**arrays, written: V}
            calls[f"{name}, {written}"] = lambda name=name, given=given: getattr(nagd_numba, name)(
                **given, **needed(STEPS[name])
            )
    for call in calls.values():
        with pytest.raises(ValueError, match=immutable):
            call()
    assert not V.any()
    assert np.array_equal(nagd_numba.step(n, jnp.ones(3), n.copy(), lr=1.0, momentum=0.0), [-1, -1, -1])  # only read


def test_jax_is_not_imported_by_the_package():
    code = "import sys, nagd_numba, nagd_numba.adapters; assert not {'jax', 'optax'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_is_missing_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "jax", None)
    monkeypatch.delitem(sys.modules, "nagd_numba.adapters.optax")
    with pytest.raises(ImportError, match="jax is not installed: pip install jax optax"):
        import nagd_numba.adapters.optax  # noqa: F401
