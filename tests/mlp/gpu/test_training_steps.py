"""Training steps on CUDA, run in the emulator: parameters, velocities and sums have the bits of the CPU's."""

import dataclasses
import itertools

import numpy as np
import pytest

from nagd_numba import MLP
from nagd_numba.gpu import device_array
from nagd_numba.mlp.cpu.trainer import Trainer
from nagd_numba.mlp.dataset import Data
from nagd_numba.mlp.gpu import host_sums
from nagd_numba.mlp.gpu.multi_launch import MultiLaunch
from nagd_numba.mlp.gpu.step_table import StepTable
from nagd_numba.mlp.gpu.training_data import DeviceData, Epoch, Job, RecordAddresses
from nagd_numba.mlp.losses import LOSSES
from nagd_numba.mlp.plan import Normalization, Plan
from tests.helpers import driverless
from tests.helpers.backends import JIT_OFF

SEED, FIRST_STEP = 7, 11


@pytest.fixture(autouse=True)
def compiler():
    if JIT_OFF:
        pytest.skip("nothing is compiled with the JIT off")
    driverless.require()


class Case:
    """A network, its data, and an epoch over some of the rows."""

    def __init__(self, sizes, rows, loss="cross_entropy", activation="relu", dtype="float32", X="float32", **options):
        random = np.random.default_rng(0)
        weighted = options.pop("weighted", False)
        model = {name: options.pop(name) for name in ("dropout", "l2") if name in options}
        self.net = MLP(sizes, activation, loss, dtype=dtype, **model)
        self.labels, n = LOSSES[loss].labels, rows + 3
        self.params, self.vel = random.normal(scale=0.5, size=(2, self.net.size)).astype(dtype)
        x = random.integers(0, 256, (n, sizes[0])) if X == "uint8" else random.normal(size=(n, sizes[0]))
        y = random.integers(0, sizes[-1], n) if self.labels else random.integers(0, 2, (n, sizes[-1])).astype(dtype)
        weights = random.uniform(0, 2, n).astype(dtype) if weighted else np.zeros(0, dtype)
        self.data = Data(x.astype(X), y, weights, 1 / 255 if X == "uint8" else 1.0)
        self.order = random.permutation(n)[:rows]
        self.weights = weights[self.order][None] if weighted else None
        scaling = dataclasses.replace(
            Normalization.mean(self.net.spec), l2_by_samples=options.pop("l2_by_samples", False)
        )
        self.plan = Plan(normalization=scaling, **options)
        updates = -(-rows // (self.plan.batch * self.plan.accumulate))
        columns = np.linspace(0.1, 0.05, updates), np.full(updates, 0.9), np.full(updates, 0.8), np.zeros(updates)
        self.hyper = np.stack(columns, axis=1)

    def on_cpu(self):
        params, vel = self.params.copy(), self.vel.copy()
        trainer = Trainer(self.net.spec, params, vel, self.data, self.plan)
        return params, vel, trainer.epoch(self.order, self.hyper, np.uint64(SEED), FIRST_STEP)

    def on_device(self, gpu, calls=1):
        """The same, one launch or more for each pass, in so many calls."""
        spec, plan, data, n = self.net.spec, self.plan, self.data, len(self.order)
        params, vel, x, y, order = map(gpu.array, (self.params, self.vel, data.X, data.y, self.order))
        weights = device_array.describe("w", gpu.array(data.weights), False) if len(data.weights) else None
        X, t = (device_array.describe("data", array, False, None) for array in (x, y))
        there = DeviceData(X, t, weights, data.weights, data.scale, 0)
        steps = MultiLaunch(Job(spec, plan, int(params.pointer), int(vel.pointer), 1, there, 0))
        losses, measures = gpu.empty(n, np.float64, 0), gpu.empty((n, 3), np.float64, 0)
        squares = gpu.empty(plan.steps(n), np.float64, 0)
        table = StepTable.of(spec, plan, n, self.weights, self.hyper[None])
        records = RecordAddresses(*(int(x.pointer) for x in (losses, measures, squares)))
        epoch = Epoch(int(order.pointer), n, table, np.array([SEED], np.uint64), FIRST_STEP, records)
        start_steps = steps.of_epoch(epoch)
        edges = np.linspace(0, plan.steps(n), calls + 1).astype(int).tolist()
        for first, last in itertools.pairwise(edges):
            start_steps(first, last)
        found = host_sums.Records(*(gpu.download(x)[None] for x in (losses, measures, squares)))
        total = host_sums.host_sums(
            found, n, plan.batch, plan.normalization.loss_factor, table.decays, self.labels, self.weights
        )
        return gpu.download(params), gpu.download(vel), total[0]


CASES = {
    "pictures with dropout": Case([20, 9, 3], 20, X="uint8", dropout=0.3, l2=0.1, batch=6, measure=True),
    "everything apart": Case(
        *([20, 9, 3], 23), X="uint8", dropout=0.3, l2=0.1, batch=4, accumulate=2, clip=0.05, weighted=True,
        l2_by_samples=True, measure=True,
    ),
    "float64 from float32": Case(
        *([40, 37, 2], 23, "mse", "tanh", "float64"), batch=10, weighted=True, measure=True, l2=0.01
    ),
    "accumulated": Case([5, 4, 3, 2], 21, "binary_cross_entropy", "sigmoid", batch=5, accumulate=3, measure=True),
    "no hidden layer, batches of more than a block": Case([5, 3], 150, batch=140, measure=True),
    "batches of several blocks, the last of fewer": Case([5, 3], 370, batch=300, X="uint8", measure=True),
    "many outputs": Case([4, 3, 260], 5, "mse", "tanh", dropout=0.3, batch=5, measure=True),
}  # fmt: skip
IN_PARTS = "batches of several blocks, the last of fewer", "many outputs"
SLOWEST = "float64 from float32", "accumulated"


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(x, marks=pytest.mark.slow if x in SLOWEST else pytest.mark.ci if x in IN_PARTS else ())
        for x in CASES
    ],
)
def test_steps_equal_the_cpu(name):
    from tests.helpers import fake_driver

    case = CASES[name]
    with fake_driver.installed(multiprocessors=1000, order="random") as gpu:
        got = case.on_device(gpu, calls=2)
    for ours, expected in zip(got, case.on_cpu(), strict=True):
        assert ours.tobytes() == expected.tobytes()


def test_an_unfit_rate_is_refused_before_the_first_step():
    from tests.helpers import fake_driver

    case = CASES["pictures with dropout"]
    changed = Case([20, 9, 3], 20, X="uint8", dropout=0.3, l2=0.1, batch=6, measure=True)
    changed.hyper[-1, 0] = 1e300
    with fake_driver.installed() as gpu, pytest.raises(ValueError, match="leave the range of float32"):
        changed.on_device(gpu)
    assert not gpu.launches
    assert np.array_equal(changed.params, case.params)


def test_sums_of_a_diverged_training_are_not_numbers():
    records = host_sums.Records(np.array([[1.0, np.nan, 2.0]]), None, np.array([[np.inf, 1.0]]))
    found = host_sums.host_sums(records, 3, 2, 1.0, np.array([[0.0, 0.5]]), True)
    assert np.isnan(found[0, 0])
    assert found[0, 2] == 0.25  # a step without a penalty has none, whatever its squares are
