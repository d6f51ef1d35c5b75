"""Steps and transformations for JAX: bits of the library's own steps, bounds beside optax, and composition."""

import itertools
import os
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
import optax

import nagd_numba
from nagd_numba.adapters import optax as ours
from nagd_numba.adapters.xla import MOST
from nagd_numba.optimizers.registry import OPTIMIZERS
from tests.helpers.bits import assert_same_bits
from tests.helpers.jax_versions import enable_x64

STEPS = {x.name: x for x in OPTIMIZERS.values()}
F32, F64 = np.dtype(np.float32), np.dtype(np.float64)
DTYPES = [F32, pytest.param(F64, marks=pytest.mark.ci)]


@pytest.fixture
def x64():
    with enable_x64(True):
        yield


def arrays_of(optimizer, n=1_001, dtype=F32, seed=0):
    """Parameters, gradients and states; averages of squares are not negative."""
    rng = np.random.default_rng(seed)
    made = {x: rng.normal(size=n).astype(dtype) for x in optimizer.arrays}
    if "v" in made:
        made["v"] = made["v"] ** 2
    return made


def needed(optimizer, t=3):
    return {"t": t} if "t" in optimizer.settings else {}


def in_place(optimizer, arrays, **settings):
    """What the library's own step makes: the written arrays."""
    copies = {x: a.copy() for x, a in arrays.items()}
    getattr(nagd_numba, optimizer.name)(**copies, **settings)
    return [a for x, a in copies.items() if x != "grads"]


# ---------------------------------------------------------------------------------------------------------------- steps


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


# ------------------------------------------------------------------------------------------------------ transformations

u32, u64 = 2.0**-24, 2.0**-53


def unit(dtype):
    """Half the distance from 1 to the next number: the relative error of one rounding."""
    return u32 if dtype == F32 else u64


def updated(made, arrays, count=0, **more):
    """Parameters and states after `update` and `apply_updates`, under `jit`, and the update."""
    names = [x for x in arrays if x not in ("params", "grads")]
    state = made.init(jnp.array(arrays["params"]))
    state = ours.State(
        None if state.count is None else jnp.array(count, jnp.int32), {x: jnp.array(arrays[x]) for x in names}
    )

    @jax.jit
    def run(p, g, state):
        change, state = made.update(g, state, p)
        return optax.apply_updates(p, change), state, change

    p, state, change = run(jnp.array(arrays["params"]), jnp.array(arrays["grads"]), state)
    return np.asarray(p), {x: np.asarray(state.states[x]) for x in names}, np.asarray(change)


SAME_BITS = {
    "nag": [{"convention": "keras", "weight_decay": 0.1}, *({"convention": x} for x in ("keras", "caffe", "bengio"))],
    "adam": [{"maximize": True, "weight_decay": 0.1}, {"weight_decay": 0.1}, {}],
    "adamw": [{"weight_decay": 0.0}],
    "lion": [{}],
    "rmsprop": [{"weight_decay": 0.1}],
    "adagrad": [{"weight_decay": 0.1, "lr_decay": 0.1}],
}
FEW = ("nag", "adam", "rmsprop")  # of which the first options are tried where not everything is
CASES = [
    pytest.param(name, x, id=f"{name} {x}", marks=[] if name in FEW and x is options[0] else pytest.mark.ci)
    for name, options in SAME_BITS.items()
    for x in options
]


@pytest.mark.parametrize(("name", "options"), CASES)
def test_an_update_that_is_added_makes_the_step(name, options):
    """Rules that round their change before they add it: the same bits, but for the sign of a 0 added to -0."""
    optimizer = STEPS["step" if name == "nag" else f"{name}_step"]
    arrays = arrays_of(optimizer)
    p, states, _ = updated(getattr(ours, name)(0.1, **options), arrays, count=2)
    want_p, *want = in_place(optimizer, arrays, lr=0.1, **options, **needed(optimizer))
    assert_same_bits([p, *states.values()], [want_p, *want])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("nag", {}),
        ("nag", {"nesterov": False, "weight_decay": 0.1}),
        ("nag", {"weight_decay": 0.3, "decoupled": True}),
        ("nadam", {}),
        pytest.param("nadam", {"weight_decay": 0.3, "decoupled": True}, marks=pytest.mark.ci),
        ("adamw", {"weight_decay": 0.3}),
        pytest.param("lion", {"weight_decay": 0.3, "maximize": True}, marks=pytest.mark.ci),
    ],
    ids=str,
)
def test_an_update_that_is_added_is_close_to_the_step(name, options, dtype, x64):
    """The states' bits; of the parameters as many roundings as stand in `docs/optax.md`.

    Without a decay a step adds its change d to p in one rounding, and here d is rounded before: u |d| more, and twice
    u |p'| since both sums are rounded.  (Nadam's step adds its two parts one after the other: once more u |p'|.)
    A decay that is decoupled multiplies p by 1 - lr w, rounded (u) to a rounded product (u), where the update has the
    product of p with the rounded lr w (u lr w), and all is rounded (u |d|).
    """
    optimizer = STEPS["step" if name == "nag" else f"{name}_step"]
    arrays = arrays_of(optimizer, dtype=dtype)
    made = updated(getattr(ours, name)(0.1, **options), arrays, count=2)
    want_p, *want = in_place(optimizer, arrays, lr=0.1, **options, **needed(optimizer))
    assert_same_bits(made[1].values(), want)
    p, change, before = (np.abs(x).astype(np.longdouble) for x in (made[0], made[2], arrays["params"]))
    bound = change + 3 * np.maximum(p, np.abs(want_p)) + (2.1 * before if options.get("weight_decay") else 0)
    error = np.abs(made[0].astype(np.longdouble) - want_p)
    assert (error <= 1.001 * unit(dtype) * bound).all()
    if name == "nag" and not options:
        assert (error > 0).any()  # it is not the same


def of_optax(made, arrays, states):
    """One update of optax from the same states, which `states` puts into its own."""
    state = states(made.init(jnp.array(arrays["params"])))
    change, state = jax.jit(made.update)(jnp.array(arrays["grads"]), state, jnp.array(arrays["params"]))
    return np.asarray(change, np.longdouble), state


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_beside_optax_sgd(dtype, nesterov, x64):
    """v = mu v + g has two roundings, g + mu v two more, the product with lr one: so many of each, on both sides."""
    arrays = arrays_of(STEPS["step"], dtype=dtype)
    _, states, change = updated(ours.nag(0.1, momentum=0.9, nesterov=nesterov), arrays)
    theirs, state = of_optax(
        optax.sgd(0.1, momentum=0.9, nesterov=nesterov),
        arrays,
        lambda s: (s[0]._replace(trace=jnp.array(arrays["vel"])), *s[1:]),
    )
    u, g, v = unit(dtype), np.abs(arrays["grads"]).astype(np.longdouble), np.abs(arrays["vel"]).astype(np.longdouble)
    sums = 0.9 * v + g
    assert (np.abs(states["vel"] - np.asarray(state[0].trace, np.longdouble)) <= 2 * 2.01 * u * sums).all()
    bound = 2 * 5.01 * u * 0.1 * ((g + 0.9 * sums) if nesterov else sums)
    assert (np.abs(change - theirs) <= bound).all()


def off(beta, t, dtype):
    """The relative error of optax's 1 - beta^t: beta is rounded, its power has few roundings, the difference one."""
    return beta**t * (t + 4) * unit(dtype) / (1 - beta**t) + unit(dtype)


@pytest.mark.parametrize("t", [1, 10, 1_000])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ["adam", "adamw", "nadam"])
def test_beside_optax_adam(name, dtype, t, x64):
    """The averages have 4 roundings on both sides; the change 8 more, and what optax loses in 1 - beta^t."""
    arrays = arrays_of(STEPS["adam_step"], dtype=dtype)
    decay = {"weight_decay": 0.1} if name == "adamw" else {}
    variant = {"variant": "optax"} if name == "nadam" else {}
    _, states, change = updated(getattr(ours, name)(0.1, **decay, **variant), arrays, count=t - 1)
    theirs, state = of_optax(
        getattr(optax, name)(0.1, **decay),
        arrays,
        lambda s: (
            s[0]._replace(count=jnp.array(t - 1, jnp.int32), mu=jnp.array(arrays["m"]), nu=jnp.array(arrays["v"])),
            *s[1:],
        ),
    )
    u = unit(dtype)
    p, g, m = (np.abs(arrays[x]).astype(np.longdouble) for x in ("params", "grads", "m"))
    v = np.asarray(state[0].nu, np.longdouble)
    assert (np.abs(states["m"] - np.asarray(state[0].mu, np.longdouble)) <= 2 * 4 * u * (m + g)).all()
    assert (np.abs(states["v"] - v) <= 2 * 4 * u * v).all()
    first, second = off(0.9, t, dtype), off(0.999, t, dtype)
    scale = 0.1 / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    if name == "nadam":  # its momentum's correction is that of t + 1, and g has a part of its own
        size = scale * (0.9 * (m + g) / (1 - 0.9 ** (t + 1)) + 0.1 * g / (1 - 0.9**t))
    else:
        size = scale * (0.9 * m + 0.1 * g + 0.1 * m) / (1 - 0.9**t)
    bound = size * (2 * 14 * u + first + second / 2) + 4 * u * 0.1 * decay.get("weight_decay", 0) * p
    assert (np.abs(change - theirs) <= bound).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_beside_optax_lion(dtype, x64):
    """The sign, but where the average is rounded to another one; its averages have 3 roundings on both sides."""
    arrays = arrays_of(STEPS["lion_step"], dtype=dtype)
    _, states, change = updated(ours.lion(0.1), arrays)
    theirs, state = of_optax(
        optax.lion(0.1, weight_decay=0.0), arrays, lambda s: (s[0]._replace(mu=jnp.array(arrays["m"])), *s[1:])
    )
    u, m, g = unit(dtype), *(arrays[x].astype(np.longdouble) for x in ("m", "grads"))
    sure = np.abs(0.9 * m + 0.1 * g) > 4 * u * (np.abs(m) + np.abs(g))
    assert sure.mean() > 0.99
    assert (change[sure] == theirs[sure]).all()
    error = np.abs(states["m"] - np.asarray(state[0].mu, np.longdouble))
    assert (error <= 2 * 3.01 * u * (0.99 * np.abs(m) + 0.01 * np.abs(g))).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ["rmsprop", "adagrad"])
def test_beside_optax_rmsprop_and_adagrad(name, dtype, x64):
    """v has 4 roundings on both sides, half of which pass the root; the change 6 more (with eps as PyTorch has it)."""
    arrays = arrays_of(STEPS[f"{name}_step"], dtype=dtype)
    if name == "rmsprop":
        mine, peer = ours.rmsprop(0.1, alpha=0.9), optax.rmsprop(0.1, decay=0.9, eps_in_sqrt=False)
        put = lambda s: (s[0]._replace(nu=jnp.array(arrays["v"])), *s[1:])  # noqa: E731
    else:  # optax has its eps inside of the root
        mine, peer = ours.adagrad(0.1, eps=0.0), optax.adagrad(0.1, eps=0.0)
        put = lambda s: (s[0]._replace(sum_of_squares=jnp.array(arrays["v"])), *s[1:])  # noqa: E731
    _, _, change = updated(mine, arrays)
    theirs, _ = of_optax(peer, arrays, put)
    assert (np.abs(change - theirs) <= 2 * 8 * unit(dtype) * np.abs(theirs)).all()


# ---------------------------------------------------------------------------------------------------------- composition


def tree(seed, **shapes):
    rng = np.random.default_rng(seed)
    return {
        name: rng.normal(size=shape).astype(np.float32) for name, shape in (shapes or {"w": (3, 4), "b": 4}).items()
    }


def flat(tree):
    return [np.ravel(x) for x in jax.tree.leaves(tree)]


def run(made, params, gradients):
    """The parameters and the state after updates with given gradients, under one `jit`."""

    @jax.jit
    def one(p, state, g):
        change, state = made.update(g, state, p)
        return optax.apply_updates(p, change), state

    state = made.init(params)
    for g in gradients:
        params, state = one(params, state, g)
    return params, state


GRADIENTS = [tree(k) for k in range(1, 7)]


def test_a_schedule_is_a_function_of_the_count():
    rates = jnp.array([0.5, 0.3, 0.2, 0.1, 0.05, 0.01])

    def schedule(count):
        return rates[count]

    p, state = run(ours.nag(schedule, convention="keras"), tree(0), GRADIENTS)
    want, vel = tree(0), jax.tree.map(np.zeros_like, tree(0))
    for k, g in enumerate(GRADIENTS):
        for name in want:
            nagd_numba.step(want[name], g[name], vel[name], lr=float(schedule(k)), convention="keras")
    assert_same_bits(flat(p), flat(want))
    assert_same_bits(flat(state.states["vel"]), flat(vel))
    assert int(state.count) == 6


def test_two_momenta_by_schedules_are_fista(x64):
    """The schedule of the momenta that FISTA has, on a quadratic: the bits of `step` with them."""
    t = [1.0]
    for _ in range(50):
        t.append((1 + (1 + 4 * t[-1] ** 2) ** 0.5) / 2)
    beta = jnp.array([0.0] + [(a - 1) / b for a, b in itertools.pairwise(t)])
    curvature = jnp.array([1.0, 0.1, 0.001])
    made = ours.nag(1.0, momentum=lambda k: beta[k], momentum_next=lambda k: beta[k + 1], convention="keras")

    def body(carry, _):
        x, state = carry
        change, state = made.update(curvature * x, state)
        return (optax.apply_updates(x, change), state), None

    (x, _), _ = jax.jit(lambda x: jax.lax.scan(body, (x, made.init(x)), None, 50))(jnp.ones(3))
    want, vel, scales = np.ones(3), np.zeros(3), np.asarray(curvature)
    for k in range(50):
        mu, mu_next = float(beta[k]), float(beta[k + 1])
        nagd_numba.step(want, scales * want, vel, lr=1.0, momentum=mu, momentum_next=mu_next, convention="keras")
    assert_same_bits([np.asarray(x)], [want])
    assert (scales * want * want).sum() / 2 < 2 * 3 / 51**2


def test_inject_hyperparams_makes_the_numbers_arrays():
    """Float32 ones, so the bits are those of rounded numbers; they can be set in the state."""
    made = optax.inject_hyperparams(ours.adam)(learning_rate=0.1)
    p, state = run(made, tree(0), GRADIENTS)
    rounded = {x: float(np.float32(y)) for x, y in {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8}.items()}
    want, _ = run(ours.adam(float(np.float32(0.1)), **rounded), tree(0), GRADIENTS)
    assert_same_bits(flat(p), flat(want))
    state.hyperparams["learning_rate"] = jnp.array(0.0)
    change, _ = made.update(GRADIENTS[0], state, p)
    assert not any(x.any() for x in flat(change))
    with pytest.raises(ValueError, match=r"adam.update: weight_decay needs params: .*, or make weight_decay a number"):
        made.update(GRADIENTS[0], state)
    fixed = optax.inject_hyperparams(ours.adam, static_args=("weight_decay",))(learning_rate=0.1)
    fixed.update(GRADIENTS[0], fixed.init(p))


def test_chain_with_clipping():
    p, _ = run(optax.chain(optax.clip_by_global_norm(1.0), ours.nag(0.1)), tree(0), GRADIENTS)
    clipped = [optax.clip_by_global_norm(1.0).update(g, optax.EmptyState())[0] for g in GRADIENTS]
    # Under jit XLA may round the norm differently: by one part in 2^22 of the gradients, of which 6 steps make less
    # than lr (1 + mu + ...) 6 = 6 times as much, in addition to their own roundings.
    want, _ = run(ours.nag(0.1), tree(0), clipped)
    for a, b in zip(flat(p), flat(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=6 * 2.0**-22 + 12 * 2.0**-24 * max(abs(a).max(), 1))


def test_masked_leaves_alone_what_is_masked():
    mask = {"w": True, "b": False}
    made = optax.masked(ours.nag(0.1), mask)
    change, _ = made.update(GRADIENTS[0], made.init(tree(0)), tree(0))
    alone = ours.nag(0.1)
    w, _ = alone.update(GRADIENTS[0]["w"], alone.init(tree(0)["w"]))
    assert_same_bits(flat(change), flat({"w": w, "b": GRADIENTS[0]["b"]}))


def test_masked_leaves_may_be_of_any_dtype():
    params = {"w": jnp.zeros(3), "k": jnp.arange(3), "h": jnp.zeros(2, jnp.bfloat16)}
    made = optax.masked(ours.adam(0.1), {"w": True, "k": False, "h": False})
    change, _ = made.update({**params, "w": jnp.ones(3)}, made.init(params), params)
    assert change["h"].dtype == jnp.bfloat16
    assert (change["w"] < 0).all()


def test_multi_steps_updates_with_the_mean_of_gradients():
    p, _ = run(optax.MultiSteps(ours.nag(0.1), 3), tree(0), GRADIENTS)
    single = optax.MultiSteps(optax.trace(0.0), 3)  # its means, in its own roundings
    means, state = [], single.init(tree(0))
    for g in GRADIENTS:
        mean, state = jax.jit(single.update)(g, state, tree(0))
        means.append(mean)
    want, _ = run(ours.nag(0.1), tree(0), means[2::3])
    for a, b in zip(flat(p), flat(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=2 * 12 * 2.0**-24 * 2)


def test_each_group_by_its_own():
    made = optax.multi_transform({"a": ours.nag(0.1), "b": ours.adam(0.01)}, {"w": "a", "b": "b"})
    p, _ = run(made, tree(0), GRADIENTS)
    for name, alone in (("w", ours.nag(0.1)), ("b", ours.adam(0.01))):
        want, _ = run(alone, tree(0)[name], [g[name] for g in GRADIENTS])
        assert_same_bits([np.ravel(p[name])], [np.ravel(want)])


def test_a_sweep_of_transformations_by_vmap():
    def train(rate):
        made = ours.adam(rate)
        params = jnp.zeros(3)

        def body(carry, _):
            p, state = carry
            change, state = made.update(p - 1, state, p)
            return (optax.apply_updates(p, change), state), None

        return jax.lax.scan(body, (params, made.init(params)), None, 10)[0][0]

    rates = jnp.array([0.1, 0.01, 0.001])
    together = jax.jit(jax.vmap(train))(rates)
    for rate, made in zip(rates, together, strict=True):
        np.testing.assert_array_equal(made, jax.jit(train)(rate))


def test_states_are_found_by_optax():
    made = ours.adam(0.1)
    state = made.init(tree(0))
    assert jax.tree.structure(optax.tree_utils.tree_get(state, "m")) == jax.tree.structure(tree(0))
    ones = optax.tree_utils.tree_map_params(made, lambda x: x + 1, state)
    assert all((x == 1).all() for x in jax.tree.leaves(ones.states))
    assert int(ones.count) == 0


def test_it_is_traced_once():
    traced = []
    made = ours.nag(lambda count: traced.append(1) or 0.1 / (1 + count))
    run(made, tree(0), GRADIENTS)
    assert len(traced) == 1


SHARDED = """
import jax, jax.numpy as jnp, numpy as np
jax.config.update("jax_num_cpu_devices", 2)
from jax.sharding import NamedSharding, PartitionSpec as P
import nagd_numba
from nagd_numba.adapters.optax import step, adam
import optax

mesh = jax.make_mesh((2,), ("x",))
spec = NamedSharding(mesh, P("x"))
arrays = [np.random.default_rng(k).normal(size=(100_000, 2)).astype(np.float32) for k in range(3)]
want = [arrays[0].copy(), arrays[2].copy()]
nagd_numba.step(want[0], arrays[1], want[1], lr=float(np.float32(0.1)))
there = [jax.device_put(x, spec) for x in arrays]

program = jax.jit(
    jax.shard_map(lambda p, g, v, lr: step(p, g, v, lr=lr), mesh=mesh, in_specs=(P("x"), P("x"), P("x"), P()),
                  out_specs=P("x")),
    donate_argnums=(0, 2),
)
assert "all-gather" not in program.lower(*there, 0.1).compile().as_text()
made = program(*[jax.device_put(x, spec) for x in arrays], 0.1)
assert all(np.array_equal(a, b) for a, b in zip(made, want))
assert made[0].sharding.is_equivalent_to(spec, 2)

made = jax.jit(lambda p, g, v: step(p, g, v, lr=float(np.float32(0.1))))(*there)  # gathered, and right
assert all(np.array_equal(a, b) for a, b in zip(made, want))

def train(p, x, y):
    made = adam(0.1)
    def body(carry, _):
        p, state = carry
        g = jax.lax.pmean(jax.grad(lambda p: ((x @ p - y) ** 2).mean())(p), "x")
        change, state = made.update(g, state, p)
        return (optax.apply_updates(p, change), state), None
    return jax.lax.scan(body, (p, made.init(p)), None, 300)[0][0]

x = np.random.default_rng(5).normal(size=(64, 3)).astype(np.float32)
y = x @ np.array([1, -2, 3], np.float32)
p = jax.jit(jax.shard_map(train, mesh=mesh, in_specs=(P(), P("x"), P("x")), out_specs=P()))(
    jax.device_put(jnp.zeros(3), NamedSharding(mesh, P())), jax.device_put(x, spec), jax.device_put(y, spec)
)
assert abs(p - np.array([1, -2, 3])).max() < 1e-2, p
print("equal")
"""


def test_shards_on_two_devices():
    done = subprocess.run([sys.executable, "-c", SHARDED], capture_output=True, text=True, check=False, env=os.environ)
    assert done.stdout == "equal\n", done.stderr


def test_jax_is_not_imported_by_the_package():
    code = "import sys, nagd_numba, nagd_numba.adapters; assert not {'jax', 'optax'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_is_missing_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "jax", None)
    monkeypatch.delitem(sys.modules, "nagd_numba.adapters.optax")
    with pytest.raises(ImportError, match="jax is not installed: pip install jax optax"):
        import nagd_numba.adapters.optax  # noqa: F401
