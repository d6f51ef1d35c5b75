"""Steps on parameters, gradients and states of small storage: their speed, and what networks learn with them.

    python -m benchmarks.storage speed [n]     seconds of a step, beside PyTorch's fused and bitsandbytes' 8-bit ones
    python -m benchmarks.storage accuracy      784-128-10 on digits, over five seeds

The digits are the 1,797 of 8x8 pixels that come with the package, each enlarged to 28x28 by repeating pixels, since
there is no larger set without a network.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from typing import Any

import numpy as np

import nagd_numba
from nagd_numba import MLP, StochasticRounding, adam_step, bind, int8_states, step
from nagd_numba.bench.timing import interleaved, ratio
from nagd_numba.io.digits import read_digits

SEEDS, EPOCHS, BATCH = 5, 30, 32


def bfloat16() -> Any:
    import ml_dtypes

    return np.dtype(ml_dtypes.bfloat16)


# ---- speed


def ours(n: int) -> tuple[dict[str, Callable[[], object]], dict[str, float]]:
    """Bound steps, and the bytes that each moves for an element."""
    rng = np.random.default_rng(0)
    p, g = (rng.normal(size=n).astype(np.float32) for _ in range(2))
    half, kind = [x.astype(bfloat16()) for x in (p, g)], bfloat16()

    def zeros():
        return np.zeros(n, np.float32)

    rounding = {"rounding": StochasticRounding(0)}
    made = {
        "Nesterov float32": (20.0, bind(step, p, g, zeros())),
        "Nesterov bfloat16, master": (8 + 2 + 2 + 8, bind(step, *copies(half), zeros(), master=p.copy())),
        "Nesterov bfloat16, compensation": (
            *(4 + 2 + 4 + 8,),
            bind(step, *copies(half), zeros(), compensation=np.zeros(n, kind)),
        ),
        "Nesterov bfloat16, random": (4 + 2 + 8, bind(step, *copies(half), zeros(), **rounding)),
        "Nesterov float32, int8": (12 + 2.25, bind(step, p.copy(), g, *int8_states(step, p), **rounding)),
        "Nesterov bfloat16, random, int8": (
            *(4 + 2 + 2.25,),
            bind(step, *copies(half), *int8_states(step, p), **rounding),
        ),
        "Adam float32": (28.0, bind(adam_step, p.copy(), g, zeros(), zeros())),
        "Adam bfloat16, random, int8": (
            *(4 + 2 + 4.5,),
            bind(adam_step, *copies(half), *int8_states(adam_step, p), **rounding),
        ),
    }
    return {name: call for name, (_, call) in made.items()}, {name: float(size) for name, (size, _) in made.items()}


def copies(arrays: list[np.ndarray]) -> list[np.ndarray]:
    return [x.copy() for x in arrays]


def peers(n: int) -> dict[str, Callable[[], object]]:
    """PyTorch's fused optimizers, and those of bitsandbytes, where they are installed."""
    made: dict[str, Callable[[], object]] = {}
    try:
        import torch
    except ImportError:
        return made
    sgd = {"lr": 0.01, "momentum": 0.9}

    def add(name: str, make: Callable[..., Any], dtype: Any, **settings: Any) -> None:
        parameter = torch.nn.Parameter(torch.ones(n, dtype=dtype))
        parameter.grad = torch.ones(n, dtype=dtype)
        optimizer = make([parameter], **settings)
        made[name] = optimizer.step

    for dtype in (torch.float32, torch.bfloat16):
        kind = str(dtype).removeprefix("torch.")
        add(f"torch SGD fused {kind}", torch.optim.SGD, dtype, **sgd, nesterov=True, fused=True)
        add(f"torch Adam fused {kind}", torch.optim.Adam, dtype, fused=True)
    try:
        import bitsandbytes
    except ImportError:
        return made
    add("bitsandbytes SGD8bit bfloat16", bitsandbytes.optim.SGD8bit, torch.bfloat16, **sgd)
    add("bitsandbytes Adam8bit bfloat16", bitsandbytes.optim.Adam8bit, torch.bfloat16)
    return made


def speed(n: int) -> None:
    calls, sizes = ours(n)
    calls |= peers(n)
    seconds = interleaved(calls, rounds=7)
    print(f"n = {n}: the median over the rounds; x: times as fast as float32 of ours")
    for name in calls:
        took = statistics.median(seconds[name])
        base = "Adam float32" if "Adam" in name else "Nesterov float32"
        moved = f"{sizes[name]:5.2f} B {sizes[name] * n / took / 1e9:5.1f} GB/s" if name in sizes else ""
        print(f"{name:35s} {took * 1e3:9.2f} ms {ratio(seconds, base, name):6.2f} x {moved}")


# ---- accuracy


def digits() -> tuple[np.ndarray, ...]:
    """Pixels of 28x28 from 0 to 1 and digits, for training and for the test."""
    X, y = read_digits()
    rows = np.arange(28) * 8 // 28
    X = (X.reshape(-1, 8, 8)[:, rows][:, :, rows].reshape(-1, 784) / 16).astype(np.float32)
    order = np.random.default_rng(0).permutation(len(X))
    train, test = order[:1400], order[1400:]
    return X[train], y[train].astype(np.int64), X[test], y[test].astype(np.int64)


def trained(form: str, seed: int, data: tuple[np.ndarray, ...]) -> tuple[float, float]:
    """The accuracy on the test and the loss on the training data, in percent and as it is."""
    X, y, X_test, y_test = data
    mlp = MLP([784, 128, 10])
    exact = mlp.init(seed)
    take_step, lr = (adam_step, 1e-4) if form.startswith("Adam") else (step, 2e-4)
    settings: dict[str, Any] = {}
    params = exact if "float32" in form else exact.astype(bfloat16())
    grads = np.zeros_like(params)
    if "int8" in form:
        states = int8_states(take_step, params)
    else:
        states = tuple(np.zeros(exact.size, np.float32) for _ in range(2 if take_step is adam_step else 1))
    if "random" in form or "int8" in form:
        settings["rounding"] = StochasticRounding(seed)
    if "master" in form:
        settings["master"] = exact.copy()
    if "compensation" in form:
        settings["compensation"] = np.zeros_like(params)
    take = bind(take_step, params, grads, *states, lr=lr, **settings)
    counts = take_step is adam_step
    rng, t = np.random.default_rng(seed), 0
    for _ in range(EPOCHS):
        order = rng.permutation(len(X))
        for first in range(0, len(X), BATCH):
            rows = order[first : first + BATCH]
            _, gradient = mlp.value_and_grad(params.astype(np.float32), X[rows], y[rows])
            grads[...] = gradient
            t += 1
            take(t) if counts else take()
    final = params.astype(np.float32)
    return 100 * float((mlp.predict(final, X_test) == y_test).mean()), mlp.loss(final, X, y)


FORMS = (
    "Nesterov float32",
    "Nesterov bfloat16, nearest",
    "Nesterov bfloat16, master",
    "Nesterov bfloat16, compensation",
    "Nesterov bfloat16, random",
    "Nesterov bfloat16, random, int8",
    "Adam float32",
    "Adam float32, int8",
    "Adam bfloat16, nearest",
    "Adam bfloat16, random, int8",
)


def accuracy() -> None:
    data = digits()
    print(f"784-128-10, {EPOCHS} epochs in batches of {BATCH}: mean and standard deviation over {SEEDS} seeds")
    for form in FORMS:
        made = np.array([trained(form, seed, data) for seed in range(SEEDS)])
        (right, loss), (spread, loss_spread) = made.mean(0), made.std(0, ddof=1)
        print(
            f"{form:35s} accuracy {right:6.2f} +- {spread:4.2f} %   loss {loss:7.4f} +- {loss_spread:.4f}", flush=True
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("speed", "accuracy"))
    parser.add_argument("n", type=int, nargs="?", default=10_000_000)
    given = parser.parse_args()
    if given.what == "speed":
        speed(given.n)
    else:
        print(f"nagd_numba {nagd_numba.__version__}")
        accuracy()


if __name__ == "__main__":
    main()
