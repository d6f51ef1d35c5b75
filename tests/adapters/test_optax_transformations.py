"""Transformations for JAX: the steps of the library, and bounds beside those of optax."""

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

from nagd_numba.adapters import optax as ours
from tests.helpers.bits import assert_same_bits
from tests.helpers.optax_arrays import DTYPES, F32, STEPS, arrays_of, in_place, needed

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
        pytest.param("nag", {"nesterov": False, "weight_decay": 0.1}, marks=pytest.mark.slow),
        ("nag", {"weight_decay": 0.3, "decoupled": True}),
        ("nadam", {}),
        pytest.param("nadam", {"weight_decay": 0.3, "decoupled": True}, marks=pytest.mark.slow),
        pytest.param("adamw", {"weight_decay": 0.3}, marks=pytest.mark.ci),
        pytest.param("lion", {"weight_decay": 0.3, "maximize": True}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_an_update_that_is_added_is_close_to_the_step(name, options, dtype, x64):
    """The states' bits; of the parameters as many roundings as stand in `docs/howto/optax.md`.

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
