"""`ShardedStep`: a step of N processes on one vector, each with 1/N of the states."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .. import validation
from .._version import __version__
from ..optimizers.guard import Guard
from . import checkpoint
from .across import GuardOverRanks, OverRanks
from .agreement import Check, agree
from .communicator import communicator
from .exchange import Exchange
from .orders import RankOrder, TreeOrder
from .settings import Settings, optimizer_named
from .slices import Slices
from .threads import at_most, fair_share
from .watch import watch

BUCKET = 1 << 21  # elements: fewer cost more messages than they hide, more cost memory (benchmarks/distributed.py)
_GUARD = ("clip_norm", "clip_value", "nonfinite", "grad_scale")


class ShardedStep:
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
        self._timeout = validation.number("timeout", timeout, low_open=True)
        self.t = 0
        error: Exception | None = None
        said: dict[str, Any] = {}
        try:
            with validation.prefixed("ShardedStep"):
                if guard is not None and not isinstance(guard, Guard):
                    raise TypeError(f"guard is {validation.type_of(guard)}; a nagd_numba.Guard is needed")
                self.guard, self.params, self._flat = guard, params, _vector("params", params, write=True)
                self.optimizer = optimizer_named(rule)
                self._settings = Settings(self.optimizer, self._flat.dtype, options)
                self.reproducible = validation.flag("reproducible", reproducible)
                self.micro_batches = validation.whole("micro_batches", micro_batches)
                n = self._flat.size
                count = -(-n // BUCKET) if buckets is None else validation.whole("buckets", buckets)
                self.slices = Slices(n, comm.size, max(1, count))
                self._divisor = None if divisor is None else validation.number("divisor", divisor, low_open=True)
                said = self._said()
        except (TypeError, ValueError) as caught:
            error = caught
        with self._waiting("ShardedStep"):
            agree(comm, "ShardedStep", said, error)
            agree(comm, "ShardedStep", {"params (their sha256)": hashlib.sha256(self._flat.data).hexdigest()[:16]})
            self._threads = fair_share(comm)
        dtype = self._flat.dtype
        order = TreeOrder(comm, dtype, self.micro_batches) if self.reproducible else RankOrder(comm, dtype)
        self._order: Any = order
        self._exchange = Exchange(comm, self.slices, dtype, order)
        self.lo, self.hi = self.slices.of(comm.rank)
        # A rule that trains no networks is one whose states do not begin with zeros: it begins at the parameters.
        mine = self._flat[self.lo : self.hi]
        zeros = bool(self.optimizer.methods)
        self.states = {x: np.zeros_like(mine) if zeros else mine.copy() for x in self.optimizer.rule.states}
        self._over = OverRanks(comm, self.slices)
        self._kept: np.ndarray | None = None  # the gradient of the slice, where a guard sees it before the step

    @property
    def skipped(self) -> bool:
        """Did the last step leave everything as it was, by its guard?  The same on all ranks."""
        return self.guard is not None and self.guard.skipped

    def step(self, grads: Any, *, divisor: float | None = None, **numbers: Any) -> Any:
        error: Exception | None = None
        settings: dict[str, Any] = {}
        by = self._order.divisor
        try:
            with validation.prefixed("ShardedStep.step"):
                source = self._gradient(grads)
                settings = self._settings.of_step(numbers, self.t + 1)
                if divisor is not None or self._divisor is not None:
                    by = validation.number("divisor", divisor or self._divisor, low_open=True)
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

    def state_dict(self) -> dict[str, Any]:
        """The parameters and the whole states, the same for any number of ranks; called by all ranks.

        Returns
        -------
        dict
            `params` and each state of the rule, vectors of all elements (copies); `t`, the number of steps; `rule`.
        """
        made: dict[str, Any] = {"rule": self.optimizer.name, "t": self.t, "params": self._flat.copy()}
        with self._waiting("state_dict"):
            for name, mine in self.states.items():
                made[name] = np.empty_like(self._flat)
                made[name][self.lo : self.hi] = mine
                self._exchange.all_params(made[name])
        return made

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave, here or with another number of ranks; called by all ranks.

        Parameters
        ----------
        state : mapping
            With `params`, the states of the rule, `t` and `rule`; the same on all ranks.

        Raises
        ------
        TypeError, ValueError
            On all ranks, before anything is changed: for another rule, a missing array, another dtype or length.
        """
        error: Exception | None = None
        said: dict[str, Any] = {}
        names = ("params", *self.states)
        try:
            with validation.prefixed("ShardedStep.load_state_dict"):
                missing = [x for x in ("rule", "t", *names) if x not in state]
                if missing:
                    raise ValueError(f"state has no {missing[0]!r}; what state_dict() gave is needed")
                if state["rule"] != self.optimizer.name:
                    raise ValueError(f"state is of {state['rule']!r}; one of {self.optimizer.name!r} is needed")
                vectors = {x: _vector(x, state[x], write=False) for x in names}
                validation.same_kind([("params here", self._flat), *vectors.items()])
                t = validation.whole("t", state["t"], least=0)
                said = {"t": t} | {x: hashlib.sha256(vector.data).hexdigest()[:16] for x, vector in vectors.items()}
        except (TypeError, ValueError) as caught:
            error = caught
        with self._waiting("load_state_dict"):
            agree(self.comm, "ShardedStep.load_state_dict", said, error)
        self._flat[...] = vectors["params"]
        for name, mine in self.states.items():
            mine[...] = vectors[name][self.lo : self.hi]
        self.t = t
        validation.tell_torch(self.params)

    def save(self, path: str | Path, extra: Any = None) -> None:
        """Write a checkpoint, each rank its part; called by all ranks, with the same arguments.

        Parameters
        ----------
        path : str or path
            A directory that all ranks share; made where there is none.  A checkpoint that is there is replaced, as a
            whole or not at all: where a rank is killed meanwhile, or cannot write, the old one stays.
        extra : optional
            Anything that JSON can hold, the same on all ranks (the number of the epoch, a history): `load` returns it.

        Raises
        ------
        OSError
            Where this rank cannot write; the others then raise a `RuntimeError`.
        """
        arrays = {"params": self._flat[self.lo : self.hi], **self.states}
        about = {**self._meaning(), "t": self.t, "ranks": self.comm.size, "extra": extra}
        with self._waiting("save"):
            checkpoint.save(self.comm, Path(path), arrays, (self.lo, self.hi), about)

    def load(self, path: str | Path) -> Any:
        """Take over a checkpoint, written by any number of ranks; called by all ranks.

        Parameters
        ----------
        path : str or path
            The directory given to `save`.

        Returns
        -------
        what was given to `save` as `extra`.

        Raises
        ------
        OSError, ValueError
            Where this rank cannot read its elements, or they are of another rule, length or dtype; the others then
            raise a `RuntimeError`.  Nothing is changed on any rank.
        """
        names = ("params", *self.states)
        with self._waiting("load"):
            made, manifest = checkpoint.load(
                self.comm, Path(path), names, (self.lo, self.hi), self._meaning(), self._flat.dtype
            )
            self._flat[self.lo : self.hi] = made["params"]
            for name, mine in self.states.items():
                mine[...] = made[name]
            self.t = int(manifest["t"])
            self._exchange.all_params(self._flat)
        validation.tell_torch(self.params)
        return manifest["extra"]

    def _meaning(self) -> dict[str, Any]:
        """What the numbers of a checkpoint depend on."""
        step = inspect.signature(self.optimizer.step).parameters
        fixed = {x: self._settings.given.get(x, step[x].default) for x in self.optimizer.fixed}
        return {"rule": self.optimizer.name, "n": self._flat.size, "dtype": str(self._flat.dtype), "options": fixed}

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

        done = self._exchange.gradients(grads, by, ready, use)
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

    def _gradient(self, grads: Any) -> np.ndarray:
        """This rank's gradient, or one for each of its micro-batches, as a vector or as rows."""
        rows = self._order.needs_rows
        x = _vector("grads", grads, write=False, rows=rows)
        n = self._flat.size
        shape = (n,) if rows is None else (rows, n)
        if x.dtype != self._flat.dtype:
            raise TypeError(
                f"grads has dtype {x.dtype} and params {self._flat.dtype}; one dtype is needed for both: "
                f"grads.astype(np.{self._flat.dtype})"
            )
        if x.shape != shape:
            meant = "as many elements as params" if rows is None else "a row for each micro-batch of this rank"
            raise ValueError(f"grads has shape {x.shape}; {meant} is needed: {shape}")
        if np.shares_memory(x, self._flat, max_work=1):
            raise ValueError("grads and params overlap in memory; each needs its own: pass grads.copy()")
        return x

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


def _vector(name: str, x: Any, write: bool, rows: int | None = None) -> np.ndarray:
    """The memory of a contiguous array as a vector, or as rows."""
    if isinstance(x, list | tuple):
        raise TypeError(f"{name} is a list of {len(x)}; one array is needed: nagd_numba.FlatParams lays many on one")
    host = validation.host_array(name, x, write=write)
    if not host.flags.c_contiguous:
        raise ValueError(f"{name} is not contiguous; np.ascontiguousarray({name}) is")
    return host.reshape(-1) if rows is None else host
