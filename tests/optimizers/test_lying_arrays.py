"""Arrays whose attributes, strides or places say other things than their memory."""

import numpy as np
import pytest
from numba import njit
from numpy.lib.stride_tricks import as_strided

from nagd_numba import step


def zeros(*shape):
    return np.zeros(shape or 20, np.float32)


def saying(**attributes):
    return type("Saying", (np.ndarray,), {name: property(lambda self, x=x: x) for name, x in attributes.items()})


@pytest.mark.parametrize("dtype", [np.int32, np.float64, np.float16])
def test_a_dtype_that_is_not_that_of_the_memory(dtype):
    p = np.arange(20, dtype=dtype)
    with pytest.raises(TypeError, match=r"step: (params|grads|vel) has dtype"):
        step(np.ndarray.view(p, saying(dtype=np.dtype(np.float32))), zeros(), zeros())
    assert (p == np.arange(20)).all()


def test_flags_that_are_not_those_of_the_memory(tmp_path):
    """Its pages cannot be written: a kernel that tried would end the process."""
    (tmp_path / "p").write_bytes(bytes(80))
    p = np.memmap(tmp_path / "p", np.float32, "r")
    with pytest.raises(ValueError, match="params is read-only"):
        step(np.ndarray.view(p, saying(flags=zeros().flags)), zeros(), zeros())


def test_a_shape_that_is_not_that_of_the_memory():
    p = zeros(3)
    with pytest.raises(ValueError, match=r"grads has shape \(20,\) and params \(3,\)"):
        step(np.ndarray.view(p, saying(shape=(20,), size=20)), zeros(), zeros())


def test_a_class_that_is_not_its_own():
    x = saying()  # any class

    class Other:
        __class__ = x
        dtype, shape = np.dtype(np.float32), (20,)

    with pytest.raises(TypeError, match="an array is needed"):
        step(Other(), zeros(), zeros())


def test_places_whose_differences_overflow():
    p = zeros()
    with pytest.raises(ValueError, match="mask has places out of order or out of range"):
        step(p, zeros(), zeros(), mask=np.array([0, 2**62, -(2**62) - 1, 5]))


@njit
def in_compiled_code(p, g, v):
    step(p, g, v)


@njit
def masked_in_compiled_code(p, g, v, mask):
    step(p, g, v, mask=mask)


OVERLAPPING = {
    "one element": lambda: as_strided(zeros(), (5, 4), (0, 0)),
    "half elements": lambda: as_strided(zeros(), (5, 4), (8, 2)),
    "diagonals": lambda: as_strided(zeros(), (5, 4), (4, 4)),
}


@pytest.mark.parametrize("make", OVERLAPPING.values(), ids=OVERLAPPING)
@pytest.mark.parametrize("where", ["params", "vel"])
def test_elements_that_share_memory_in_compiled_code(make, where):
    p, v = (make(), zeros(5, 4)) if where == "params" else (zeros(5, 4), make())
    with pytest.raises(ValueError, match=r"must not overlap|share memory"):
        in_compiled_code(p, zeros(5, 4), v)
    with pytest.raises(ValueError, match=r"must not overlap|share memory"):
        masked_in_compiled_code(p, zeros(5, 4), v, np.ones((5, 4), np.uint8))
    assert not p.any()


@pytest.mark.ci
def test_elements_that_do_not_share_memory_in_compiled_code():
    buffer = np.zeros((7, 6, 5), np.float32)
    for view in (
        buffer[::2, ::-3, 1::2],
        buffer.transpose(1, 2, 0),
        as_strided(zeros(60), (20,), (6,)),
        buffer[:1, :, 0],
    ):
        p, g, v = (np.zeros_like(view) for _ in range(3))
        view[...] = 1
        in_compiled_code(view, as_strided(np.ones(1, np.float32), view.shape, (0,) * view.ndim), v)
        p[...] = 1
        step(p, g + 1, zero := np.zeros_like(p))
        assert (view == p).all()
        assert (v == zero).all()
