"""Calls of the library, each with a digest of the bits that it gives: one JSON object on standard output.

    python -m tests.reliability._probe [--raise] [--twice] [NAME ...]

`--raise` lets NumPy raise for every floating-point error of its own (`numpy.seterr(all="raise")`); `--twice` makes each
call once more at the end, and ends with an error unless the bits are the same.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import nagd_numba

CALLS: dict[str, Callable[[], Any]] = {}


def call(function: Callable[[], Any]) -> Callable[[], Any]:
    CALLS[function.__name__] = function
    return function


def _vector(seed: int, size: int = 5000, dtype: str = "f4") -> np.ndarray:
    return np.random.default_rng(seed).normal(size=size).astype(dtype)


def _rows() -> tuple[np.ndarray, np.ndarray]:
    X = _vector(1, 40 * 3).reshape(40, 3)
    return X, (X[:, 0] > 0).astype(np.int64) + (X[:, 1] > 0.5)


@call
def steps() -> Any:
    """Each optimizer, both dtypes, with weight decay where there is one."""
    got = []
    for dtype in ("f4", "f8"):
        for function, states in (
            (nagd_numba.step, 1),
            (nagd_numba.adam_step, 2),
            (nagd_numba.adamw_step, 2),
            (nagd_numba.nadam_step, 2),
            (nagd_numba.lion_step, 1),
            (nagd_numba.rmsprop_step, 1),
            (nagd_numba.adagrad_step, 1),
        ):
            p, g = _vector(2, dtype=dtype), _vector(3, dtype=dtype)
            state = [np.zeros_like(p) for _ in range(states)]
            for t in (1, 2):
                with_t = {"t": t} if "t" in function.__code__.co_varnames[: function.__code__.co_argcount] else {}
                function(p, g, *state, lr=0.01, **with_t)
            got += [p, *state]
    return got


@call
def composed() -> Any:
    """A list of arrays with bounds, a mask, clipping and a strided view."""
    ps, gs = [_vector(4, 37), _vector(5, 74)[::2]], [_vector(6, 37), _vector(7, 37)]
    vels = [np.zeros_like(p) for p in ps]
    guard = nagd_numba.Guard(clip_norm=1.0, nonfinite="skip")
    nagd_numba.step(ps[0], gs[0], vels[0], lr=0.1, guard=guard)
    nagd_numba.step(ps, gs, vels, lr=0.1, lower=-0.5, upper=0.75)
    nagd_numba.step(ps[0], np.full(37, np.inf, np.float32), vels[0], guard=guard)
    return [*ps, *vels, guard.norm, guard.skipped_steps]


@call
def small_storage() -> Any:
    p, g, vel = _vector(8, 2000).astype(np.float16), _vector(9, 2000).astype(np.float16), np.zeros(2000, np.float32)
    rounding = nagd_numba.StochasticRounding(seed=1)
    for _ in range(3):
        nagd_numba.step(p, g, vel, lr=1e-3, rounding=rounding)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, os.fsdecode("größe with spaces.npz".encode()))
        nagd_numba.save_states(file, p=p, vel=vel, rounding=rounding)
        found = nagd_numba.load_states(file)
    return [p, vel, found["p"], found["vel"], found["rounding"].steps]


@call
def rows() -> Any:
    table, vel, last = _vector(10, 40).reshape(10, 4), np.zeros((10, 4), np.float32), np.zeros(10, np.int64)
    nagd_numba.step_rows(table, np.array([1, 7]), _vector(11, 8).reshape(2, 4), vel, last, t=1, lr=0.1)
    nagd_numba.finish_rows(table, vel, last, t=5, lr=0.1)
    return [table, vel, last]


@call
def bound() -> Any:
    p, g, vel = _vector(12), _vector(13), np.zeros(5000, np.float32)
    take = nagd_numba.bind(nagd_numba.step, p, g, vel, lr=0.05)
    for _ in range(3):
        take()
    return [p, vel]


@call
def network() -> Any:
    X, y = _rows()
    net = nagd_numba.MLP([3, 8, 3], dropout=0.2)
    params = net.init(seed=0)
    history = net.fit(params, X, y, epochs=3, batch_size=8, lr=0.1, validation=0.25, metrics=["accuracy"])
    return [params, net.predict(params, X), net.forward(params, X), history.last("loss")]


@call
def networks() -> Any:
    X, y = _rows()
    net = nagd_numba.MLP([3, 4, 3])
    params = np.stack([net.init(seed=seed) for seed in range(3)])
    nagd_numba.fit_many(net, params, X, y, epochs=2, batch_size=8, lr=[0.1, 0.2, 0.3])
    return [params]


def _valley(x: np.ndarray, scales: np.ndarray) -> tuple[float, np.ndarray]:
    return 0.5 * np.sum(scales * (x - 1) ** 2), scales * (x - 1)


@call
def minimum() -> Any:
    from numba import njit

    found = nagd_numba.minimize(njit(_valley), np.zeros(5), (np.geomspace(0.1, 1, 5),), jac=True)
    return [found.x, found.fun, found.nit]


@call
def schedule() -> Any:
    progress = nagd_numba.schedules.Progress(updates=10, samples=320)
    return [nagd_numba.schedules.Cosine(0.1, 10).values(np.arange(100), progress)]


@call
def model_file() -> Any:
    from nagd_numba.model_file import Preprocessing, load_model, save_model

    net = nagd_numba.MLP([3, 4, 2])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, os.fsdecode("mödel.npz".encode()))
        save_model(path, net, net.init(0), Preprocessing(np.zeros(3), np.ones(3), np.array(["a", "ä"])))
        _, params, preprocessing = load_model(path)
    return [params, preprocessing.scale, "".join(preprocessing.classes)]


@call
def extremes() -> Any:
    """Numbers that overflow, vanish or are none, in steps, sums and a training that diverges."""
    got = []
    for dtype in ("f4", "f8"):
        info = np.finfo(dtype)
        g = np.array([info.max, -info.max, info.smallest_subnormal, 1e-30, 0.0, -0.0, 3.0], dtype)
        for clip in (None, 1.0):
            guard = nagd_numba.Guard(clip_norm=clip, nonfinite="skip", grad_scale=0.5)
            p, vel = np.full(7, info.tiny, dtype), np.zeros(7, dtype)
            nagd_numba.step(p, g, vel, lr=1e-30, guard=guard)
            got += [p, vel, guard.norm, guard.nonfinite_count]
        p, m, v = np.zeros(7, dtype), np.zeros(7, dtype), np.zeros(7, dtype)
        for t in (1, 10**6):  # whose powers of the betas vanish
            nagd_numba.adam_step(p, g, m, v, t, lr=0.1, eps=1e-30)
        got += [p, m, v]
    X, y = _rows()
    net = nagd_numba.MLP([3, 8, 3])
    params = net.init(seed=0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*diverged", category=RuntimeWarning)
        history = net.fit(params, X * 1e18, y, epochs=2, batch_size=8, lr=1e18, validation=0.25)
    p, g = np.ones(64, np.float16), np.full(64, 65504, np.float16)
    (vel,) = nagd_numba.int8_states(nagd_numba.step, p)
    nagd_numba.step(p, g, vel, lr=10.0, rounding=nagd_numba.StochasticRounding(seed=2))
    return [*got, np.isfinite(history.last("loss")), p]


def digest(values: Any) -> str:
    """The bits of arrays and numbers, with dtypes and shapes."""
    made = hashlib.blake2b(digest_size=8)
    for value in values:
        x = np.asarray(value)
        made.update(f"{x.dtype}{x.shape}".encode() + np.ascontiguousarray(x).tobytes())
    return made.hexdigest()


def main(words: list[str]) -> int:
    if "--raise" in words:
        np.seterr(all="raise")
    chosen = [word for word in words if not word.startswith("-")] or list(CALLS)
    got = {name: digest(CALLS[name]()) for name in chosen}
    other = [name for name in chosen if "--twice" in words and got[name] != digest(CALLS[name]())]
    if other:
        print(f"other bits the second time: {', '.join(other)}", file=sys.stderr)
        return 1
    print(json.dumps(got))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
