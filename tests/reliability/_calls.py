"""Every public call of the library, each on data of its own: what it wrote and returned, as bits."""

from __future__ import annotations

import ctypes
import hashlib
import inspect
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit

import nagd_numba
from nagd_numba import schedules
from nagd_numba.kernels.jit import JIT_OFF
from nagd_numba.optimizers.registry import OPTIMIZERS

LONG = 50_000  # elements that threads may take
SIZES = (7, 5_000, LONG)  # those with Python's lock, without it, and with threads


def digest(*made: Any) -> str:
    """The bits of arrays, numbers and whatever contains them."""
    total = hashlib.blake2b(digest_size=12)
    for x in made:
        total.update(digest(*x).encode() if isinstance(x, list | tuple) else np.ascontiguousarray(x).tobytes())
    return total.hexdigest()


def _arrays(seed: int, count: int, n: Any, dtype: Any = np.float32) -> list[Any]:
    rng = np.random.default_rng([seed, count])
    return [np.abs(rng.normal(size=n)).astype(dtype) for _ in range(count)]


def _without_default(step: Callable[..., Any], t: int) -> dict[str, Any]:
    """The settings of a step that must be given."""
    given = {"t": t}
    needed = [x for x, y in inspect.signature(step).parameters.items() if y.default is inspect.Parameter.empty]
    return {x: given[x] for x in needed if x in given}


def _step_of(optimizer: Any) -> Callable[[int], str]:
    def call(seed: int) -> str:
        made = []
        for n in SIZES:
            arrays = _arrays(seed, len(optimizer.arrays), n)
            lists = [[x.copy(), x[:3].copy()] for x in arrays]
            for t in range(1, 4):
                optimizer.step(*arrays, **_without_default(optimizer.step, t))
                optimizer.step(*lists, **_without_default(optimizer.step, t), lr=0.01)
            made += [arrays, lists]
        return digest(made)

    return call


def _constants_of(optimizer: Any) -> Callable[[int], str]:
    def call(seed: int) -> str:
        function = optimizer.constants
        return digest(function(np.float32, **_without_default(function, 1 + seed % 9)))

    return call


def _update_of(optimizer: Any) -> Callable[[int], str]:
    """The scalar form, in Python."""

    def call(seed: int) -> str:
        names = [
            x
            for x, y in inspect.signature(optimizer.update).parameters.items()
            if y.default is inspect.Parameter.empty and x != "constants"
        ]
        numbers = list(_arrays(seed, 1, len(names))[0])
        if optimizer.constants is not None:
            numbers.append(optimizer.constants(np.float32, **_without_default(optimizer.constants, 3)))
        return digest(optimizer.update(*numbers))

    return call


@njit
def _in_compiled_code(p: Any, g: Any, v: Any, steps: int) -> None:
    for _ in range(steps):
        nagd_numba.step(p, g, v, 0.1, 0.5)


def compiled_callers(seed: int) -> str:
    """A step in a user's compiled function."""
    p, g, v = _arrays(seed, 3, 1000)
    _in_compiled_code(p, g, v, 3)
    return digest(p, v)


def composed(seed: int) -> str:
    """Masks, bounds, proximal maps, rates of elements, groups, averages."""
    made = []
    for n in SIZES:
        p, g, m, v = _arrays(seed, 4, n)
        mean, lr = nagd_numba.Average(p), np.full(n, 0.01, np.float32)
        mask = np.arange(n) % 3 != 0
        for t in range(1, 4):
            nagd_numba.adam_step(p, g, m, v, t, lr=lr, mask=mask, lower=0.1, upper=2.0, average=mean)
            nagd_numba.step(p, g, m, prox="l1", prox_weight=0.01)
        made += [p, m, v, nagd_numba.average_weight(3, 0.9)]
    parts = nagd_numba.FlatParams([("w", (4, 5)), ("b", (5,))], flat=_arrays(seed, 1, 25)[0])
    others = [parts.like(x) for x in _arrays(seed, 2, 25)]
    nagd_numba.step(parts, *others, groups={"b": {"lr": 0.5}})
    return digest(made, parts.flat)


def guarded(seed: int) -> str:
    """Clipping."""
    p, g, v = _arrays(seed, 3, LONG)
    guard = nagd_numba.Guard(clip_norm=1.0)
    for _ in range(3):
        nagd_numba.step(p, g, v, guard=guard)
    return digest(p, v, guard.norm)


def stored(seed: int) -> str:
    """Half precision and states of 8 bits, saved and loaded."""
    p, g = (x.astype(np.float16) for x in _arrays(seed, 2, LONG))
    m, v = nagd_numba.int8_states(nagd_numba.adam_step, p)
    rounding = nagd_numba.StochasticRounding(seed)
    for t in range(1, 4):
        nagd_numba.adam_step(p, g, m, v, t, rounding=rounding)
    with tempfile.TemporaryDirectory() as folder:
        nagd_numba.save_states(Path(folder) / "states.npz", p=p, m=m, v=v)
        loaded = nagd_numba.load_states(Path(folder) / "states.npz")
    assert isinstance(loaded["m"], nagd_numba.Int8State)
    return digest(p, loaded["p"], loaded["m"].codes, loaded["m"].scales, loaded["v"].codes)


def bound(seed: int) -> str:
    """Bound steps."""
    made = []
    for n in SIZES:
        p, g, v = _arrays(seed, 3, n)
        take = nagd_numba.bind(nagd_numba.step, p, g, v, lr=0.1)
        for lr in (0.1, 0.2, 0.3):
            take(lr)
        made += [p, v]
    return digest(made)


def rows(seed: int) -> str:
    """Steps of rows."""
    p, v = _arrays(seed, 2, (50, 8))
    last, history = np.zeros(50, np.int64), nagd_numba.row_history(10)
    for t in range(1, 6):
        here = np.arange(t, 50, 5)
        nagd_numba.step_rows(p, here, _arrays(seed + t, 1, (len(here), 8))[0], v, last, t, lr=0.1 / t, history=history)
    nagd_numba.finish_rows(p, v, last, 5, lr=0.1, history=history)
    return digest(p, v, last)


def schedule_free(seed: int) -> str:
    """The way to the parameters to evaluate, and back."""
    p, g, z = _arrays(seed, 3, LONG)
    nagd_numba.schedule_free_sgd_step(p, g, z, 1)
    nagd_numba.schedule_free_eval(p, z)
    there = p.copy()
    nagd_numba.schedule_free_train(p, z)
    return digest(p, there, nagd_numba.schedule_free_x(p[0], z[0], 0.9))


def fista(seed: int) -> str:
    """FISTA's sequence."""
    return digest(nagd_numba.fista_t(2.0 + seed))


def in_c(seed: int) -> str:
    """A step as a function for C."""
    assert "nag_step_f32" in nagd_numba.c_functions()
    if JIT_OFF:
        return ""
    pointer = ctypes.POINTER(ctypes.c_float)
    real, whole = ctypes.c_double, ctypes.c_int
    kinds = whole, pointer, pointer, pointer, ctypes.c_int64, real, real, real, whole, whole, real, whole, whole
    call = ctypes.CFUNCTYPE(*kinds)(nagd_numba.c_address("nag_step_f32"))
    p, g, v = _arrays(seed, 3, 100)
    status = call(*(x.ctypes.data_as(pointer) for x in (p, g, v)), 100, 0.1, 0.9, 0.9, 0, 1, 0.0, 0, 0)
    assert status == 0
    return digest(status, p, v)


def network(seed: int) -> str:
    """A network: trained, evaluated, many at once."""
    net = nagd_numba.MLP([6, 9, 3])
    X = _arrays(seed, 1, (60, 6))[0]
    y = X[:, :3].argmax(axis=1)
    params = net.init(seed)
    history = net.fit(params, X, y, epochs=3, batch_size=16, validation=0.25, metrics=["accuracy"])
    many = np.stack([net.init(k) for k in range(4)])
    nagd_numba.fit_many(net, many, X, y, epochs=2, batch_size=16, lr=[0.01, 0.02, 0.03, 0.04])
    loss, grads = net.value_and_grad(params, X, y)
    assert isinstance(history, nagd_numba.History)
    results = net.forward(params, X), net.predict(params, X), net.predict_proba(params, X), net.loss(params, X, y)
    return digest(params, many, loss, grads, results, history["loss"])


@njit
def _bowl(x: Any, scales: Any) -> Any:
    return 0.5 * np.sum(scales * (x - 1) ** 2), scales * (x - 1)


def _bowl_in_python(x: Any, scales: Any) -> Any:
    return 0.5 * float(np.sum(scales * (x - 1) ** 2)), scales * (x - 1)


def _value(x: Any, scales: Any) -> float:
    return _bowl_in_python(x, scales)[0]


def _gradient(x: Any, scales: Any) -> Any:
    return _bowl_in_python(x, scales)[1]


def minimized(seed: int) -> str:
    """Whole problems, compiled and in Python."""
    scales = 0.1 + _arrays(seed, 1, 5, np.float64)[0]
    found = nagd_numba.minimize(_bowl, np.zeros(5), (scales,), jac=True)
    python = nagd_numba.minimize(_bowl_in_python, np.zeros(5), (scales,), jac=True)
    many = nagd_numba.minimize_many(_bowl, np.zeros((20, 5)), shared=(scales,), jac=True)
    scipy = nagd_numba.scipy_method(_value, np.zeros(5), (scales,), jac=_gradient)
    checked = nagd_numba.check_grad(_bowl_in_python, True, np.full(5, 0.3), (scales,))
    return digest(found.x, python.x, many.x, scipy.x, checked.error)


def rates(seed: int) -> str:
    """Schedules."""
    schedule = schedules.Cosine(0.1, 10 + seed, warmup=2).clamp(0.01).then(0.05, 12)
    return digest(schedule.values(np.arange(200), schedules.Progress(10, 100)))


CALLS: dict[str, Callable[[int], str]] = {
    **{x.step.__name__: _step_of(x) for x in OPTIMIZERS.values()},
    **{x.update.__name__: _update_of(x) for x in OPTIMIZERS.values()},
    **{x.constants.__name__: _constants_of(x) for x in OPTIMIZERS.values() if x.constants is not None},
    "compiled callers": compiled_callers,
    "composed": composed,
    "guarded": guarded,
    "stored": stored,
    "bind": bound,
    "rows": rows,
    "schedule_free": schedule_free,
    "fista": fista,
    "c_address": in_c,
    "network": network,
    "minimize": minimized,
    "schedules": rates,
}
