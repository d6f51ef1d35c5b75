"""What a `ShardedStep` gives out of itself, and takes over: whole states, and checkpoints."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import validation
from . import checkpoint
from .agreement import agree
from .arrays import vector
from .memory import copied, put, to_host, zeros_like


class Saved:
    """The part of `ShardedStep` that is about its state."""

    comm: Any
    optimizer: Any
    params: Any
    states: dict[str, Any]
    t: int
    lo: int
    hi: int
    _flat: Any
    _exchange: Any
    _settings: Any
    _waiting: Any

    def state_dict(self) -> dict[str, Any]:
        """The parameters and the whole states, the same for any number of ranks; called by all ranks.

        Returns
        -------
        dict
            `params` and each state of the rule, vectors of all elements (copies); `t`, the number of steps; `rule`.
        """
        made: dict[str, Any] = {"rule": self.optimizer.name, "t": self.t, "params": to_host(copied(self._flat))}
        with self._waiting("state_dict"):
            for name, mine in self.states.items():
                whole = zeros_like(self._flat)
                put(whole[self.lo : self.hi], to_host(mine))
                self._exchange.all_params(whole)
                made[name] = to_host(whole)
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
                vectors = {x: vector(x, state[x], write=False) for x in names}
                validation.same_kind([("params here", self._flat), *vectors.items()])
                t = validation.whole("t", state["t"], least=0)
                said = {"t": t} | {x: hashlib.sha256(v.data).hexdigest()[:16] for x, v in vectors.items()}
        except (TypeError, ValueError) as caught:
            error = caught
        with self._waiting("load_state_dict"):
            agree(self.comm, "ShardedStep.load_state_dict", said, error)
        put(self._flat, vectors["params"])
        for name, mine in self.states.items():
            put(mine, vectors[name][self.lo : self.hi])
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
        mine = {"params": self._flat[self.lo : self.hi], **self.states}
        arrays = {name: to_host(x) for name, x in mine.items()}
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
            put(self._flat[self.lo : self.hi], made["params"])
            for name, mine in self.states.items():
                put(mine, made[name])
            self.t = int(manifest["t"])
            self._exchange.all_params(self._flat)
        validation.tell_torch(self.params)
        return manifest["extra"]

    def _meaning(self) -> dict[str, Any]:
        """What the numbers of a checkpoint depend on."""
        step = inspect.signature(self.optimizer.step).parameters
        fixed = {x: self._settings.given.get(x, step[x].default) for x in self.optimizer.fixed}
        return {"rule": self.optimizer.name, "n": self._flat.size, "dtype": str(self._flat.dtype), "options": fixed}
