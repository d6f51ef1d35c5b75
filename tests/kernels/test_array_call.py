"""Compiled code that reads Python's objects: it takes what it was made for, and nothing else."""

import pickle
import sys

import numpy as np
import pytest

from nagd_numba import adam_step, step
from nagd_numba.kernels.array_call import UNFIT, ArrayCall
from nagd_numba.kernels.python_objects import readable
from nagd_numba.kernels.segments import Step
from nagd_numba.kernels.statuses import HYPER, OK
from nagd_numba.optimizers.registry import RULES
from tests.helpers.backends import JIT_OFF

pytestmark = pytest.mark.skipif(JIT_OFF, reason="nothing is compiled, so nothing reads objects")

HYPERS = (0.1, 0.9, 0.9, 0.0)
F32 = np.dtype(np.float32)


def call():
    rule = RULES["nesterov"]
    made = ArrayCall(1, 4)
    made.enable(Step(rule, rule.defaults(), F32, None), F32)
    return made.call


def fresh(dtype=np.float32, shape=6):
    return np.ones(shape, dtype)


class Subclass(np.ndarray):
    pass


def read_only(x):
    x.flags.writeable = False
    return x


def unaligned():
    return np.frombuffer(bytearray(25), np.float32, offset=1)[:6]


def test_objects_are_as_the_module_says():
    assert readable()


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        1.0,
        [1.0] * 6,
        memoryview(np.ones(6, np.float32)),
        np.float32(1),
        fresh(np.float64),
        fresh(np.int32),
        fresh(np.dtype(np.float32).newbyteorder()),
        fresh(object),
        fresh(shape=5),
        fresh(shape=(6, 1)),
        fresh(shape=(2, 3)),
        fresh(shape=()),
        fresh(shape=12)[::2],
        fresh()[::-1],
        fresh().view(Subclass),
        np.ma.masked_array(fresh()),
        unaligned(),
    ],
    ids=lambda x: f"{type(x).__name__}-{getattr(x, 'dtype', '')}-{getattr(x, 'shape', '')}",
)
def test_other_arrays_are_left_to_others(wrong):
    """In each place of the call, beside two arrays that fit."""
    for k in range(3):
        given = [fresh() for _ in range(3)]
        given[k] = wrong
        p, g, v = given
        assert call()(p, g, (v,), HYPERS) == UNFIT
        assert all((x == 1).all() for j, x in enumerate(given) if j != k)


def test_memory_that_cannot_be_written():
    p, g, v = (fresh() for _ in range(3))
    assert call()(read_only(p.copy()), g, (v,), HYPERS) == UNFIT
    assert call()(p, g, (read_only(v.copy()),), HYPERS) == UNFIT
    assert call()(p, read_only(g), (v,), HYPERS) == OK


FIRST_NUMBERS = (1, True, "0.1", None, np.float32(0.1))  # which would be fit, or not, for Python


@pytest.mark.parametrize(
    "numbers", [HYPERS[:3], (*HYPERS, 0.0), list(HYPERS), None, *((x, *HYPERS[1:]) for x in FIRST_NUMBERS)]
)
def test_other_numbers_are_left_to_others(numbers):
    p, g, v = (fresh() for _ in range(3))
    assert call()(p, g, (v,), numbers) == UNFIT
    assert call()(p, g, [v], HYPERS) == call()(p, g, (v, v.copy()), HYPERS) == call()(p, g, (), HYPERS) == UNFIT
    assert (p == 1).all()


def test_numbers_out_of_range_are_told():
    p, g, v = (fresh() for _ in range(3))
    for bad in (-0.1, np.inf, np.nan):
        assert call()(p, g, (v,), (bad, *HYPERS[1:])) == HYPER
    assert (p == 1).all()
    assert call()(p, g, (v,), (np.float64(0.1), *HYPERS[1:])) == OK


@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (2, 1, 3), (0,), (3, 0)], ids=str)
def test_shapes(shape):
    """Contiguous arrays of any shape, the empty ones too."""
    ours, theirs = ([fresh(shape=shape) for _ in range(3)] for _ in range(2))
    assert call()(ours[0], ours[1], (ours[2],), HYPERS) == OK
    step(*(x.reshape(-1) for x in theirs), *HYPERS[:3])
    assert all(x.tobytes() == y.tobytes() for x, y in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_other_objects_of_one_dtype(dtype):
    """Such as pickle makes."""
    p, g, v = ours = [pickle.loads(pickle.dumps(np.ones(6, dtype))) for _ in range(3)]
    assert p.dtype is not np.dtype(dtype)
    theirs = [np.ones(6, dtype) for _ in range(3)]
    if dtype == np.float32:  # which `call` is for
        assert call()(p, g, (v,), HYPERS) == OK
        step(*theirs, *HYPERS[:3])
    else:
        assert call()(p, g, (v,), HYPERS) == UNFIT
    for _ in range(3):
        step(p, g, v)
        step(*theirs)
    assert all(x.tobytes() == y.tobytes() for x, y in zip(ours, theirs, strict=True))


def test_calls_keep_no_objects():
    p, g, m, v = (fresh() for _ in range(4))
    before = [sys.getrefcount(x) for x in (p, g, m, v)]
    for t in range(1, 200):
        adam_step(p, g, m, v, t)
        step(p, g, v)
        with pytest.raises(ValueError, match="lr"):
            step(p, g, v, lr=-1.0)
    assert [sys.getrefcount(x) for x in (p, g, m, v)] == before
