"""Hashes of what the library computes, so that a change of its structure can be shown to change no bit.

    python -m tests.hashes                 print them, one line a case
    python -m tests.hashes --check         compare with `tests/hashes.json`; exit code 1 where they differ
    python -m tests.hashes --write         renew that file: only where results are meant to change

Only public names are used, so the script also runs on older versions (`PYTHONPATH=<an older checkout>`).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit, prange

import nagd_numba as nn

FILE = Path(__file__).with_suffix(".json")
DTYPES = (np.float32, np.float64)
Case = tuple[str, Callable[[], Any]]


def digest(*results: Any) -> str:
    """A short hash of arrays and numbers: their types, shapes and bits."""
    made = hashlib.blake2b(digest_size=8)
    for result in results:
        x = np.ascontiguousarray(result)
        made.update(f"{x.dtype}{x.shape}".encode() + x.tobytes())
    return made.hexdigest()


def numbers(size: int, dtype: Any, seed: int) -> np.ndarray:
    """Numbers of many magnitudes, made of integers: the same on every processor."""
    random = np.random.default_rng(seed)
    mantissa = random.integers(-(2**20), 2**20, size).astype(np.float64)
    return np.asarray(mantissa * 2.0 ** random.integers(-24, -16, size).astype(np.float64), dtype)


def vectors(size: int, dtype: Any, count: int) -> list[np.ndarray]:
    return [numbers(size, dtype, seed) for seed in range(count)]


def of_steps(dtype: Any) -> Iterator[Case]:
    def stepped(function: Callable, states: int, size: int, t: Callable[[int], tuple], **options: Any) -> Any:
        p, *s = vectors(size, dtype, 1 + states)
        s = [abs(x) for x in s]
        for k in range(1, 4):
            function(p, numbers(size, dtype, 100 + k), *s, *t(k), **options)
        return p, *s

    for size in (1, 1003, 100_003):
        for convention in ("torch", "keras", "caffe", "bengio"):
            for nesterov in (True, False):
                options = {"convention": convention, "nesterov": nesterov, "lr": 0.03, "momentum": 0.7}
                yield (
                    f"step {convention} nesterov={nesterov} n={size}",
                    lambda size=size, options=options: stepped(nn.step, 1, size, lambda k: (), **options),
                )
    for options in (
        {"momentum": 0.0},
        {"momentum_next": 0.5},
        {"weight_decay": 0.01},
        {"weight_decay": 0.01, "decoupled": True},
        {"maximize": True},
    ):
        yield f"step {options}", lambda options=options: stepped(nn.step, 1, 1003, lambda k: (), **options)
    for function in (nn.adam_step, nn.adamw_step, nn.nadam_step):
        for options in ({}, {"weight_decay": 0.1, "maximize": True}):
            for size in (1003, 100_003):
                yield (
                    f"{function.__name__} {options} n={size}",
                    lambda f=function, o=options, n=size: stepped(f, 2, n, lambda k: (k,), **o),
                )
    for function, states in ((nn.schedule_free_sgd_step, 1), (nn.schedule_free_adamw_step, 2)):
        for options in ({}, {"weight_decay": 0.1, "maximize": True, "warmup_steps": 2, "r": 0.5}):
            yield (
                f"{function.__name__} {options}",
                lambda f=function, s=states, o=options: stepped(f, s, 1003, lambda k: (k,), **o),
            )
    for prox in ("none", "l1", "nonneg"):
        yield (
            f"fista_step {prox}",
            lambda prox=prox: stepped(nn.fista_step, 1, 1003, lambda k: (1.0 + k,), prox=prox, weight=0.01),
        )

    def strided() -> Any:
        p, g, v = (numbers(2 * 60, dtype, seed).reshape(10, 12)[:, ::2] for seed in range(3))
        nn.step(p, g, v, lr=0.1)
        return p, v

    def lists() -> Any:
        p, g, v = ([numbers(n, dtype, seed + n) for n in (3, 50, 70_000)] for seed in (0, 10, 20))
        nn.step(p, g, v, lr=0.1)
        return *p, *v

    def guarded() -> Any:
        guard = nn.Guard(clip_norm=0.5, clip_value=0.01, grad_scale=3.0)
        p, g, v = vectors(100_003, dtype, 3)
        nn.step(p, g, v, lr=0.1, guard=guard)
        return p, v, guard.norm, guard.dot

    @njit(parallel=True)
    def rows(p, g, v, m, w):
        for k in prange(len(p)):
            nn.step(p[k], g[k], v[k], 0.1, 0.5)
            nn.adam_step(p[k], g[k], m[k], w[k], k + 1)

    def inside() -> Any:
        p, g, v, m, w = (numbers(400, dtype, seed).reshape(4, 100) for seed in range(5))
        rows(p, g, v, m, abs(w))
        return p, v, m

    yield from (("step strided", strided), ("step lists", lists), ("step guard", guarded), ("step in njit", inside))


def digits(dtype: Any, rows: int = 150) -> tuple[np.ndarray, np.ndarray]:
    (file,) = Path(nn.__file__).parent.rglob("digits.npz")
    with np.load(file) as data:
        return np.asarray(data["X"][:rows] / 16, dtype), np.asarray(data["y"][:rows], np.int64)


def of_networks(dtype: Any) -> Iterator[Case]:
    for activation in ("relu", "tanh", "sigmoid", "identity"):
        for loss in ("cross_entropy", "mse", "binary_cross_entropy"):

            def passes(activation=activation, loss=loss) -> Any:
                X, y = digits(dtype)
                net = nn.MLP([64, 33, 17, 10], activation, loss, dropout=0.3, l2=0.01, dtype=dtype)
                targets = y if loss == "cross_entropy" else np.eye(10, dtype=dtype)[y]
                params = net.init(0)
                value, grads = net.value_and_grad(params, X, targets)
                dropped, other = net.value_and_grad(params, X, targets, dropout_seed=7)
                return (
                    *(value, grads, dropped, other, net.loss(params, X, targets), net.forward(params, X)),
                    *(net.predict(params, X), 0 if loss == "mse" else net.predict_proba(params, X)),
                )

            yield f"network {activation} {loss}", passes

    def trained(loss: str = "cross_entropy", sizes: Any = (64, 20, 10), pictures: bool = False, **options: Any) -> Any:
        X, y = digits(dtype)
        if pictures:
            X = (16 * X).astype(np.uint8)
        net = nn.MLP(sizes, loss=loss, dropout=options.pop("dropout", 0.0), l2=options.pop("l2", 0.0), dtype=dtype)
        targets = y if loss == "cross_entropy" else np.eye(10, dtype=dtype)[y]
        params = net.init(1)
        history = net.fit(params, X, targets, **{"epochs": 3, "batch_size": 32, "lr": 0.02} | options)
        return params, *(history.values(name) for name in sorted(history.to_dict()))

    cosine = nn.schedules.Cosine(0.05, epochs=3, warmup=1)
    for name, options in {
        **{optimizer: {"optimizer": optimizer} for optimizer in ("gd", "momentum", "nag", "adam", "adamw", "nadam")},
        "schedule_free_adamw": {"optimizer": "schedule_free_adamw", "validation": 0.2, "keep": "best"},
        "dropout": {"dropout": 0.3, "l2": 0.01},
        "clip": {"clip": 0.1},
        "accumulate": {"accumulate": 3},
        "adam accumulate": {"accumulate": 2, "optimizer": "adam", "dropout": 0.1},
        "weights": {"sample_weight": np.arange(150) % 7},
        "validation": {"validation": 0.2, "metrics": ["accuracy"], "keep": "best"},
        "mse": {"loss": "mse", "metrics": ["accuracy", "mae", "mse"], "validation": 0.2},
        "binary": {"loss": "binary_cross_entropy", "metrics": ["accuracy"], "l2": 0.01},
        "pictures": {"pictures": True},
        "schedules": {"lr": cosine, "momentum": nn.schedules.Sutskever()},
        "wide": {"sizes": (64, 1500, 10), "batch_size": 64, "epochs": 1},
    }.items():
        yield f"fit {name}", lambda options=options: trained(**options)

    def many() -> Any:
        X, y = digits(dtype)
        net = nn.MLP([64, 16, 10], dropout=0.1, dtype=dtype)
        params = np.stack([net.init(seed) for seed in range(3)])
        histories = nn.fit_many(net, params, X, y, epochs=2, lr=[0.01, 0.1, 0.3], seed=[0, 1, 2])
        return params, *(history.values("loss") for history in histories)

    yield "fit_many", many

    def embedded() -> Any:
        X, _ = digits(dtype)
        net = nn.MLP([64, 16, 10], dtype=dtype)
        predict = net.compiled("predict")
        return (njit(lambda params, X: predict(params, X)))(net.init(0), X)

    yield "compiled", embedded


@njit
def quadratic(x, scales):
    return 0.5 * np.sum(scales * (x - 1) ** 2), scales * (x - 1)


@njit
def smooth(x):
    return np.sum(np.log(np.cosh(x - 0.5))) + 0.05 * np.sum(x * x)


def of_problems() -> Iterator[Case]:
    scales = 1.0 / np.arange(1, 91, 3)  # which every processor rounds alike; powers are a library's

    def solved(fun: Any = quadratic, **options: Any) -> Any:
        given = (scales,) if fun is quadratic or fun is quadratic.py_func else ()
        found = nn.minimize(fun, np.linspace(-1, 3, 30), given, **{"maxiter": 300} | options)
        return found.x, found.fun, found.jac, found.nit, found.nfev, found.status, found.L

    for name, options in {
        "backtracking": {},
        "L": {"L": 1.0},
        "fista": {"method": "fista", "restart": None, "L": 1.0},
        "gd": {"method": "gd", "L": 1.0},
        "momentum": {"method": "momentum", "L": 1.0, "strong_convexity": 0.01},
        "strong": {"L": 1.0, "strong_convexity": 0.01},
        "function": {"restart": "function"},
        "monotone": {"options": {"monotone": True}},
        "ftol": {"options": {"ftol": 1e-6}},
        "l1": {"prox": "l1", "options": {"l1": 0.05}},
        "box": {"prox": "box", "options": {"bounds": [(0, 0.5)] * 30}},
        "nonneg": {"prox": "nonneg"},
    }.items():
        yield f"minimize {name}", lambda options=options: solved(jac=True, **options)
        yield f"minimize python {name}", lambda options=options: solved(quadratic.py_func, jac=True, **options)
    yield "minimize differences", lambda: solved(smooth)

    def many() -> Any:
        targets = numbers(60, np.float64, 3).reshape(20, 3)
        fun = njit(lambda x, target: (0.5 * np.sum((x - target) ** 2), x - target))
        found = nn.minimize_many(fun, np.zeros((20, 3)), (targets,), jac=True)
        return found.x, found.fun, found.nit, found.status

    def inside() -> Any:
        fun = quadratic
        run = njit(lambda x, scales: nn.minimize(fun, x, (scales,), True))
        found = run(np.linspace(-1, 3, 30), scales)
        return found.x, found.fun, found.nit, found.status

    yield from (("minimize_many", many), ("minimize in njit", inside))


def of_estimators(dtype: Any) -> Iterator[Case]:
    try:
        from nagd_numba.adapters.sklearn import NesterovMLPClassifier, NesterovMLPRegressor
    except ImportError:  # scikit-learn is not there
        return

    def fitted(kind: Any, **options: Any) -> Any:
        X, y = digits(dtype)
        model = kind(hidden_layer_sizes=(20,), max_iter=5, random_state=0, learning_rate_init=0.05, **options)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # five epochs do not converge
            model.fit(X, y if kind is NesterovMLPClassifier else np.stack([y, y + 1], axis=1))
        return *model.coefs_, *model.intercepts_, model.loss_curve_, model.predict(X)

    for name, kind, options in (
        ("classifier", NesterovMLPClassifier, {}),
        ("classifier stops early", NesterovMLPClassifier, {"early_stopping": True, "alpha": 0.1}),
        ("classifier momentum", NesterovMLPClassifier, {"nesterovs_momentum": False, "learning_rate": "adaptive"}),
        ("regressor", NesterovMLPRegressor, {"activation": "tanh"}),
    ):
        yield f"estimator {name}", lambda kind=kind, options=options: fitted(kind, **options)


def cases() -> Iterator[Case]:
    for dtype in DTYPES:
        word = np.dtype(dtype).name
        for of in (of_steps, of_networks, of_estimators):
            for name, run in of(dtype):
                yield f"{word} {name}", run
    yield from of_problems()


def hashes(chosen: str = "") -> Iterator[tuple[str, str]]:
    """The name of each case, and its hash."""
    for name, run in cases():
        if chosen in name:
            returned = run()
            yield name, digest(*returned) if isinstance(returned, tuple) else digest(returned)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help=f"compare with {FILE.name}")
    parser.add_argument("--write", action="store_true", help=f"write {FILE.name}")
    parser.add_argument("--only", default="", metavar="TEXT", help="cases whose names contain this")
    args = parser.parse_args()
    made = {}
    for name, value in hashes(args.only):
        made[name] = value
        if not args.check:
            print(value, name, flush=True)
    if args.write:
        FILE.write_text(json.dumps(made, indent=1) + "\n")
    if not args.check:
        return 0
    known = json.loads(FILE.read_text())
    wanted = {name for name in known if args.only in name and ("estimator" not in name or "sklearn" in sys.modules)}
    wrong = [name for name in wanted | set(made) if known.get(name) != made.get(name)]
    for name in sorted(wrong):
        print(f"{name}: {made.get(name)}, and {known.get(name)} in {FILE.name}")
    print(f"{len(made)} hashes, {len(wrong)} differ from {FILE.name}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
