"""The custom call: in place, checked before anything is written, on XLA's threads, from many threads at once."""

import os
import subprocess
import sys

import numpy as np
import pytest
from numba import config

pytest.importorskip("jax", reason="a custom call of XLA needs jax")
if config.DISABLE_JIT:
    pytest.skip("a handler is compiled code", allow_module_level=True)

import jax
import jax.numpy as jnp

import nagd_numba
from nagd_numba.adapters.xla import call, register
from nagd_numba.kernels.xla.handler import PARALLEL_FROM, Kind
from nagd_numba.optimizers.registry import RULES
from tests.helpers.bits import assert_same_bits
from tests.helpers.jax_versions import enable_x64

NESTEROV = RULES["nesterov"]
KIND = Kind(NESTEROV, NESTEROV.defaults(), np.dtype(np.float32))
HYPER = (0.1, 0.9, 0.9, 0.0)


def stepped(p, g, v, hyper=HYPER):
    (p,), (v,) = call(KIND, hyper, ([p], [g], [v]))
    return p, v


def vectors(n, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=n).astype(np.float32) for _ in range(3)]


def expected(p, g, v, lr=0.1):
    p, v = p.copy(), v.copy()
    nagd_numba.step(p, g, v, lr=lr)
    return p, v


@pytest.mark.parametrize("n", [1, 63, 1_000, PARALLEL_FROM - 1, PARALLEL_FROM, 300_007])
def test_bits_do_not_depend_on_the_length_or_on_threads(n):
    arrays = vectors(n)
    assert_same_bits(map(np.asarray, jax.jit(stepped)(*map(jnp.array, arrays))), expected(*arrays))


def test_donated_memory_is_written_in_place():
    p, g, v = map(jnp.array, vectors(100_000))
    program = jax.jit(stepped, donate_argnums=(0, 2))
    memory = program.lower(p, g, v).compile().memory_analysis()
    assert memory.alias_size_in_bytes == p.nbytes + v.nbytes
    assert memory.temp_size_in_bytes < 1_000  # no copy of any array
    places = p.unsafe_buffer_pointer(), v.unsafe_buffer_pointer()
    new_p, new_v = program(p, g, v)
    assert (new_p.unsafe_buffer_pointer(), new_v.unsafe_buffer_pointer()) == places
    assert p.is_deleted()
    assert v.is_deleted()


def test_what_is_not_donated_stays():
    arrays = vectors(1_000)
    p, g, v = map(jnp.array, arrays)
    jax.block_until_ready(jax.jit(stepped)(p, g, v))
    assert_same_bits(map(np.asarray, (p, g, v)), arrays)


def test_no_array_is_copied_inside_a_scan():
    def many(p, g, v):
        return jax.lax.scan(lambda carry, _: (stepped(carry[0], carry[0] - g, carry[1]), None), (p, v), None, 5)[0]

    arrays = vectors(100_000)
    program = jax.jit(many, donate_argnums=(0, 2)).lower(*map(jnp.array, arrays)).compile()
    assert "f32[100000]{0} copy(" not in program.as_text()
    assert program.memory_analysis().temp_size_in_bytes < 1.1 * arrays[0].nbytes  # the gradient


def test_one_array_for_several_operands():
    p, _, v = vectors(1_000)
    made = jax.jit(lambda p, v: stepped(p, p, v))(jnp.array(p), jnp.array(v))
    assert_same_bits(map(np.asarray, made), expected(p, p.copy(), v))


def test_attributes_arrive_exactly():
    rng = np.random.default_rng(3)
    p, g, v = (x.astype(np.float64) for x in vectors(50))
    kind = Kind(NESTEROV, NESTEROV.defaults(), np.dtype(np.float64))
    with enable_x64(True):
        for lr in [*rng.uniform(size=20), 5e-324, 2.0**-1022, np.nextafter(1, 2), 0.0, 1e300]:
            momentum = float(np.nextafter(0.9, 1))
            hyper = float(lr), momentum, momentum, 0.0
            (new_p,), (new_v,) = call(kind, hyper, ([jnp.array(p)], [jnp.array(g)], [jnp.array(v)]))
            ours = p.copy(), v.copy()
            nagd_numba.step(ours[0], g, ours[1], lr=float(lr), momentum=momentum)
            assert_same_bits(map(np.asarray, (new_p, new_v)), ours)


@pytest.mark.parametrize("lr", [-1.0, np.nan, np.inf, 1e39])
def test_a_bad_number_is_an_error_of_xla_and_nothing_is_written(lr):
    arrays = vectors(100)
    p, g, v = map(jnp.array, arrays)
    with enable_x64(True):
        operand = jnp.array(lr, jnp.float64)
        program = jax.jit(lambda p, g, v, lr: stepped(p, g, v, (lr, 0.9, 0.9, 0.0)))
        with pytest.raises(
            jax.errors.JaxRuntimeError, match=r"nesterov: lr is .*; a finite number >= 0 is needed \(in float32"
        ):
            jax.block_until_ready(program(p, g, v, operand))
    assert_same_bits(map(np.asarray, (p, g, v)), arrays)


def wrong_calls():
    """Operands, results and attributes that are not those of the handler, as a program made by hand could have."""
    x = jax.ShapeDtypeStruct((4,), jnp.float32)
    hyper, none = np.array(HYPER), np.full(4, -1)
    yield "no attributes", 3, [x, x], {}, "not of its version"
    yield "another attribute", 3, [x, x], {"hyper": hyper, "traced": none, "more": none}, "not of its version"
    yield "few numbers", 3, [x, x], {"hyper": hyper[:3], "traced": none}, "not of its version"
    yield "few operands", 2, [x, x], {"hyper": hyper, "traced": none}, "other arrays"
    yield "few results", 3, [x], {"hyper": hyper, "traced": none}, "other arrays"
    yield "no alias", 3, [x, x], {"hyper": hyper, "traced": none}, "not in the memory"
    yield "a number that is not there", 3, [x, x], {"hyper": hyper, "traced": np.array([0, -1, -1, -1])}, "other arrays"


@pytest.mark.parametrize(
    ("operands", "results", "attributes", "said"), [pytest.param(*x[1:], id=x[0]) for x in wrong_calls()]
)
def test_a_call_that_does_not_fit_is_refused(operands, results, attributes, said):
    function = jax.ffi.ffi_call(register(KIND), results)
    with pytest.raises(jax.errors.JaxRuntimeError, match=said):
        jax.block_until_ready(function(*operands * [jnp.zeros(4, jnp.float32)], **attributes))


def test_arrays_of_another_type_or_length_are_refused():
    function = jax.ffi.ffi_call(
        register(KIND), 2 * [jax.ShapeDtypeStruct((4,), jnp.float32)], input_output_aliases={0: 0, 2: 1}
    )
    attributes = {"hyper": np.array(HYPER), "traced": np.full(4, -1)}
    x = jnp.zeros(4, jnp.float32)
    for wrong in (jnp.zeros(5, jnp.float32), jnp.zeros(4, jnp.int32)):
        with pytest.raises(jax.errors.JaxRuntimeError, match="other arrays"):
            jax.block_until_ready(function(x, wrong, x, **attributes))


THREADS = """
import threading
import numpy as np, jax, jax.numpy as jnp
import nagd_numba
from nagd_numba.adapters.optax import step

arrays = [np.random.default_rng(k).normal(size=200_003).astype(np.float32) for k in range(3)]
program = jax.jit(lambda p, g, v: jax.lax.fori_loop(0, 20, lambda _, x: step(x[0], g, x[1], lr=0.1), (p, v)))
want = [arrays[0].copy(), arrays[2].copy()]
for _ in range(20):
    nagd_numba.step(want[0], arrays[1], want[1], lr=0.1)
good = []

def run():
    for _ in range(5):
        made = program(*map(jnp.array, arrays))
        good.append(all(np.array_equal(a, b) for a, b in zip(made, want)))

threads = [threading.Thread(target=run) for _ in range(6)]
[x.start() for x in threads]
run()
[x.join() for x in threads]
assert len(good) == 35 and all(good), good
print("equal")
"""


@pytest.mark.parametrize("layer", ["omp", pytest.param("workqueue", marks=pytest.mark.ci)])
def test_many_executions_at_once(layer):
    """Also beside Numba's layer that may not be entered twice: the loop is on XLA's threads."""
    environment = {**os.environ, "NUMBA_THREADING_LAYER": layer}
    done = subprocess.run([sys.executable, "-c", THREADS], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout == "equal\n", done.stderr


def test_threads_that_are_few_or_many_make_no_difference():
    """With one thread for XLA the caller does all shares."""
    environment = {**os.environ, "NPROC": "1", "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false"}
    done = subprocess.run([sys.executable, "-c", THREADS], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout == "equal\n", done.stderr
