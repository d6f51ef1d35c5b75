"""What `MLP.fit` does together with other ranks: checks, decisions, and where the training happens.

`ranks_of` gives `Alone`, which does nothing of it, or `Ranks`.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..distributed import communicator
from ..distributed.agreement import agree
from ..distributed.threads import at_most, fair_share
from ..distributed.watch import watch
from ..validation import any_on_device, flag, whole
from . import arguments
from .backends import HostBackend, backend_of
from .cpu.portion_trainer import PortionTrainer, Sharing
from .dataset import Data, Split
from .interpolated import evaluated
from .labels import AS_THEY_ARE, Labels
from .plan import Plan
from .rates import rule_of
from .sparse import SparseRows
from .spec import NetworkSpec

TIMEOUT = 600.0  # seconds that a rank waits for the others


class Alone:
    """One process that trains by the kernels of whole batches."""

    comm: Any = None
    first = True  # is this the rank that shows something?

    @contextlib.contextmanager
    def checked(self) -> Iterator[dict[str, Any]]:
        """In this block arguments are checked; what is put into the dictionary must be the same on all ranks."""
        yield {}

    def backend(self, spec: NetworkSpec, params: Any, vel: Any, method: str) -> Any:
        """Where these are trained by a method."""
        return backend_of(spec, params, vel, states=len(rule_of(method)[0].states))

    def check_batch(self, rows: int) -> None:
        """Raise where so many rows cannot be shared."""

    def check_average(self) -> None:
        """Raise where no average of the parameters is formed."""

    def digests(self, parts: Split, vel: Any) -> dict[str, str]:
        """What tells the data of ranks apart."""
        return {}

    def threads(self) -> contextlib.AbstractContextManager[None]:
        """In this block this rank uses its share of the processors."""
        return contextlib.nullcontext()

    def of_first(self, x: float) -> float:
        """The number of the first rank, on all."""
        return x

    def any(self, function: Callable[[], bool]) -> bool:
        """Is it true on some rank?  What it raises on one, ends the call on all."""
        return function()


class Ranks(Alone):
    """Many processes, or one, that train by portions of batches."""

    def __init__(self, comm: Any, micro_batches: int | None, what: str) -> None:
        self.comm, self.micro_batches, self._what = comm, micro_batches, what
        self.first = comm.rank == 0
        self._watch = watch(comm)
        self._threads = fair_share(comm)

    @contextlib.contextmanager
    def checked(self) -> Iterator[dict[str, Any]]:
        said: dict[str, Any] = {}
        try:
            yield said
        except Exception as error:
            self._agree({}, error)
            raise
        self._agree({"micro_batches": self.micro_batches, **said}, None)

    def backend(self, spec: NetworkSpec, params: Any, vel: Any, method: str) -> Any:
        if any_on_device([(name, x) for name, x in (("params", params), ("vel", vel)) if x is not None]):
            raise ValueError(
                "params is on a CUDA device, and training with comm or reproducible is for host memory; "
                "copy params to the host, or leave both out"
            )
        return RanksBackend(spec, params, vel, method, Sharing(self.comm, self.micro_batches))

    def check_batch(self, rows: int) -> None:
        if self.micro_batches is not None and self.micro_batches > rows:
            raise ValueError(f"micro_batches is {self.micro_batches}, and a batch has {rows} rows; at most as many fit")

    def check_average(self) -> None:
        raise ValueError(
            "average is for the training of one process without reproducible: ranks step slices by the plain rule; "
            "leave it out"
        )

    def digests(self, parts: Split, vel: Any) -> dict[str, str]:
        if self.comm.size == 1:
            return {}
        made = {"rows": _digest(parts.rows, parts.validation_rows), "X, y and sample_weight (their digest)": ""}
        made["X, y and sample_weight (their digest)"] = _digest_of(parts.data)
        if parts.validation is not None and parts.validation is not parts.data:
            made["validation (its digest)"] = _digest_of(parts.validation)
        made["vel (its digest)"] = "None" if vel is None else _digest(np.asarray(vel))
        return made

    def threads(self) -> contextlib.AbstractContextManager[None]:
        return at_most(self._threads)

    def of_first(self, x: float) -> float:
        with self._waiting("an epoch's end"):
            return float(self.comm.all_gather_object(x)[0])

    def any(self, function: Callable[[], bool]) -> bool:
        value, error = False, None
        try:
            value = function()
        except Exception as caught:
            error = caught
        with self._waiting("a callback's end"):
            agree(self.comm, self._what, {}, error, "training ended after this epoch")
            return any(self.comm.all_gather_object(value))

    def _agree(self, said: dict[str, Any], error: Exception | None) -> None:
        with self._waiting(f"the checks of {self._what}"):
            agree(self.comm, self._what, said, error)

    def _waiting(self, where: str) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext() if self._watch is None else self._watch.waiting(where, TIMEOUT)


class RanksBackend(HostBackend):
    """The host's, for a vector that all ranks have, and states of which each keeps a slice."""

    _trainer: PortionTrainer

    def __init__(self, spec: NetworkSpec, params: Any, vel: Any, method: str, sharing: Sharing) -> None:
        super().__init__(spec, params, vel, False, len(rule_of(method)[0].states))
        self._method, self._sharing, self._wanted = method, sharing, vel is not None

    def split(self, X: Any, y: Any, weights: Any, validation: Any, seed: int, labels: Labels = AS_THEY_ARE) -> Split:
        parts = super().split(X, y, weights, validation, seed, labels)
        if isinstance(parts.data.X, SparseRows):
            raise ValueError("X is sparse, and training with comm or reproducible is for a dense one: X.toarray()")
        return parts

    def trainer(self, parts: Split, plan: Plan) -> Any:
        self._trainer = PortionTrainer(self.spec, self.params, self.vel, parts.data, plan, self._method, self._sharing)
        return evaluated(self._trainer, self.params, self.vel, collect=self.states)

    def states(self) -> np.ndarray:
        """The states of all ranks, collected; called by all of them."""
        self._trainer.states(self.vel)
        return self.vel

    def not_finite(self) -> tuple[arguments.Element | None, arguments.Element | None]:
        """See `HostBackend`; `vel` becomes the states of all ranks, where it was given.  Called by all ranks."""
        if self._wanted:
            self.states()
        sharded, bad = self._trainer.sharded, None
        for k, mine in reversed([*enumerate(sharded.states.values())]):
            bad = arguments.bad_element(mine, k * self.spec.size + sharded.lo) or bad
        everyones = [x for x in self._sharing.comm.all_gather_object(bad) if x is not None]
        return arguments.bad_element(self.params), min(everyones, default=None)


def ranks_of(comm: Any, reproducible: Any, micro_batches: Any, what: str = "MLP.fit") -> Alone:
    """What training does with the ranks of a communicator, or None; `what` is its name in messages."""
    together = flag("reproducible", reproducible)
    parts = whole("micro_batches", micro_batches)
    if comm is None and not together:
        return Alone()
    return Ranks(communicator(comm), parts if together else None, what)


def _digest_of(data: Data) -> str:
    return _digest(*data.arrays().values())


def _digest(*arrays: np.ndarray) -> str:
    made = hashlib.blake2b(digest_size=8)
    for x in arrays:
        made.update(f"{x.dtype}{x.shape}".encode())
        made.update(np.ascontiguousarray(x).data)
    return made.hexdigest()
