"""Every call of the driver fails in turn: a clear error, nothing half written, and the next call works."""

import gc

import numpy as np
import pytest
from numba import cuda
from numba.cuda.cudadrv.driver import CudaAPIError

from nagd_numba import MLP, step
from nagd_numba.gpu import driver
from tests.cuda_driver.errors import CODES

from .arrays import arrays, new_stream, on_device

ERRORS = {"cuMemAlloc_v2": "OUT_OF_MEMORY", "cuMemAllocAsync": "OUT_OF_MEMORY", "cuMemHostAlloc": "OUT_OF_MEMORY"}


def fresh():
    """A driver class that has loaded no kernel yet."""
    driver.use(driver.Driver())
    assert driver.why_no_cuda() is None
    gc.collect()


def calls_of(machine, action):
    """The driver's calls of an action, in order."""
    before = len(machine.log)
    action()
    return machine.log[before:]


def attempt(machine, name, number, action):
    """Run an action whose call of this number fails: what it raised, or None."""
    machine.fail(None, ERRORS.get(name, "LAUNCH_FAILED"), after=number)
    try:
        action()
    except (RuntimeError, MemoryError, ValueError, CudaAPIError) as error:  # the last of numba's own calls
        return error
    finally:
        machine.heal()
        machine.settle()
    return None


def contents(device):
    """What lies on the device."""
    cuda.synchronize()
    return [x.copy_to_host() for x in device]


def equal(one, other):
    return all(np.array_equal(x, y) for x, y in zip(one, other, strict=True))


@pytest.mark.parametrize("kind", ["array", "list"])
def test_a_step(machine, kind):
    """`fresh`: the first step also loads the kernel."""
    stream = new_stream()
    before = arrays(100)
    once, twice = [x.copy() for x in before], [x.copy() for x in before]
    step(*once, lr=0.1)
    for _ in range(2):
        step(*twice, lr=0.1)

    def run(device):
        step(*(device if kind == "array" else [[x] for x in device]), lr=0.1, stream=stream)

    kept, device = [], on_device(before)
    fresh()
    names = calls_of(machine, lambda: run(device))
    assert names.count("cuLibraryLoadData") == 1
    launch = max(k for k, name in enumerate(names) if name.startswith("cuLaunchKernel"))
    for number, name in enumerate(names):
        device = on_device(before)
        kept.append(device)
        fresh()
        error = attempt(machine, name, number, lambda device=device: run(device))
        where = f"call {number}, {name}, of {len(names)}: {error}"
        now = contents(device)
        if error is not None:
            assert "CUDA_ERROR_" in str(error), where
            assert equal(now, before) or (number > launch and equal(now, once)), where
        else:
            assert equal(now, once), where
        run(device)
        assert equal(contents(device), once if equal(now, before) else twice), where


@pytest.mark.parametrize("error", ["OUT_OF_MEMORY", "LAUNCH_FAILED", "INVALID_CONTEXT"])
def test_the_error_is_named(machine, error):
    device = on_device(arrays(100))
    step(*device)
    machine.fail("cuLaunchKernelEx", error)
    machine.fail("cuLaunchKernel", error)
    with pytest.raises((RuntimeError, MemoryError), match=f"CUDA_ERROR_{error}") as caught:
        step(*device)
    assert "kernel" in str(caught.value)
    assert CODES[error]


def test_a_kernel_that_fails_while_it_runs(machine):
    """The error comes where the host waits, and stays."""
    device = on_device(arrays(100))
    machine.fail_kernel("LAUNCH_FAILED")
    step(*device)
    here = driver.current()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="CUDA_ERROR_LAUNCH_FAILED"):
            here.synchronize(0, here.stream(0) if hasattr(here, "stream") else 0)
    assert "as the test wanted" in machine.faults.pop()
    with pytest.raises(RuntimeError, match="CUDA_ERROR_LAUNCH_FAILED"):
        step(*device)


class Training:
    """A training that is short, and its results on the host."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.net = MLP([4, 8, 3])
        self.X, self.y = rng.normal(size=(20, 4)).astype(np.float32), rng.integers(0, 3, 20)
        self.expected = self.net.init(0)
        self.history = self.run(self.expected)

    def run(self, params):
        return self.net.fit(params, self.X, self.y, epochs=2, batch_size=8)

    def check(self):
        """It works, with the bits of the host."""
        params = cuda.to_device(self.net.init(0))
        there = self.run(params)
        np.testing.assert_array_equal(params.copy_to_host(), self.expected)
        np.testing.assert_array_equal(there.values("loss"), self.history.values("loss"))


@pytest.fixture(scope="module")
def training():
    return Training()


def positions(names, every):
    """Numbers of calls: all, or the first and the last of each name."""
    if every:
        return list(range(len(names)))
    return sorted({k for name in set(names) for k in (names.index(name), len(names) - 1 - names[::-1].index(name))})


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["some", "all"])
def test_a_training(machine, training, every):
    training.check()
    kept = [cuda.to_device(training.net.init(0))]
    fresh()
    names = calls_of(machine, lambda: training.run(kept[0]))
    for number in positions(names, every):
        kept.append(cuda.to_device(training.net.init(0)))
        cuda.synchronize()
        fresh()
        error = attempt(machine, names[number], number, lambda: training.run(kept[-1]))
        where = f"call {number}, {names[number]}, of {len(names)}: {error}"
        if error is not None:
            assert "CUDA_ERROR_" in str(error), where
        training.check()


def test_a_training_whose_kernel_fails(machine, training):
    params = cuda.to_device(training.net.init(0))
    cuda.synchronize()
    machine.fail_kernel("LAUNCH_FAILED")
    with pytest.raises(RuntimeError, match="CUDA_ERROR_LAUNCH_FAILED"):
        training.run(params)
    assert "as the test wanted" in machine.faults.pop()
    machine.heal()
    training.check()
