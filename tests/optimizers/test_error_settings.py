"""NumPy's error settings are the user's: with any of them the library does the same."""

import warnings

import numpy as np
import pytest

import nagd_numba
from nagd_numba import schedules
from tests.helpers.backends import JIT_OFF

COMPILED = pytest.mark.skipif(JIT_OFF, reason="with the JIT off kernels compute with NumPy, under its settings")


def extremes(dtype):
    info = np.finfo(dtype)
    return np.array([info.max, -info.max, info.smallest_subnormal, info.tiny, 0.0, 3.0], dtype)


def guarded(dtype, values, scale):
    made = []
    for clip in (None, 1.0, float(np.finfo(dtype).tiny)):
        guard = nagd_numba.Guard(clip_norm=clip, nonfinite="skip", grad_scale=scale)
        p, vel = np.ones(len(values), dtype), np.zeros(len(values), dtype)
        nagd_numba.step(p, values, vel, lr=0.1, guard=guard)
        made += [p, vel, guard.norm, guard.nonfinite_count, guard.dot]
    return made


def adam(dtype):
    p, m, v = (np.zeros(6, dtype) for _ in range(3))
    for t in (1, 10**6):
        nagd_numba.adam_step(p, extremes(dtype), m, v, t, lr=1e-60, eps=1e-30)
    return [p, m, v]


def rates():
    progress = schedules.Progress(updates=1, samples=1)
    falling = schedules.Exponential(0.1, 0.5), schedules.StepDecay(0.1, 1, 0.5), schedules.InverseScaling(0.1, 100.0)
    return [x.values(np.arange(5000), progress) for x in falling]


def training():
    X = np.linspace(-1, 1, 60, dtype=np.float32).reshape(20, 3)
    net = nagd_numba.MLP([3, 4, 2])
    made = []
    for scale, lr in ((1.0, 1e-60), (1e30, 1e30)):
        params = net.init(seed=0)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*diverged", category=RuntimeWarning)
            net.fit(params, X * np.float32(scale), np.arange(20) % 2, epochs=2, batch_size=5, lr=lr, validation=0.25)
        made.append(params)
    return made


CASES = {
    **{
        f"guard, {d}, {s}": lambda d=d, s=s: guarded(d, extremes(d), s)
        for d in ("f4", "f8")
        for s in (1.0, float(np.finfo(d).tiny))
    },
    "guard, all small": lambda: guarded("f8", np.full(6, 1e-200), 1.0),
    "guard, all large": lambda: guarded("f8", np.full(6, 1e200), 0.5),
    "adam, f4": lambda: adam("f4"),
    "adam, f8": lambda: adam("f8"),
    "schedules": rates,
    "training": training,
}


@pytest.mark.parametrize(
    "name", [pytest.param(x, marks=COMPILED) if x in ("adam, f4", "training") else x for x in CASES]
)
def test_that_numpy_should_raise_changes_nothing(name):
    with np.errstate(all="ignore"):
        usual = CASES[name]()
    with np.errstate(all="raise"):
        raising = CASES[name]()
    for x, y in zip(usual, raising, strict=True):
        np.testing.assert_array_equal(x, y)
