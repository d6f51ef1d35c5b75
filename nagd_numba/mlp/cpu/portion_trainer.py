"""Drives the training of one network on many ranks: each computes its rows of every batch, `ShardedStep` updates.

All ranks have all samples, and the same order of the rows.  Of a batch of `b` rows leaf `m` of `M` has rows
`[ceil(m b / M), ceil((m + 1) b / M))`; the leaves are the ranks, or with `reproducible` the micro-batches, of which a
rank has several.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ...distributed import ShardedStep
from ...distributed.tree import Tree
from ...optimizers.guard import Guard
from ...optimizers.registry import METHODS, optimizer_of
from ..dataset import Data
from ..plan import Plan
from ..spec import NetworkSpec
from ..sums import SUMS
from .epilogues import TILES, backward
from .inference import penalty_function
from .kernel_arguments import Functions
from .portions import Portion, flush_kernel, portion_kernel
from .trainer import Trainer, address, network_functions


class Sharing(NamedTuple):
    """How ranks share the batches; `micro_batches` are those of a batch, or None: each rank's rows are added up."""

    comm: Any
    micro_batches: int | None


class PortionTrainer(Trainer):
    """The same as `Trainer` for one network, on all ranks of `sharing.comm` together.

    `params` are the whole vector, on each rank; `vel` has the states that the training begins with, of which the rank
    keeps its slice (`sharded.states`).
    """

    def __init__(
        self,
        spec: NetworkSpec,
        params: np.ndarray,
        vel: np.ndarray,
        data: Data,
        plan: Plan,
        method: str,
        sharing: Sharing,
    ) -> None:
        comm, micro_batches = sharing
        self.comm = comm
        self.tree = Tree(micro_batches or comm.size, comm.size)
        self._leaves = self.tree.rows(comm.rank)
        merges, ends = self.tree.program(comm.rank)
        if micro_batches is None or plan.accumulate > 1:  # what is added to later batches is the sum of each leaf
            merges, ends = np.zeros_like(merges), np.arange(len(merges))
        self._program = merges, ends
        self._bounds: dict[int, tuple[int, np.ndarray]] = {}  # of the leaves, for each number of rows of a batch
        tiles = TILES + math.ceil(math.log2(len(self._leaves) + 1))
        super().__init__(spec, params, vel, data, plan, comm.size, tiles)
        optimizer = optimizer_of(method)
        clip = None if plan.clip == math.inf else Guard(clip_norm=plan.clip)
        reproducible: dict[str, Any] = (
            {} if micro_batches is None else {"reproducible": True, "micro_batches": micro_batches}
        )
        # What trains networks are the rule's own values: a choice of the public step may have another default.
        values = {**plan.rule.hyper, **METHODS[method].hyper}
        chosen = {x: optimizer.choices[x][int(values[x])] for x in optimizer.choices if x in values}
        options = {**chosen, **METHODS[method].options}
        self.sharded = ShardedStep(comm, params, optimizer.step, divisor=1.0, guard=clip, **reproducible, **options)
        self._numbers = [(k, x) for k, x in enumerate(plan.rule.hyper) if optimizer.is_number(x)]
        lo, hi = self.sharded.lo, self.sharded.hi
        for k, mine in enumerate(self.sharded.states.values()):
            mine[...] = vel[k * spec.size + lo : k * spec.size + hi]
        rows = int(ends.max(initial=-1)) + 1
        self.grads = np.empty((rows, spec.size), spec.dtype)
        self._given = self.grads.reshape(-1) if micro_batches is None else self.grads

    def epoch(
        self,
        order: np.ndarray,
        hyper: np.ndarray,
        seed: Any,
        first_step: int,
        on_call: Callable[[int], None] | None = None,
    ) -> np.ndarray:
        """Train over the rows in `order`; see `Trainer.epoch`.  Called by all ranks; the sums are the same on all."""
        sums = np.zeros((len(self._leaves), SUMS))
        network, _, batches, kept = self._epoch(order, hyper, seed, first_step, np.zeros(SUMS))
        kernel, flush = portion_kernel(self.spec.dtype_name).kernel, flush_kernel(self.spec.dtype_name)
        numbers = hyper.tolist()
        total, together = self.plan.steps(network.rows), self.plan.accumulate
        for s in range(total):
            if len(self._leaves):
                parallel, _ = self._autotuner.next(1)
                portion = self._portion(min(network.rows - s * self.plan.batch, self.plan.batch), sums)
                shares = self.shares if parallel else 1
                start = time.perf_counter()
                kernel(
                    *(network, self._samples, batches, self._memory.addresses, self._functions(parallel), portion),
                    *(s, shares),
                )
                self._autotuner.took(parallel, 1, time.perf_counter() - start)
            if (s + 1) % together == 0 or s + 1 == total:
                now = numbers[s // together]
                self.sharded.step(self._given, **{name: now[k] for k, name in self._numbers})
                for mine in self.sharded.states.values():
                    flush(mine)
            if on_call is not None:
                on_call(s + 1)
        del kept
        return self.tree.total(np.concatenate(self.comm.all_gather_object(sums)))

    def states(self, out: np.ndarray) -> None:
        """Collect the states of all ranks; called by all of them."""
        state = self.sharded.state_dict()
        for k, name in enumerate(self.sharded.states):
            out[k * self.spec.size : (k + 1) * self.spec.size] = state[name]

    def _portion(self, rows: int, sums: np.ndarray) -> Portion:
        """This rank's part of a batch of so many rows."""
        leaves, count = self._leaves, self.tree.micro_batches
        if rows not in self._bounds:
            numbers = [-(-m * rows // count) for m in range(leaves.start, leaves.stop + 1)]
            self._bounds[rows] = numbers[0], np.array(numbers) - numbers[0]
        low, bounds = self._bounds[rows]
        merges, ends = self._program
        return Portion(
            low=low,
            leaves=len(leaves),
            bounds=address(bounds),
            merges=address(merges),
            ends=address(ends),
            penalised=int(leaves.start == 0),
            grads=address(self.grads),
            sums=address(sums),
        )

    def _functions(self, parallel: bool) -> Functions:
        kind = self.spec.dtype_name
        return network_functions(self.spec, self.data, parallel)._replace(
            backward=backward(kind, self.spec.activation).address,
            penalty=penalty_function(kind).address if self.spec.l2 else 0,
        )
