"""The state of `nagd-numba train` in its `--save` file, beside the best model: what `--resume` continues from.

The file is written after an epoch, whole or not at all, if it was not within the last half second: that much and the
epoch in work is what a run loses that is killed at any moment.  Resumed, it ends bit for bit like one that was not.
The order of the rows, the dropout and the rates are functions of the configuration and the epoch, so parameters,
velocity (with Adam's kind both moments) and history are all there is to keep.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..io import npz
from ..io.one_line import one_line
from .comparison import Best, Comparison, Epoch, Result, State
from .config import Config
from .data import Split
from .devices import to_host

FORMAT, UNDIGESTED = "nagd_numba.train 2", "nagd_numba.train 1"
_EPOCH = ("number", "train_loss", "validation_loss", "validation_accuracy")


def content(run: Comparison, source: dict[str, Any]) -> dict[str, Any]:
    """The state of a comparison as named arrays; `source` says where the data came from."""
    arrays: dict[str, Any] = {
        "training": FORMAT,
        "config": json.dumps(dataclasses.asdict(run.config)),
        "source": json.dumps(source),
        "data_digest": digest(run.data),
    }
    for method, state in run.states.items():
        history = [[getattr(epoch, name) for name in _EPOCH] for epoch in state.result.history]
        arrays |= {
            f"{method}/params": to_host(state.params),
            f"{method}/vel": to_host(state.vel),
            f"{method}/history": np.array(history, np.float64).reshape(-1, len(_EPOCH)),
            f"{method}/first_loss": state.result.first_loss,
            f"{method}/seconds": state.result.seconds,
        }
    return arrays


class Checkpoint:
    """A training read from a file; raises `ValueError` for a file that holds none, and leaves it alone."""

    def __init__(self, path: str | Path) -> None:
        self.path = path
        self._content = npz.read(path, "training of nagd-numba train --save")
        try:
            npz.check_format(self._content, "training", FORMAT, UNDIGESTED)
        except ValueError as error:
            raise ValueError(f"{path}: no training of nagd-numba train --save in it: {error}") from error
        try:
            values = _json_object(self._content, "config")
            self.config = Config(**{name: _as_given(value) for name, value in values.items()})
            self.source: dict[str, Any] = _json_object(self._content, "source")
            for name, value in self.source.items():
                if not isinstance(value, bool if name == "header" else str) and value is not None:
                    raise ValueError(f"{name} of its source is {value!r}")
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"{path}: a damaged training: {one_line(error)}") from error

    def restore(self, run: Comparison) -> None:
        """Put the state into a comparison of the same configuration and data."""
        try:
            known = npz.text(self._content, "data_digest")
        except ValueError as error:
            raise ValueError(f"{self.path}: a damaged training: {one_line(error)}") from error
        if known != digest(run.data):
            raise ValueError(f"{self.path}: it was trained on other data than {run.data.name}")
        try:
            for method in run.config.methods:
                if f"{method}/params" not in self._content:
                    continue
                params = self._vector(f"{method}/params", run)
                vel = self._vector(f"{method}/vel", run, run.states_size(method))
                history = self._history(f"{method}/history")
                first_loss, seconds = (npz.number(self._content, f"{method}/{x}") for x in ("first_loss", "seconds"))
                run.states[method] = State(
                    Result(method, history, first_loss, seconds), run.place(params), run.place(vel)
                )
            if "method" in self._content and "params" in self._content:
                method, number = npz.text(self._content, "method"), npz.whole(self._content, "epoch")
                epochs = run.states[method].result.history if method in run.states else []
                if not 1 <= number <= len(epochs):
                    raise ValueError(f"the best epoch is {number} of {method!r}, which has {len(epochs)}")
                run.best = Best(method, epochs[number - 1], self._vector("params", run))
        except ValueError as error:
            run.states.clear()
            raise ValueError(f"{self.path}: a damaged training: {one_line(error)}") from error
        passed = max((len(result.history) for result in run.results), default=0)
        if passed > run.config.epochs:
            raise ValueError(f"--epochs is {run.config.epochs}, and {passed} have passed in {self.path}; give as many")

    def _history(self, name: str) -> list[Epoch]:
        rows = npz.member(self._content, name)
        if rows.dtype != np.float64 or rows.ndim != 2 or rows.shape[1] != len(_EPOCH):
            raise ValueError(f"{name} has shape {rows.shape} and dtype {rows.dtype}, not (n, {len(_EPOCH)}), float64")
        if not np.array_equal(rows[:, 0], np.arange(1, len(rows) + 1)):
            raise ValueError(f"{name} does not count its epochs from 1 on")
        return [Epoch(int(row[0]), *map(float, row[1:])) for row in rows]

    def _vector(self, name: str, run: Comparison, size: int | None = None) -> np.ndarray:
        x, size = npz.member(self._content, name), run.model.size if size is None else size
        if x.shape != (size,) or x.dtype != run.model.dtype:
            raise ValueError(f"{name} has shape {x.shape} and dtype {x.dtype}, not ({size},), {run.model.dtype}")
        return np.ascontiguousarray(x)


def digest(data: Split) -> str:
    """What tells these samples from others."""
    hashed = hashlib.blake2b(digest_size=16)
    for x in (data.X, data.y, data.X_validation, data.y_validation):
        hashed.update(f"{x.dtype}{x.shape}".encode())
        hashed.update(np.ascontiguousarray(x).tobytes())
    return hashed.hexdigest()


def _json_object(content: Mapping[str, np.ndarray], name: str) -> dict[str, Any]:
    values = json.loads(npz.text(content, name))
    if not isinstance(values, dict):
        raise ValueError(f"{name} is no JSON object")
    return values


def _as_given(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _as_given(x) for name, x in value.items()}
    return tuple(value) if isinstance(value, list) else value
