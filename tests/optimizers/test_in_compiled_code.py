"""Every public step and every scalar rule in users' own compiled code: `@njit`, `prange`, `@cuda.jit`."""

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from numba import njit, prange, types

import nagd_numba
from nagd_numba.kernels.jit import SIMULATOR
from nagd_numba.optimizers.registry import OPTIMIZERS, RULES
from tests import emulator
from tests.helpers import driverless
from tests.helpers.backends import JIT_OFF
from tests.helpers.bits import assert_same_bits

try:
    from numba import cuda
except ImportError:  # the tests say that they are skipped
    cuda = None

N = 67


@dataclass(frozen=True)
class Caller:
    """What a user writes around a rule.

    step       on vectors, as in Python
    element    on element i of vectors: what stands in a kernel
    scalars    what the second is given beside the vectors, and makes it the same step
    states     the number of state vectors
    """

    step: Callable
    element: Callable
    scalars: Callable
    states: int = 1


def nesterov_step(p, g, states):
    nagd_numba.step(p, g, states[0], 0.1, 0.9, 0.8)


def nesterov_element(p, g, states, i, hyper):
    p[i], states[0][i] = nagd_numba.nesterov_update(p[i], g[i], states[0][i], hyper[0], hyper[1], hyper[2])


def nadam_step(p, g, states):
    nagd_numba.nadam_step(p, g, states[0], states[1], 3, variant="keras")


def nadam_element(p, g, states, i, hyper):
    p[i], states[0][i], states[1][i] = nagd_numba.nadam_update(p[i], g[i], states[0][i], states[1][i], hyper)


def fista_step(p, g, states):
    nagd_numba.fista_step(p, g, states[0], 2.5, 0.1, prox="l1", weight=3.0)


def fista_element(p, g, states, i, hyper):
    p[i], states[0][i] = nagd_numba.fista_update(p[i], g[i], states[0][i], hyper[0], hyper[1], hyper[2], 1)


def fista_scalars(dtype):
    return tuple(map(dtype, (0.1, 1.5 / nagd_numba.fista_t(2.5), 0.1 * 3.0)))


def caller_of(optimizer):
    """What a user would write around any optimizer whose scalar form has `constants`."""
    values = {"t": 3, "weight_decay": 0.1}
    keywords = {x: value for x, value in values.items() if x in optimizer.settings}
    count = len(optimizer.rule.states)
    vectors = [f"states[{k}]" for k in range(count)]
    elements = [f"{x}[i]" for x in ("p", *vectors)]
    step = f"step({', '.join(['p', 'g', *vectors])}, {', '.join(f'{x}={value}' for x, value in keywords.items())})"
    update = f"{', '.join(elements)} = update({', '.join(['p[i]', 'g[i]', *elements[1:], 'hyper'])})"
    namespace = {"step": optimizer.step, "update": optimizer.update}
    exec(f"def one(p, g, states):\n    {step}\ndef each(p, g, states, i, hyper):\n    {update}\n", namespace)
    return Caller(namespace["one"], namespace["each"], lambda dtype: optimizer.constants(dtype, **keywords), count)


CALLERS = {name: caller_of(made) for name, made in OPTIMIZERS.items() if made.constants is not None} | {
    "nesterov": Caller(nesterov_step, nesterov_element, lambda dtype: tuple(map(dtype, (0.1, 0.9, 0.8)))),
    "nadam": Caller(nadam_step, nadam_element, lambda dtype: nagd_numba.nadam_constants(dtype, 3, variant="keras"), 2),
    "fista": Caller(fista_step, fista_element, fista_scalars),
}
callers = pytest.mark.parametrize("caller", CALLERS.values(), ids=CALLERS)
few_callers = pytest.mark.parametrize(
    "caller",
    [
        pytest.param(caller, id=name, marks=() if name in ("nesterov", "adam") else pytest.mark.ci)
        for name, caller in CALLERS.items()
    ],
)
dtypes = pytest.mark.parametrize(
    "dtype", [np.float32, pytest.param(np.float64, marks=pytest.mark.ci)], ids=["float32", "float64"]
)


def test_no_rule_is_left_out():
    assert set(CALLERS) == set(RULES)
    assert all(len(RULES[name].states) == caller.states for name, caller in CALLERS.items())


def arrays(caller, dtype, shape=N):
    rng = np.random.default_rng(0)
    p, g, *states = (rng.normal(size=shape).astype(dtype) for _ in range(2 + caller.states))
    return p, g, tuple(map(np.abs, states))  # squares are not negative


def expected(caller, p, g, states):
    """What the step does from Python."""
    p, states = p.copy(), tuple(x.copy() for x in states)
    caller.step(p, g, states)
    return [p, *states]


@pytest.mark.skipif(JIT_OFF, reason="is about compiled callers")
@callers
def test_inside_njit(caller):
    p, g, states = arrays(caller, np.float32)
    want = expected(caller, p, g, states)
    njit(caller.step)(p, g, states)
    assert_same_bits([p, *states], want)


@pytest.mark.skipif(JIT_OFF, reason="is about compiled callers")
@few_callers
def test_in_a_prange(caller):
    """A step for each row."""
    step = njit(caller.step)

    @njit(parallel=True)
    def user(rows, row_grads, row_states):
        for k in prange(rows.shape[0]):
            if len(row_states) == 1:
                step(rows[k], row_grads[k], (row_states[0][k],))
            else:
                step(rows[k], row_grads[k], (row_states[0][k], row_states[-1][k]))

    rows, row_grads, row_states = arrays(caller, np.float32, (9, N))
    want = expected(caller, rows, row_grads, row_states)
    user(rows, row_grads, row_states)
    assert_same_bits([rows, *row_states], want)


@pytest.mark.skipif(JIT_OFF, reason="is about compiled callers")
@callers
def test_scalars_inside_a_parallel_loop(caller):
    element = njit(caller.element)

    @njit(parallel=True)
    def user(p, g, states, hyper):
        for i in prange(p.size):
            element(p, g, states, i, hyper)

    p, g, states = arrays(caller, np.float32)
    want = expected(caller, p, g, states)
    user(p, g, states, caller.scalars(np.float32))
    assert_same_bits([p, *states], want)


def kernel_of(caller):
    """A CUDA kernel of the user's, as Python."""
    element = caller.element if SIMULATOR else njit(inline="always")(caller.element)

    def one(p, g, first, hyper):
        i = cuda.grid(1)
        if i < p.size:
            element(p, g, (first,), i, hyper)

    def two(p, g, first, second, hyper):
        i = cuda.grid(1)
        if i < p.size:
            element(p, g, (first, second), i, hyper)

    return one if caller.states == 1 else two


@pytest.mark.skipif(not SIMULATOR, reason="runs with NUMBA_ENABLE_CUDASIM=1")
@callers
@dtypes
def test_cuda_kernel_in_the_simulator(caller, dtype):
    p, g, states = arrays(caller, dtype)
    want = expected(caller, p, g, states)
    device = [cuda.to_device(x) for x in (p, g, *states)]
    cuda.jit(kernel_of(caller))[3, 32](*device, caller.scalars(dtype))
    assert_same_bits([device[0].copy_to_host(), *(x.copy_to_host() for x in device[2:])], want)


@callers
@dtypes
def test_cuda_kernel_in_the_emulator(caller, dtype):
    """The kernel is compiled for a GPU, and that code runs on the CPU."""
    driverless.require()
    if JIT_OFF:
        pytest.skip("the JIT is off")
    p, g, states = arrays(caller, dtype)
    want = expected(caller, p, g, states)
    kind, scalars = types.float32 if dtype == np.float32 else types.float64, caller.scalars(dtype)
    count = 2 + caller.states
    signature = (*count * [kind[::1]], types.UniTuple(kind, len(scalars)))
    here = [np.ascontiguousarray(x) for x in (p, g, *states)]
    emulator.compile(kernel_of(caller), signature)(3, 32, *here, scalars)
    assert_same_bits([here[0], *here[2:]], want)


@callers
def test_cuda_kernel_to_ptx(caller):
    """The machine code of a GPU holds the rule itself, in float32 alone, and every rounding is one that it names."""
    driverless.require()
    if JIT_OFF:
        pytest.skip("the JIT is off")
    array, scalars = types.float32[::1], types.UniTuple(types.float32, len(caller.scalars(np.float32)))
    signature = (*(2 + caller.states) * [array], scalars)
    code = driverless.instructions(driverless.ptx(kernel_of(caller), signature, (9, 0)))
    named = {x for x in code if re.match(r"(add|sub|mul|fma|mad|div|sqrt|rsqrt|rcp)\..*f\d", x)}
    assert named
    assert named <= {f"{operation}.rn.f32" for operation in ("add", "mul", "fma", "div", "sqrt")}
    assert not [x for x in code if "f64" in x or x.startswith("call")]
