"""Small storage on device arrays, in the emulator: the bits of the host."""

import copy

import numpy as np
import pytest

import nagd_numba
from nagd_numba import Int8State, StochasticRounding, bind, step
from nagd_numba.optimizers.registry import OPTIMIZERS
from tests.helpers.bits import same_bits
from tests.helpers.half import Half
from tests.helpers.stored_steps import BFLOAT16, FLOAT16, Step, bits_of

pytestmark = pytest.mark.usefixtures("compiler")

CASES = [
    ("nesterov", BFLOAT16, "int8"),
    pytest.param("adam", BFLOAT16, "int8", marks=pytest.mark.ci),
    pytest.param("nesterov", FLOAT16, "compensation", marks=pytest.mark.ci),
    pytest.param("nesterov", BFLOAT16, "random", marks=pytest.mark.ci),
    pytest.param("nesterov", FLOAT16, "random", marks=pytest.mark.ci),
    pytest.param("rmsprop", BFLOAT16, "float32 int8", marks=pytest.mark.slow),
]


def on_device(gpu, x):
    """A copy of the arrays of a step on the device."""
    made = copy.copy(x)

    def send(array):
        name = array.dtype.name
        return Half(gpu, bits_of(array).copy(), name, 0) if name in ("bfloat16", "float16") else gpu.array(array)

    made.params, made.grads = send(x.params), send(x.grads)
    made.states = [
        Int8State(gpu.array(s.codes), gpu.array(s.scales)) if isinstance(s, Int8State) else gpu.array(s)
        for s in x.states
    ]
    made.beside = {name: send(array) for name, array in x.beside.items()}
    made.rounding = copy.copy(x.rounding)
    return made


def same(gpu, host, device):
    there = [gpu.download(getattr(x, "inner", x)) for x in device.arrays()]
    return all(same_bits(bits_of(x), bits_of(y)) for x, y in zip(host.arrays(), there, strict=True))


@pytest.mark.parametrize(("name", "dtype", "form"), CASES, ids=str)
def test_the_bits_are_those_of_the_host(gpu, name, dtype, form):
    host = Step(OPTIMIZERS[name], dtype, form, 333)
    device = on_device(gpu, host)
    for _ in range(3):
        host.take()
        assert device.take() is device.params
    assert same(gpu, host, device)
    if host.rounding is not None:
        assert device.rounding.steps == 3


def test_lists_are_numbered_on(gpu):
    parts = [Step(OPTIMIZERS["nesterov"], BFLOAT16, "int8", n, seed=n) for n in (40, 5)]
    there = [on_device(gpu, x) for x in parts]
    for columns in (parts, there):
        rounding = StochasticRounding(3)
        lists = [x.params for x in columns], [x.grads for x in columns], [x.states[0] for x in columns]
        step(*lists, lr=0.05, weight_decay=0.01, rounding=rounding)
    assert all(same(gpu, x, y) for x, y in zip(parts, there, strict=True))


def test_refusals(gpu):
    x = on_device(gpu, Step(OPTIMIZERS["nesterov"], BFLOAT16, "int8", 40))
    host = Int8State(np.zeros(40, np.int8), np.zeros(2, np.float32))
    short = Int8State(x.states[0].codes, gpu.array(np.zeros(1, np.float32)))
    unsigned = Int8State(gpu.array(np.zeros(40, np.uint8)), x.states[0].scales)
    for state, error, message in [
        (host, ValueError, "params and grads live on a CUDA device and vel on the host"),
        (short, ValueError, r"vel.scales has shape \(1,\); \(2,\) is needed"),
        (unsigned, TypeError, "vel.codes has dtype uint8; int8 is needed"),
    ]:
        with pytest.raises(error, match=f"^step: {message}"):
            step(x.params, x.grads, state, rounding=x.rounding)
    with pytest.raises(TypeError, match="vel is an Int8State, whose codes are rounded by random bits"):
        step(x.params, x.grads, x.states[0])
    with pytest.raises(ValueError, match="params and compensation overlap"):
        step(x.params, x.grads, gpu.array(np.zeros(40, np.float32)), compensation=x.params)
    with pytest.raises(ValueError, match="cannot be bound; call the step"):
        bind(nagd_numba.step, x.params, x.grads, x.states[0], rounding=x.rounding)
    assert not gpu.launches
    assert x.rounding.steps == 0
