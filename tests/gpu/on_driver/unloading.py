"""Machine code of users' functions goes when they go, and not while a stream may still run it."""

import contextlib
import gc
import weakref

import numpy as np
import pytest
from numba import cuda, njit, types

from nagd_numba import minimize
from nagd_numba.gpu import driver
from nagd_numba.gpu.compiler import Kernel
from nagd_numba.gpu.pointers import store
from nagd_numba.minimizer.gpu import solve

from .arrays import new_stream

SIGNATURE = (types.CPointer(types.float64), types.float64)


def kernel(number):
    """One that is different for each number, as those of different functions of a user's are."""

    def fill(out, value):
        store(out, 0, value + number)

    return Kernel(fill, "fill", SIGNATURE, threads=1, users=True)


def start(made, out, stream):
    here = driver.current()
    address = int(out.__cuda_array_interface__["data"][0])
    here.launch(here.load(made, 0), 0, stream, here.configuration(1, 1), address, np.float64(1))


@pytest.fixture
def out():
    made = cuda.to_device(np.zeros(1))
    cuda.synchronize()
    return made


def test_what_is_gone_is_unloaded_with_the_next_load(machine, out):
    first, second = kernel(1), kernel(2)
    start(first, out, 0)
    cuda.synchronize()
    assert out.copy_to_host() == [2]
    del first
    gc.collect()
    assert "cuLibraryUnload" not in machine.log
    start(second, out, 0)
    assert machine.log.count("cuLibraryUnload") == 1
    cuda.synchronize()
    assert out.copy_to_host() == [3]


def test_what_is_loaded_again_at_the_same_place_is_another(machine, out):
    """The identity of an object that is gone may be that of the next."""
    for number in range(10):
        start(kernel(number), out, 0)
        cuda.synchronize()
        assert out.copy_to_host() == [1 + number]


def test_a_stream_that_has_not_run_it_yet(machine, out, seed):
    stream, made = new_stream(), kernel(3)
    start(made, out, stream)
    driver.current().keep(made, 0, stream)
    reference = weakref.ref(made)
    del made
    gc.collect()
    cuda.synchronize()
    start(kernel(4), out, 0)
    assert out.copy_to_host() == [5]
    driver.current().keep(None, 0, stream)  # which looks at what has been done
    gc.collect()
    assert reference() is None


def test_somebody_who_does_not_wait(machine, out):
    """Whose kernel stays: nobody knows when it has run."""
    stream, made = new_stream(), kernel(5)
    reference = weakref.ref(made)
    with contextlib.suppress(KeyboardInterrupt), driver.current().waiting(made):
        start(made, out, stream)
        raise KeyboardInterrupt
    del made
    gc.collect()
    start(kernel(6), cuda.to_device(np.zeros(1)), 0)
    cuda.synchronize()
    assert reference() is not None


def test_what_goes_too_soon_is_found(machine, out):
    """The driver of these tests sees it: so the tests above could fail."""
    start(kernel(7), out, new_stream())
    gc.collect()
    start(kernel(8), out, 0)
    with pytest.raises(RuntimeError, match="LAUNCH_FAILED"):
        driver.current().download(out)
    assert any("was unloaded before it ran" in fault for fault in machine.faults)
    machine.faults.clear()


def test_one_that_fails_is_tried_again(machine, out):
    first, second, third = kernel(9), kernel(10), kernel(11)
    start(first, out, 0)
    cuda.synchronize()
    del first
    gc.collect()
    machine.fail("cuLibraryUnload", "STREAM_CAPTURE_UNSUPPORTED")
    start(second, out, 0)
    left = len(driver.current()._gone)
    assert left == 1
    start(third, out, 0)
    assert not driver.current()._gone
    cuda.synchronize()
    assert out.copy_to_host() == [12]


@pytest.mark.slow
def test_the_function_of_a_solve(machine, out):
    @njit
    def fun(x, g):
        g[0] = 2 * (x[0] - 1)
        return (x[0] - 1) ** 2

    for _ in range(2):
        found = minimize(fun, cuda.to_device(np.zeros(1)), jac="inplace")
        assert found.success
        (made,) = map(weakref.ref, solve._kernels[fun].values())
    reference = weakref.ref(fun)
    del fun, found
    gc.collect()
    assert reference() is made() is None
    start(kernel(12), out, 0)
    assert "cuLibraryUnload" in machine.log
