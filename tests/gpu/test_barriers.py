"""Every barrier of every kernel is needed: where one orders nothing, the emulator finds a race."""

from collections import defaultdict

import numpy as np
import pytest

from nagd_numba import MLP, Guard, step
from nagd_numba.kernels.reductions import BLOCK
from tests.helpers import fake_driver, planted

pytestmark = pytest.mark.usefixtures("compiler")

FITS, TOO_LARGE = 227 << 10, 0  # bytes of shared memory: for the persistent kernel, or too few for it
SIZES, ROWS = [70, 40, 33, 40], 60  # more terms than a product has in shared memory at once, and two hidden layers


def problem(net):
    rng = np.random.default_rng(0)
    labels = net.loss_name == "cross_entropy"
    y = rng.integers(0, SIZES[-1], ROWS) if labels else rng.integers(0, 2, (ROWS, SIZES[-1])).astype(net.dtype)
    return rng.normal(size=(ROWS, SIZES[0])).astype(net.dtype), y


def fit(gpu, model, **keywords):
    net = MLP(SIZES, **model)
    X, y = problem(net)
    params, vel = gpu.array(net.init(0)), gpu.array(np.zeros(net.size, net.dtype))
    net.fit(params, gpu.array(X), gpu.array(y), vel=vel, epochs=1, batch_size=24, **keywords)


def assert_all_needed(barriers):
    """A barrier that one variant of a kernel does not need is there for another."""
    missed, lines = set(barriers.unneeded()), defaultdict(list)
    for place in barriers.seen:
        lines[place[1]].append(place not in missed)
    assert lines
    assert [line for line, needed in lines.items() if not any(needed)] == []


def test_predictions():
    with fake_driver.installed() as gpu, planted.barriers(gpu) as barriers:
        net = MLP(SIZES)
        net.predict(gpu.array(net.init(0)), gpu.array(problem(net)[0]))
    assert_all_needed(barriers)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "tf32"])
def test_training_by_many_launches(precision):
    model = {"l2": 0.01} | ({"precision": precision} if precision != "float32" else {})
    with fake_driver.installed(shared_limit=TOO_LARGE) as gpu, planted.barriers(gpu) as barriers:
        fit(gpu, model)
        fit(gpu, model, clip=0.5)
    assert_all_needed(barriers)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_persistent_training():
    with fake_driver.installed(shared_limit=FITS) as gpu, planted.barriers(gpu) as barriers:
        for loss in ("cross_entropy", "mse"):
            for l2 in (0.01, 0):
                fit(gpu, {"loss": loss, "l2": l2}, metrics=["accuracy"])
    assert_all_needed(barriers)


@pytest.mark.slow
def test_guarded_steps():
    """Several blocks of elements for a block of threads; many arrays; sums and factors that leave the range."""
    rng = np.random.default_rng(0)
    cases = [
        ([BLOCK + 70], 1.0, {"clip_norm": 1.0}),
        ([BLOCK + 70], 1e200, {"clip_norm": 1.0}),
        ([130, 130], 1e308, {"grad_scale": 3.0}),
        ([1] * 600, 1.0, {"clip_norm": 1.0}),
        ([1] * 600, 1e200, {"clip_norm": 1.0}),
    ]
    with fake_driver.installed(multiprocessors=1) as gpu, planted.barriers(gpu) as barriers:
        for sizes, magnitude, options in cases:
            params, grads, vel = ([rng.uniform(0.5, 1.5, n) for n in sizes] for _ in range(3))
            device = [[gpu.array(x * by) for x in column] for column, by in ((params, 1), (grads, magnitude), (vel, 1))]
            step(*device, lr=0.1, guard=Guard(**options))
    assert_all_needed(barriers)
