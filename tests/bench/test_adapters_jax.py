"""The benchmark of the adapter for JAX: its programs make the steps that they say they make."""

import numpy as np
import pytest
from numba import config

pytest.importorskip("jax", reason="jax is not installed")
pytest.importorskip("optax", reason="optax is not installed")
if config.DISABLE_JIT:
    pytest.skip("the custom calls are compiled code", allow_module_level=True)

import nagd_numba
from nagd_numba.bench import adapters_jax, timing


@pytest.mark.parametrize("form", adapters_jax.FORMS)
@pytest.mark.parametrize("name", adapters_jax.CONTENDERS)
def test_programs_make_steps_of_nesterov(name, form, monkeypatch):
    monkeypatch.setattr(adapters_jax, "MOST_STEPS", 3)
    rng = np.random.default_rng(0)
    p, g = (rng.normal(size=100).astype(np.float32) for _ in range(2))
    program = adapters_jax.Program(form, [p, g], *adapters_jax.CONTENDERS[name]())
    assert program.steps == (1 if form == "jit" else 3)
    program()
    program()
    vel = np.zeros_like(p)
    for _ in range(2 * program.steps):
        nagd_numba.step(p, g if form == "jit" else p - g, vel, adapters_jax.LR, adapters_jax.MOMENTUM)
    # Each of 6 steps rounds about 8 times, numbers that are below 8.
    np.testing.assert_allclose(program.params, p, rtol=0, atol=6 * 8 * 8 * 2.0**-24)


def test_all_contenders_are_timed(monkeypatch):
    monkeypatch.setattr(timing, "WARM_UP", 0.0)
    monkeypatch.setattr(timing, "ROUND_SECONDS", 0.0)
    seconds = adapters_jax.measure(adapters_jax.CASES[0], rounds=2)
    assert seconds.keys() == adapters_jax.CONTENDERS.keys()
    assert all(len(x) == 2 and min(x) > 0 for x in seconds.values())
