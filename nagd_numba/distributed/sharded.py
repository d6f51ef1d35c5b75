"""`ShardedStep`: a step of N processes on one vector, each with 1/N of the states."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import validation
from .._version import __version__
from ..optimizers.guard import Guard
from .across import GuardOverRanks, OverRanks
from .agreement import Check, agree
from .arrays import gradient, vector
from .communicator import communicator
from .device import DeviceExchange, device_gradient, device_vector
from .exchange import Exchange
from .memory import copied, to_host, zeros_like
from .orders import RankOrder, TreeOrder
from .saving import Saved
from .settings import Settings, optimizer_named
from .slices import Slices
from .threads import at_most, fair_share
from .watch import watch

BUCKET = 1 << 21  # elements: fewer cost more messages than they hide, more cost memory (benchmarks/distributed.py)
_GUARD = ("clip_norm", "clip_value", "nonfinite", "grad_scale", "growth_interval", "growth_factor", "backoff_factor")


class ShardedStep(Saved):
    r"""One step of N processes on one vector of parameters, each keeping 1/N of the states of the rule.

    With the gradients `g_0 ... g_(N-1)` of the ranks at the same parameters `p`, the divisor `d` (N unless given), and
    the rule's update `U`:

        g <- (((g_0 + g_1) + g_2) + ...) / d        each rank for its slice
        p, states <- U(p, g, states)                each rank for its slice
        p <- the slices of all ranks                on all ranks

    Parameters
    ----------
    comm : mpi4py.MPI.Intracomm, torch.distributed.ProcessGroup, None, or `distributed.communicator` of one
        All of its ranks call the constructor, and every method that says so.  None: one process.
    params : array
        The parameters, float32 or float64, contiguous, of any shape, in host memory, the same on all ranks; each step
        modifies them in place, on all ranks.  NumPy, or anything with DLPack on the CPU (PyTorch).
        Or on a CUDA device, with a CUDA-aware MPI, PyTorch's "cpu:gloo,cuda:nccl" or NCCL: not tested on devices.
    rule : str or function
        A name of `nagd_numba.optimizers.registry.OPTIMIZERS` ("nesterov", "adam", ...), or a public step.
    reproducible : bool
        Add up in an order that does not depend on the number of ranks: see `step`.
    micro_batches : int
        With `reproducible`: how many gradients the ranks have together, >= 1.
    guard : nagd_numba.Guard, optional
        Its norm is that of the whole gradient `g`, in the bits that one process would find; an element that is not
        finite, on whichever rank, makes all ranks skip, or raise, together.
    buckets : int, optional
        Into how many parts each slice is cut, so that one travels while another is computed; >= 1.  By default one for
        each 2^21 elements of `params`.  Bits do not depend on it.
    divisor : float, optional
        `d`, > 0.  By default the number of gradients, so that `g` is their mean: N, or `micro_batches`.
    timeout : float
        Seconds that a rank waits for others in one call before it ends all of them, > 0.
    **options
        What the public step of the rule takes behind its arrays: `lr`, `momentum`, `convention`, ...

    Attributes
    ----------
    params : array
        As given.
    states : dict
        The slice of each state of the rule, vectors: zeros at first (FISTA's iterate and schedule-free z:
        the parameters).
    lo, hi : int
        Where this rank's slice begins, and where it ends.
    t : int
        The number of steps that were made, without the skipped ones.
    skipped : bool
        Did the guard make the last step leave everything as it was?
    guard, comm, optimizer, slices
        What the step works with.

    Raises
    ------
    TypeError, ValueError
        For unfit arguments, on the ranks that have them, and on all ranks where the ranks differ in the number or
        dtype of the parameters, in their values, in the rule or in an option.
    RuntimeError
        On the other ranks where one has unfit arguments.

    Notes
    -----
    A slice is a whole number of blocks of 4096 elements; the last ones may be shorter, or empty.  Every rank sends
    `2 (N - 1)/N` times the bytes of `params` in a step, and keeps `1/N` of each state.

    From the second rank on, a thread of each rank watches the others: when one of them is killed, raises an exception
    that nobody catches, or keeps the others waiting, every rank writes a message to the standard error and ends with
    the status 1.

    References
    ----------
    S. Rajbhandari et al., ZeRO, SC 2020, arXiv:1910.02054: this is its first stage.

    Examples
    --------
    One process; with `mpi4py.MPI.COMM_WORLD` in the place of None, and by `mpiexec -n 4 python program.py`, four:

    >>> import numpy as np
    >>> from nagd_numba.distributed import ShardedStep
    >>> params = np.zeros(3, np.float32)
    >>> sharded = ShardedStep(None, params, lr=0.1, momentum=0.5)
    >>> for _ in range(100):
    ...     _ = sharded.step(params - 1)
    >>> bool(abs(params - 1).max() < 1e-6), sharded.t
    (True, 100)
    """

    def __init__(
        self,
        comm: Any,
        params: Any,
        rule: str | Callable[..., Any] = "nesterov",
        *,
        reproducible: bool = False,
        micro_batches: int = 8,
        guard: Guard | None = None,
        buckets: int | None = None,
        divisor: float | None = None,
        timeout: float = 600.0,
        **options: Any,
    ) -> None:
        self.comm = comm = communicator(comm)
        self._watch = watch(comm)
        self._timeout = 600.0
        self.t = 0
        error: Exception | None = None
        said: dict[str, Any] = {}
        try:
            with validation.prefixed("ShardedStep"):
                if guard is not None and not isinstance(guard, Guard):
                    raise TypeError(f"guard is {validation.type_of(guard)}; a nagd_numba.Guard is needed")
                self.guard, self.params = guard, params
                self._device = validation.is_device_array(params)
                to_vector = device_vector if self._device else vector
                self._flat: Any = to_vector("params", params, write=True)
                self.optimizer = optimizer_named(rule)
                self._settings = Settings(self.optimizer, self._flat.dtype, options)
                self.reproducible = validation.flag("reproducible", reproducible)
                self.micro_batches = validation.whole("micro_batches", micro_batches)
                n = self._flat.size
                count = -(-n // BUCKET) if buckets is None else validation.whole("buckets", buckets)
                self.slices = Slices(n, comm.size, max(1, count))
                self._divisor = None if divisor is None else validation.number("divisor", divisor, low_open=True)
                if self._device or comm.on_device:
                    self._check_device(buckets)
                self._timeout = validation.number("timeout", timeout, low_open=True)
                said = self._said()
        except (TypeError, ValueError) as caught:
            error = caught
        with self._waiting("ShardedStep"):
            agree(comm, "ShardedStep", said, error)
            agree(
                comm,
                "ShardedStep",
                {"params (their sha256)": hashlib.sha256(to_host(self._flat).data).hexdigest()[:16]},
            )
            self._threads = fair_share(comm)
        dtype = self._flat.dtype
        order = TreeOrder(comm, dtype, self.micro_batches) if self.reproducible else RankOrder(comm, dtype)
        self._order: Any = order
        self._exchange: Any = (
            DeviceExchange(comm, self.slices, dtype) if self._device else Exchange(comm, self.slices, dtype, order)
        )
        self.lo, self.hi = self.slices.of(comm.rank)
        mine = self._flat[self.lo : self.hi]
        points = self.optimizer.points
        self.states = {x: copied(mine) if x in points else zeros_like(mine) for x in self.optimizer.rule.states}
        self._over = OverRanks(comm, self.slices)
        self._kept: np.ndarray | None = None  # the gradient of the slice, where a guard sees it before the step

    @property
    def skipped(self) -> bool:
        """Did the last step leave everything as it was, by its guard?  The same on all ranks."""
        return self.guard is not None and self.guard.skipped

    def step(self, grads: Any, *, divisor: float | None = None, **numbers: Any) -> Any:
        """One step; called by all ranks.

        Parameters
        ----------
        grads : array
            This rank's gradient at `params`: the same dtype and number of elements, contiguous, in host memory.  Not
            modified; may be read-only.  With `reproducible` a matrix, a row for each micro-batch of this rank, which
            are added up along a fixed tree over all micro-batches; or a row for each of `tree.Tree.nodes` of this
            rank, already added up along it.
        divisor : float, optional
            For this step, as in the constructor.
        **numbers
            Hyper-parameters for this step, the same on all ranks: `lr`, `momentum`, ... .  A number `t` of the step
            that is left out is counted (`self.t + 1`), but for FISTA's, which needs one.

        Returns
        -------
        params, the same object, on all ranks with the same bits.

        Raises
        ------
        TypeError, ValueError
            On a rank with unfit arguments, and on all ranks where the ranks differ in a number.
        RuntimeError
            On the other ranks where one has unfit arguments.  Nothing was changed on any rank.
        FloatingPointError
            On all ranks, by a guard that says so.

        Examples
        --------
        See the class.
        """
        error: Exception | None = None
        settings: dict[str, Any] = {}
        by = self._order.divisor
        try:
            with validation.prefixed("ShardedStep.step"):
                first, last = self._order.rows_of(self.comm.rank)
                fit: Any = device_gradient if self._device else gradient
                source = fit(grads, self._flat, self._order.needs_rows, last - first)
                settings = self._settings.of_step(numbers, self.t + 1)
                if divisor is not None or self._divisor is not None:
                    by = validation.number("divisor", self._divisor if divisor is None else divisor, low_open=True)
        except (TypeError, ValueError) as caught:
            error = caught
            if self.comm.size == 1:
                raise
            rows = self._order.needs_rows
            source = np.zeros(self._flat.size if rows is None else (rows, self._flat.size), self._flat.dtype)
        with self._waiting(f"step {self.t + 1}"), at_most(self._threads):
            check = self._check(settings, by, error)
            done = self._guarded if self.guard is not None else self._unguarded
            if not done(source, settings, by, (lambda: True) if check is None else check.passed):
                assert check is not None
                check.explain()
        if not self.skipped:
            self.t = int(settings["t"]) if self._settings.counts else self.t + 1
            validation.tell_torch(self.params)
        return self.params

    def _waiting(self, where: str) -> Any:
        return contextlib.nullcontext() if self._watch is None else self._watch.waiting(where, self._timeout)

    def _unguarded(self, grads: np.ndarray, settings: dict[str, Any], by: float, ready: Callable[[], bool]) -> bool:
        under_way: list[Any] = []

        def use(bucket: int, total: np.ndarray) -> None:
            start, stop = self.slices.part(self.comm.rank, bucket)
            if stop > start:
                states = (x[start - self.lo : stop - self.lo] for x in self.states.values())
                self.optimizer.step(self._flat[start:stop], total, *states, **settings)
            under_way.extend(self._exchange.send_params(self._flat, bucket))

        done: bool = self._exchange.gradients(grads, by, ready, use)
        self.comm.wait(under_way)
        return done

    def _guarded(self, grads: np.ndarray, settings: dict[str, Any], by: float, ready: Callable[[], bool]) -> bool:
        if self._kept is None:
            self._kept = np.empty(self.hi - self.lo, self._flat.dtype)
        kept = self._kept

        def use(bucket: int, total: np.ndarray) -> None:
            start, stop = self.slices.part(self.comm.rank, bucket)
            kept[start - self.lo : stop - self.lo] = total

        if not self._exchange.gradients(grads, by, ready, use):
            return False
        assert self.guard is not None
        guard = GuardOverRanks(self.guard, self._over)
        self.optimizer.step(self._flat[self.lo : self.hi], kept, *self.states.values(), guard=guard, **settings)
        if not self.guard.skipped:
            self._exchange.all_params(self._flat)
        return True

    def _check(self, settings: dict[str, Any], by: float, error: Exception | None) -> Check | None:
        """Begin to agree with the other ranks on this step."""
        if self.comm.size == 1:
            return None
        guard = {} if self.guard is None else {f"guard.{x}": getattr(self.guard, x) for x in _GUARD}
        return Check(self.comm, "ShardedStep.step", {**settings, **guard, "divisor": by, "step": self.t + 1}, error)

    def _check_device(self, buckets: int | None) -> None:
        """Raise for what is not for device arrays, and for an engine that carries nothing else beside host arrays."""
        if not self._device:
            raise ValueError("params is a host array, and comm carries device arrays alone: cuda.to_device(params)")
        if self.reproducible or self.guard is not None or buckets is not None:
            raise ValueError("reproducible, guard and buckets are for host arrays; params is on a CUDA device")
        self.slices = Slices(self._flat.size, self.comm.size)

    def _said(self) -> dict[str, Any]:
        """What must be the same on all ranks."""
        guard = {} if self.guard is None else {f"guard.{x}": getattr(self.guard, x) for x in _GUARD}
        return {
            "version": __version__,
            "the number of params": self._flat.size,
            "dtype": str(self._flat.dtype),
            "rule": self.optimizer.name,
            "reproducible": self.reproducible,
            "micro_batches": self.micro_batches if self.reproducible else None,
            "buckets": self.slices.buckets,
            "divisor": self._divisor,
            "guard": self.guard is not None,
            **guard,
            **self._settings.given,
        }
