"""The persistent kernel's machine code, executed: the bits of the CPU, at a cost that must not grow."""

import numpy as np
import pytest

from nagd_numba import MLP
from nagd_numba.mlp.cpu.trainer import Trainer
from nagd_numba.mlp.dataset import Data
from nagd_numba.mlp.plan import Normalization, Plan
from tests.ptx import persistent_steps
from tests.ptx.persistent_steps import BATCH, HYPER, SIZES

pytestmark = pytest.mark.usefixtures("compiler")

INSTRUCTIONS, WAVEFRONTS = 58_400, 5_600  # of a step: 57,875 and 5,598 with NVVM 13.5; at first 116,926 and 17,996


@pytest.mark.ci
def test_a_step_has_the_bits_of_the_cpu_and_its_cost():
    one, two = persistent_steps.run(1), persistent_steps.run(2)
    net = MLP(SIZES, "relu", "cross_entropy", dtype="float32")
    params, vel = persistent_steps.inputs(net.size)
    x, y = persistent_steps.samples(3 * BATCH)
    plan = Plan(normalization=Normalization.mean(net.spec), batch=BATCH)
    trainer = Trainer(net.spec, params, vel, Data(x, y, np.zeros(0, np.float32), 1.0), plan)
    trainer.epoch(np.arange(2 * BATCH), np.tile(np.array(HYPER), (2, 1)), np.uint64(0), 0)
    assert two[1].tobytes() == params.tobytes()
    assert two[2].tobytes() == vel.tobytes()
    found = persistent_steps.cost(one[0], two[0])
    assert found.instructions <= INSTRUCTIONS
    assert found.wavefronts <= WAVEFRONTS
