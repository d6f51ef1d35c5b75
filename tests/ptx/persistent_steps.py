"""What a training step of the persistent kernel costs, from its machine code.

    python -m tests.ptx.persistent_steps

prints the instructions that the warps of the block issue for one step, and how often they ask shared memory, for the
network 64-128-10 in float32 and batches of 32: on a Hopper multiprocessor at least a cycle for each four instructions
and for each time that shared memory is asked.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from nagd_numba import MLP
from nagd_numba.gpu.compiler import Kernel
from nagd_numba.mlp.gpu import persistent
from nagd_numba.mlp.gpu.persistent import THREADS
from nagd_numba.optimizers.registry import RULES
from tests.ptx import machine_code
from tests.ptx.sass.listing import Listing
from tests.ptx.sass.machine import Block, Counts, constant_bank
from tests.ptx.sass.memory import Device

HOPPER = (9, 0)
SIZES, BATCH = (64, 128, 10), 32
HYPER = 0.1, 0.9, 0.9, 0.0


class Cost(NamedTuple):
    """What one step issues."""

    instructions: int
    wavefronts: int

    @property
    def cycles(self) -> int:
        """Least cycles: four schedulers, and one unit for shared memory."""
        return max(self.instructions // 4, self.wavefronts)


def kernel() -> Kernel:
    rule = RULES["nesterov"]
    return persistent.kernel("float32", "float32", "relu", "cross_entropy", False, False, False, rule, rule.defaults())


def run(steps: int, rows: int = 3 * BATCH) -> tuple[Counts, np.ndarray, np.ndarray, np.ndarray]:
    """So many steps over these rows: counts, parameters, velocities, losses."""
    listing = Listing.of(machine_code.disassembled(kernel().image(HOPPER)))
    device, random = Device(), np.random.default_rng(0)
    net = MLP(SIZES, "relu", "cross_entropy", dtype="float32")
    params, vel = inputs(net.size)
    x, y = samples(rows)
    rates = np.zeros((-(-rows // BATCH), persistent.COLUMNS + RULES["nesterov"].constant_count), np.float32)
    rates[:, 0] = 1 / BATCH
    rates[:, 2:] = RULES["nesterov"].scalars(HYPER, np.dtype("float32"), RULES["nesterov"].defaults())
    placed = {
        "params": device.array(params),
        "vel": device.array(vel),
        "X": device.array(x),
        "y": device.array(y),
        "order": device.array(np.arange(rows)),
        "sizes": device.array(np.array(SIZES, np.int64)),
        "rates": device.array(rates),
        "seeds": device.array(np.zeros(2, np.uint64)),
        "losses": device.array(np.zeros(rows)),
    }
    at = {name: np.uint64(array.address) for name, array in placed.items()}
    none, long = np.uint64(0), np.int64
    del random
    parameters: list[Any] = [
        *(at["params"], at["vel"], long(net.size), at["X"], at["y"], none, np.float32(1)),
        *(at["order"], long(rows), long(0), long(steps), long(BATCH), at["sizes"], long(len(SIZES) - 1)),
        *(at["rates"], at["seeds"], np.float32(1), np.float32(1), np.uint64(0), at["losses"], none, none),
    ]
    counts = Block(listing, device, constant_bank(1, THREADS, parameters), THREADS).run()
    return counts, placed["params"].data, placed["vel"].data, placed["losses"].data


def inputs(size: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    return random.normal(scale=0.3, size=size).astype(np.float32), np.zeros(size, np.float32)


def samples(rows: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(1)
    return random.normal(size=(rows, SIZES[0])).astype(np.float32), random.integers(0, SIZES[-1], rows)


def cost() -> Cost:
    """Of one step: what a third step adds, whose batch is loaded during the second."""
    two, three = run(2)[0], run(3)[0]
    return Cost(three.instructions - two.instructions, three.wavefronts - two.wavefronts)


def main() -> None:
    two, three = run(2)[0], run(3)[0]
    for name, count in (three.issued - two.issued).most_common(40):
        print(f"{count:8} {name}")
    found = Cost(three.instructions - two.instructions, three.wavefronts - two.wavefronts)
    print(f"{found.instructions} instructions, {found.wavefronts} wavefronts: at least {found.cycles} cycles")


if __name__ == "__main__":
    main()
