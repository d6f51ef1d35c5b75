"""Transformations for JAX as parts of others: schedules, masks, groups, sweeps, shards."""

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
from tests.helpers.bits import assert_same_bits


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
