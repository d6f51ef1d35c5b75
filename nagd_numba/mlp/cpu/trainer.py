"""Drives the compiled training steps of one network, or of many: memory, calls of about 100 ms, evaluation.

What is to be trained and when it ends is decided above (`fit.py`, the adapters); here an epoch is an order of the rows
and the rates of its updates.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from ...kernels import reductions, threading_layer
from ...kernels.aligned import aligned
from ...kernels.autotune import CALL_SECONDS, Autotuner
from ...kernels.jit import JIT_OFF
from ...kernels.parallel import parallel_for
from ..constants import rule_constants
from ..dataset import Data
from ..plan import Plan
from ..sparse import SparseRows
from ..spec import NetworkSpec, of_targets, terms
from ..sums import LOSS, PART, SUMS
from . import epilogues, evaluation, losses, minibatch, sparse_layer, train_kernels, updates
from .gemm import panels_size_of
from .inference import penalty_function
from .kernel_arguments import Batches, Evaluation, Functions, Memory, Network, Samples
from .microkernel import ROWS, tile

PARALLEL_FLOP = 6e6  # per step, from which on two threads beat one (benchmarks/training.py measures it)


class Trainer:
    """The kernels and the memory to train the networks in the rows of `params`, or the one in a vector `params`.

    `params` and `vel` are changed in place; `vel` holds the states of the rule, one after the other.
    """

    def __init__(
        self,
        spec: NetworkSpec,
        params: np.ndarray,
        vel: np.ndarray,
        data: Data,
        plan: Plan,
        ranks: int = 1,
        tiles: int = epilogues.TILES,
    ) -> None:
        self.spec, self.plan, self.data = spec, plan, data
        self.params, self.vel = params, vel
        self.networks = 0 if params.ndim == 1 else len(params)  # 0: one, and no first dimension
        rows = min(plan.batch, len(data.X))
        flop = 6.0 * rows * spec.size / ranks
        # One network's steps have threads of their own if they are long; many networks share the threads.
        parallel = threading_layer.parallel_allowed()
        if self.networks > 0:
            forms: tuple[bool, ...] = (parallel,)
            self.shares = min(self.networks, numba.get_num_threads()) if parallel else 1
        else:
            forms = (True, False) if parallel and flop >= PARALLEL_FLOP else (False,)
            self.shares = numba.get_num_threads() if len(forms) > 1 else 1
        self._fused = plan.accumulate == 1 and plan.clip == np.inf
        self._memory = Workspace(spec, rows, data, self.shares, self.networks > 0, tiles)
        self._autotuner = Autotuner(forms, flop * max(self.networks, 1) / self.shares / 2e10)
        self._samples = samples(data)

    def epoch(
        self,
        order: np.ndarray,
        hyper: np.ndarray,
        seed: Any,
        first_step: int,
        on_call: Callable[[int], None] | None = None,
    ) -> np.ndarray:
        """Train over the rows in `order`; returns the sums (see `train_kernels`).

        `hyper` has a row for each update; with many networks `order`, `hyper` and `seed` have one entry for each.
        `on_call(steps done)` follows every call of a kernel.
        """
        many = self.networks > 0
        sums = np.zeros((self.networks, SUMS) if many else SUMS)
        network, stride, batches, kept = self._epoch(order, hyper, seed, first_step, sums)
        total = self.plan.steps(network.rows)
        first = 0
        while first < total:
            parallel, count = self._autotuner.next(total - first)
            functions = self._functions(parallel)
            last = first + count
            start = time.perf_counter()
            if many:
                kernel = train_kernels.networks_kernel(self.spec.dtype_name)
                kernel(
                    *(network, stride, self._samples, batches, self._memory.addresses, self._memory.strides),
                    *(functions, first, last, self.networks, self.shares),
                )
            else:
                kernel = train_kernels.steps_kernel(self.spec.dtype_name).kernel
                shares = self.shares if parallel else 1
                kernel(network, self._samples, batches, self._memory.addresses, functions, first, last, shares)
            self._autotuner.took(parallel, count, time.perf_counter() - start)
            first = last
            if on_call is not None:
                on_call(first)
        del kept
        return sums

    def _epoch(
        self, order: np.ndarray, hyper: np.ndarray, seed: Any, first_step: int, sums: np.ndarray
    ) -> tuple[Network, Network, Batches, Any]:
        """What an epoch's kernels are given, and the arrays that must outlive their calls."""
        many = self.networks > 0
        seeds = np.empty((self.networks, 1) if many else 1, np.uint64)
        seeds[...] = np.reshape(seed, (-1, 1)) if many else seed
        order = np.ascontiguousarray(order, np.int64)
        scalars = rule_constants(self.plan.rule, self.plan.options, hyper, self.spec.dtype)
        dims = self.spec.dims
        arrays = {"params": self.params, "states": self.vel, "order": order, "scalars": scalars}
        arrays |= {"sums": sums, "seed": seeds}
        network = Network(
            sizes=address(dims),
            layers=len(dims) - 1,
            size=self.spec.size,
            rows=order.shape[-1],
            **{name: address(x, many) for name, x in arrays.items()},
        )
        strides = {name: x.strides[0] if many else 0 for name, x in arrays.items()}
        stride = Network(sizes=0, layers=0, size=0, rows=0, **strides)
        return network, stride, self._batches(first_step, scalars.shape[-1]), arrays

    def _batches(self, first_step: int, scalars: int) -> Batches:
        plan, norm = self.plan, self.plan.normalization
        return Batches(
            batch=plan.batch,
            accumulate=plan.accumulate,
            measure=int(plan.measure),
            fused=int(self._fused),
            scalars=scalars,
            l2=float(self.spec.l2),
            l2_by_samples=int(norm.l2_by_samples),
            clip=float(plan.clip),
            gradient_factor=float(norm.gradient_factor),
            gradient_divisor=int(norm.gradient_divisor),
            loss_factor=float(norm.loss_factor),
            keep=1.0 - self.spec.dropout,
            threshold=np.uint64(self.spec.threshold),
            first_step=np.uint64(first_step),
        )

    def _functions(self, parallel: bool) -> Functions:
        spec, plan, kind = self.spec, self.plan, self.spec.dtype_name
        made = network_functions(spec, self.data, parallel)._replace(
            backward=epilogues.backward(kind, spec.activation).address,
            **_sparse_gradient(kind, self.data.X),
            penalty=penalty_function(kind).address if spec.l2 else 0,
        )
        if self._fused:
            return made._replace(weights=epilogues.update(kind, plan.rule, plan.options).address)
        return made._replace(
            weights=epilogues.gradient(kind).address,
            apply=updates.apply_function(kind, plan.rule, plan.options).address,
            squares=reductions.squares_function(kind).address if plan.clip < np.inf else 0,
        )


class Workspace:
    """The memory of the training steps with batches of so many rows: see `kernel_arguments.Memory` for its parts.

    For many networks each of `shares` threads has all of it, else each has a buffer and a panel of its own.
    """

    def __init__(
        self, spec: NetworkSpec, rows: int, data: Data, shares: int, many: bool, tiles: int = epilogues.TILES
    ) -> None:
        targets, sparse = data.y, isinstance(data.X, SparseRows)
        values = data.X.most(rows) if isinstance(data.X, SparseRows) else 0
        hidden, outputs = sum(spec.sizes[1:-1]), spec.sizes[-1]
        buffer = tiles * ROWS * tile(spec.dtype_name).columns
        panel = panels_size_of(spec.dtype_name)(rows, max(spec.sizes))
        kinds = {"losses": np.float64, "measures": np.float64, "lanes": np.float64, "targets": targets.dtype}
        kinds |= {"ends": np.int64, "rows_of": np.int64}
        sizes = {
            "x": 0 if sparse else rows * spec.sizes[0],
            "targets": rows * targets[:1].size,
            "weights": rows,
            "hidden": rows * hidden,
            "deltas": rows * (hidden + outputs),
            "z": rows * outputs,
            "losses": rows,
            "measures": rows * minibatch.MEASURES,
            "grads": spec.size,
            "lanes": reductions.LANES,
            "ends": spec.sizes[0] + 1 if sparse else 0,
            "rows_of": values,
            "values": values,
        }
        lead = (shares,) if many else ()
        self.arrays = {name: aligned((*lead, size), kinds.get(name, spec.dtype)) for name, size in sizes.items()}
        for name, size in (("buffers", buffer), ("panels", panel)):
            self.arrays[name] = aligned((shares, size), spec.dtype)
        self.one = np.ones(1, spec.dtype)
        self.addresses = Memory(
            **{name: address(x, many) for name, x in self.arrays.items()},
            one=address(self.one),
            buffer=buffer,
            panel=panel,
        )
        strides = {name: x.strides[0] if many else 0 for name, x in self.arrays.items()}
        self.strides = Memory(**strides, one=0, buffer=0, panel=0)


def address(x: np.ndarray, rows: bool = False) -> Any:
    """Where an array begins; with the JIT off the array, flat or (with `rows`) with flat rows."""
    if JIT_OFF:
        return x.reshape(len(x), math.prod(x.shape[1:])) if rows else x.reshape(-1)
    return x.ctypes.data


def samples(data: Data) -> Samples:
    """The data for the kernels; it must outlive their use."""
    X = data.X
    arrays = (X.values, X.columns, X.starts) if isinstance(X, SparseRows) else (X,)
    values, columns, starts, *_ = (*map(address, arrays), 0, 0)
    return Samples(
        X=values,
        columns_of_X=columns,
        starts_of_X=starts,
        y=address(data.y),
        weights=address(data.weights),
        weighted=int(len(data.weights) > 0),
        columns=data.y[:1].size,
        scale=float(data.scale),
    )


def network_functions(spec: NetworkSpec, data: Data, parallel: bool) -> Functions:
    """The functions that training and evaluation have in common."""
    kind, loss = spec.dtype_name, of_targets(spec, data.y.ndim).loss
    X, first_layer, gather = data.X, 0, 0
    if isinstance(X, SparseRows):
        first_layer = sparse_layer.first_layer_function(kind, X.columns.dtype.name).address
    else:
        gather = minibatch.inputs_function(kind, X.dtype.name).address
    return Functions(
        gather_inputs=gather,
        gather_targets=minibatch.targets_function(data.y.dtype.name).address,
        forward=epilogues.forward(kind, spec.activation).address,
        loss=losses.loss_function(kind, loss).address,
        measure=minibatch.measure_function(kind, loss).address,
        backward=0,
        weights=0,
        apply=0,
        penalty=0,
        squares=0,
        parallel_for=parallel_for().address if parallel else 0,
        first_layer=first_layer,
        by_columns=0,
        first_weights=0,
    )


def _sparse_gradient(kind: str, X: Any) -> dict[str, Any]:
    """The functions for the gradient of the first layer where X is sparse."""
    if not isinstance(X, SparseRows):
        return {}
    return {
        "by_columns": sparse_layer.by_columns_function(kind, X.columns.dtype.name).address,
        "first_weights": sparse_layer.first_weights_function(kind).address,
    }


def shuffled(orders: np.ndarray, rows: np.ndarray, seeds: np.ndarray, epoch: int) -> None:
    """Each of `orders` becomes a permutation of `rows`: a function of its seed, uint64, and the epoch."""
    minibatch.shuffle_kernel()(orders, rows, seeds, np.uint64(epoch))


def evaluate(spec: NetworkSpec, params: np.ndarray, data: Data, rows: np.ndarray, comm: Any = None) -> np.ndarray:
    """The sums of `train_kernels` over these rows, without dropout and penalty.

    With `comm` each of its ranks has a share of the rows; the sums are the same, to the last bit.
    """
    if comm is not None and comm.size > 1:
        parts = -(-len(rows) // PART)
        first, last = (k * parts // comm.size * PART for k in (comm.rank, comm.rank + 1))
        results = np.concatenate(comm.all_gather_object(_results(spec, params, data, rows[first:last])))
    else:
        results = _results(spec, params, data, rows)
    sums = results.sum(axis=0)
    sums[LOSS] /= terms(spec)
    return np.asarray(sums)


def _results(spec: NetworkSpec, params: np.ndarray, data: Data, rows: np.ndarray) -> np.ndarray:
    """The sums of each part of these rows."""
    rows = np.ascontiguousarray(rows, np.int64)
    results = np.zeros((-(-len(rows) // PART), SUMS))
    flop = 2.0 * PART * spec.size
    parallel = threading_layer.parallel_allowed() and flop * len(results) >= PARALLEL_FLOP
    at_once = max(1, int(CALL_SECONDS * 2e10 / flop))  # parts
    functions, given = network_functions(spec, data, parallel), samples(data)
    kernel = evaluation.evaluation_kernel(spec.dtype_name)
    targets = np.empty((min(at_once, len(results)), PART * given.columns), data.y.dtype)
    for first in range(0, len(results), at_once):
        order = rows[first * PART : (first + at_once) * PART]
        parts = results[first : first + at_once]
        given_rows = Evaluation(
            params=address(params),
            sizes=address(spec.dims),
            layers=len(spec.dims) - 1,
            order=address(order),
            rows=len(order),
            targets=address(targets, rows=True),
            stride=targets.strides[0],
            results=address(parts),
        )
        kernel(given_rows, given, functions, len(parts))
    return results
