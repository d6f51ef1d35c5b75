"""`step` and the scalar rule inside users' compiled code."""

import subprocess
import sys

import numpy as np
import pytest
from numba import cuda, njit, prange
from numba.core.errors import TypingError

import nagd_numba
from nagd_numba import nesterov_update, step
from nagd_numba.kernels import elementwise, statuses
from nagd_numba.kernels.jit import SIMULATOR
from nagd_numba.optimizers.registry import RULES
from tests.helpers.backends import BACKENDS, JIT_OFF

jit = pytest.mark.skipif(JIT_OFF, reason="is about compiled callers")


def arrays(shape=50, dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype(dtype) for _ in range(3)]


def check(user, p, g, v, **keywords):
    """The compiled caller must do what `step` does from Python."""
    a, b = p.copy(), v.copy()
    step(a, g, b, **keywords)
    x, y = p.copy(order="K"), v.copy(order="K")
    user(x, g, y)
    np.testing.assert_array_equal(x, a)
    np.testing.assert_array_equal(y, b)


@jit
@pytest.mark.parametrize(
    ("dtype", "parallel"), [(np.float32, True), pytest.param(np.float64, False, marks=pytest.mark.slow)]
)
def test_step_inside_njit(dtype, parallel):
    @njit(parallel=parallel)
    def user(p, g, v):
        step(p, g, v)

    check(user, *arrays(dtype=dtype))
    check(user, *arrays((6, 5), dtype))
    check(user, *(np.asfortranarray(x) for x in arrays((6, 5), dtype)))
    check(user, *(x[::2] for x in arrays(dtype=dtype)))
    check(user, *arrays(0, dtype))


@jit
def test_options_and_schedules_inside_njit():
    @njit
    def user(p, g, v, lr, momentum, after, decay):
        nagd_numba.step(p, g, v, lr, momentum, after, convention="keras", weight_decay=decay, decoupled=True)

    keywords = {"lr": 0.1, "momentum": 0.8, "momentum_next": 0.7, "convention": "keras", "decoupled": True}
    for decay in (0.0, 0.1):
        check(lambda p, g, v, w=decay: user(p, g, v, 0.1, 0.8, 0.7, w), *arrays(), weight_decay=decay, **keywords)

    @njit
    def heavy_ball(p, g, v):
        step(p, g, v, nesterov=False, maximize=True)

    check(heavy_ball, *arrays(), nesterov=False, maximize=True)


@jit
def test_numbers_of_any_type_inside_njit():
    """float32, integers, and a momentum_next that may be None."""

    @njit
    def user(p, g, v, lr, momentum):
        step(p, g, v, lr, momentum)

    for lr, momentum in [(np.float32(0.5), np.float32(0.25)), (1, 0), (np.float32(0.5), 0.25), (True, 0.5)]:
        check(lambda p, g, v, a=lr, b=momentum: user(p, g, v, a, b), *arrays(), lr=float(lr), momentum=float(momentum))

    @njit
    def sometimes(p, g, v, flag):
        after = None
        if flag:
            after = 0.5
        step(p, g, v, 0.1, 0.75, after)

    for flag, after in ((True, 0.5), (False, None)):
        check(lambda p, g, v, f=flag: sometimes(p, g, v, f), *arrays(), lr=0.1, momentum=0.75, momentum_next=after)


def test_strided_arrays_from_python_too():
    """The loop for compiled callers, called as they call it."""
    kernel = elementwise.loop_for_callers(RULES["nesterov"], RULES["nesterov"].defaults(), False)
    buffer = np.ones((10, 6))
    hyper = (0.1, 0.9, 0.9, 0.0)
    p, g, v = buffer[:, 0], buffer[:, 1], buffer[:, 2]
    assert kernel(p, g, (p,), hyper) == statuses.OVERLAP
    assert kernel(p, p[::-1], (v,), hyper) == statuses.OVERLAP
    assert kernel(p, g, (v,), (-1.0, 0.9, 0.9, 0.0)) == statuses.HYPER
    assert (buffer == 1).all()
    assert kernel(p, g, (v,), hyper) == statuses.OK
    assert kernel(p[:0], g[:0], (v[:0],), hyper) == statuses.OK


@jit
def test_step_inside_prange():
    """Many small problems at once, each with its own vectors: one process, no nested parallel region."""

    @njit(parallel=True)
    def user(p, g, v):
        for k in prange(p.shape[0]):
            step(p[k], g[k], v[k], 0.1)

    check(user, *arrays((64, 33)), lr=0.1)


@pytest.mark.skipif(JIT_OFF or SIMULATOR, reason="is about compiled callers")
def test_fast_math_of_a_caller_changes_no_rounding_of_a_step():
    """In a process of its own, since what the first caller had compiled served all others."""
    program = """
import numpy as np
import nagd_numba
from numba import njit

def descend(params, grads, vel):
    nagd_numba.step(params, grads, vel, 0.1, 0.9)

arrays = np.random.default_rng(0).normal(size=(3, 10_001)).astype(np.float32)
made = []
for call in (njit(fastmath=True)(descend), njit(descend), descend):
    params, grads, vel = arrays.copy()
    call(params, grads, vel)
    made.append(np.concatenate([params, vel]))
assert (made[0] == made[2]).all() and (made[1] == made[2]).all()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr


@jit
def test_whole_loop_inside_njit():
    @njit
    def descend(p, target, steps):
        v, g = np.zeros_like(p), np.empty_like(p)
        for _ in range(steps):
            g[:] = p - target
            step(p, g, v, 0.2, 0.5)
        return p

    np.testing.assert_allclose(descend(np.zeros(4), np.arange(4.0), 100), np.arange(4.0), atol=1e-10)


@njit
def plain_caller(p, g, v):
    step(p, g, v)


@jit
def test_errors_at_run_time_come_before_any_write():
    p, g, v = arrays()
    buffer = np.ones((10, 6))
    for wrong, message in [
        ((p, g[:-1], v), "grads must have the shape of params"),
        ((p, p, v), "must not overlap"),
        ((p, g, p), "must not overlap"),
        ((buffer[:, 0], buffer[:, 1], buffer[:, 0]), "must not overlap"),
        ((buffer[::2, 0], buffer[1:, 1][::2], buffer[:6, 0][1:]), "must not overlap"),
    ]:
        before = [x.copy() for x in wrong]
        with pytest.raises(ValueError, match=message):
            plain_caller(*wrong)
        for x, y in zip(wrong, before, strict=True):
            np.testing.assert_array_equal(x, y)
    plain_caller(buffer[:, 0], buffer[:, 1], buffer[:, 2])  # columns interleave and do not overlap
    assert (buffer[:, 0] != 1).all()

    @njit
    def rate(p, g, v, lr):
        step(p, g, v, lr)

    for lr in (-1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="lr must be a finite number >= 0"):
            rate(p, g, v, lr)
    with pytest.raises(ValueError, match="leave the range of the arrays' dtype"):
        rate(p, g, v, 1e300)


@jit
def test_errors_at_compile_time_name_the_argument():
    p, g, v = arrays()

    @njit
    def misspelt(p, g, v):
        step(p, g, v, convention="Keras")

    @njit
    def variable(p, g, v, name):
        step(p, g, v, convention=name)

    @njit
    def text(p, g, v):
        step(p, g, v, lr="fast")

    @njit
    def streamed(p, g, v):
        step(p, g, v, stream=3)

    read_only = p.copy()
    read_only.flags.writeable = False
    for call, message in [
        (lambda: plain_caller(p, g.astype(np.float64), v), "grads is .*float64.* one dtype"),
        (lambda: plain_caller(p.astype(int), g, v), "params is .*int64.*; an array of float32 or float64"),
        (lambda: plain_caller(p, g.reshape(5, 10), v), "grads is .*2d.*number of dimensions"),
        (lambda: plain_caller(read_only, g, v), "params is read-only"),
        (lambda: misspelt(p, g, v), "did you mean 'keras'"),
        (lambda: variable(p, g, v, "keras"), "convention must be a constant inside compiled code"),
        (lambda: text(p, g, v), "lr is .*; a number is needed"),
        (lambda: streamed(p, g, v), "stream is for CUDA arrays"),
    ]:
        with pytest.raises(TypingError, match=message):
            call()


@jit
def test_scalar_rule_casts_the_hyper_parameters():
    """Python numbers do not turn a float32 rule into float64, nor into an error."""

    @njit
    def user(p, g, v):
        return nesterov_update(p, g, v, 0.1, 0.9, 1)

    new_p, new_v = user(np.float32(1), np.float32(2), np.float32(3))
    want = nesterov_update(np.float32(1), np.float32(2), np.float32(3), np.float32(0.1), np.float32(0.9), np.float32(1))
    assert (new_p, new_v) == want


@jit
@pytest.mark.skipif(not SIMULATOR, reason="runs with NUMBA_ENABLE_CUDASIM=1; tests/ptx compiles the same kernel")
def test_scalar_rule_inside_a_users_cuda_kernel():
    @cuda.jit
    def user(p, g, v):
        i = cuda.grid(1)
        if i < p.size:
            p[i], v[i] = nesterov_update(p[i], g[i], v[i], np.float32(0.01), np.float32(0.9), np.float32(0.9))

    def on_device(p, g, v):
        dp, dg, dv = (cuda.to_device(x) for x in (p, g, v))
        user[2, 32](dp, dg, dv)
        p[...], v[...] = dp.copy_to_host(), dv.copy_to_host()

    check(on_device, *arrays())


@pytest.mark.skipif(not JIT_OFF, reason="the lines of what tests/c/test_export.py runs compiled")
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_loop_for_c_in_python(rule):
    """Arrays stand for pointers."""
    loop = elementwise.pointer_loop(rule, np.dtype(np.float64))
    hyper = tuple(rule.hyper.values())
    memory = [np.linspace(1, 2, 7) + k for k in range(2 + len(rule.states))]
    for chosen in (rule.defaults(), tuple(values[-1] for values in rule.options.values())):
        p, g, *states = (x.copy() for x in memory)
        here = [x.copy() for x in (p, *states)]
        options = tuple(map(int, chosen))
        assert loop(p, g, (p, *states[1:]), 7, hyper, options) == statuses.OVERLAP
        assert loop(p, g, tuple(states), -1, hyper, options) == statuses.LENGTH
        assert loop(p, g, tuple(states), 7, (-1.0, *hyper[1:]), options) == statuses.HYPER
        assert loop(p, g, tuple(states), 7, hyper, (9, *options[1:])) == statuses.HYPER
        assert loop(p, g, tuple(states), 7, hyper, options) == statuses.OK
        BACKENDS[0].run(rule, here[0], g, here[1:], hyper, chosen)
        for x, y in zip((p, *states), here, strict=True):
            np.testing.assert_array_equal(x, y)
