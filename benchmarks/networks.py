"""Training steps and predictions of networks from small to large beside the peers, as one table.

    python -m benchmarks.networks            all rows
    python -m benchmarks.networks 784 256x   those whose names contain one of these

Rows of 64-hidden-10 are those of `nagd_numba bench` (the digits, to the same loss); the others train on random numbers.
A ratio above 1 says how many times faster ours is: the median over rounds in which the contenders take turns.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

import nagd_numba
from nagd_numba.bench import digits, inference, timing, training

TRAINING = (((784, 128, 10), 32), ((784, 512, 10), 128), ((784, 1024, 1024, 10), 256))  # sizes, batch
DIGITS = ((256, 1024), (256, 128), (32, 128))  # batch, hidden
PREDICTIONS = (((784, 1024, 1024, 10), 5120), ((64, 128, 10), 6400), ((64, 128, 10), 1))  # sizes, rows
STEPS = 4 if timing.QUICK else 24  # of one timing, or more where they are short
Calls = dict[str, Callable[[], object]]


def torch_network(net: nagd_numba.MLP, params: np.ndarray) -> Any:
    """The same network in torch."""
    import torch

    stack: list[Any] = []
    for inputs, outputs in itertools.pairwise(net.sizes):
        stack += [torch.nn.Linear(inputs, outputs), torch.nn.ReLU()]
    model, named = torch.nn.Sequential(*stack[:-1]), net.unflatten(params)
    with torch.no_grad():
        for k, linear in enumerate(stack[:-1:2], 1):
            linear.weight.copy_(torch.from_numpy(named[f"W{k}"].T.copy()))
            linear.bias.copy_(torch.from_numpy(named[f"b{k}"]))
    return model


def random_training(sizes: tuple[int, ...], batch: int) -> timing.Seconds:
    """Seconds of a step: ours, and eager torch with its fused SGD on one thread and on all."""
    import torch

    random = np.random.default_rng(0)
    flop = 6 * batch * sum(a * b for a, b in itertools.pairwise(sizes))
    steps = max(STEPS, int(STEPS * 5e8 / flop))
    X = random.random((steps * batch, sizes[0]), np.float32)
    y = random.integers(0, sizes[-1], len(X))
    net = nagd_numba.MLP(sizes)
    params = net.init(0)
    batches = list(zip(torch.from_numpy(X).split(batch), torch.from_numpy(y).split(batch), strict=True))

    def ours() -> None:
        net.fit(params, X, y, 1, batch, digits.LR, digits.MOMENTUM, shuffle=False)

    def torch_on(threads: int) -> Callable[[], None]:
        model = torch_network(net, net.init(0))
        optimizer = torch.optim.SGD(model.parameters(), digits.LR, digits.MOMENTUM, nesterov=True, fused=True)

        def train() -> None:
            torch.set_num_threads(threads)
            for inputs, labels in batches:
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(model(inputs), labels).backward()
                optimizer.step()

        return train

    calls: Calls = {"ours": timing.Repeated(ours, steps)}
    for threads in sorted({1, torch.get_num_threads()}):
        calls[f"torch, {threads}"] = timing.Repeated(torch_on(threads), steps)
    return timing.interleaved(calls, timing.FEW_ROUNDS, timing.SETTLE)


def prediction(sizes: tuple[int, ...], rows: int) -> timing.Seconds:
    """Seconds of the classes of so many samples: ours, torch's and NumPy's."""
    if sizes == (64, 128, 10):
        contenders, _ = digits.those_there(inference.PREDICTORS, digits.Case(32, 128), rows)
        return timing.interleaved(contenders, settle=timing.SETTLE if rows > 1 else 0)
    import torch

    net = nagd_numba.MLP(sizes)
    params, X = net.init(0), np.random.default_rng(0).random((rows, sizes[0]), np.float32)
    model, tensor = torch_network(net, params), torch.from_numpy(X)

    def torch_predict() -> object:
        with torch.no_grad():
            return model(tensor).argmax(1).numpy()

    calls: Calls = {"ours": lambda: net.predict(params, X), "torch": torch_predict}
    return timing.interleaved(calls, timing.FEW_ROUNDS, timing.SETTLE)


def table() -> dict[str, Callable[[], timing.Seconds]]:
    """What measures each row."""
    rows: dict[str, Callable[[], timing.Seconds]] = {}
    for sizes, batch in TRAINING:
        rows[f"train {'-'.join(map(str, sizes))} batch {batch}"] = lambda s=sizes, b=batch: random_training(s, b)
    for batch, hidden in DIGITS:
        rows[f"train 64-{hidden}-10 batch {batch}"] = lambda b=batch, h=hidden: training.measure(b, h)[0]
    for sizes, count in PREDICTIONS:
        rows[f"predict {count} rows, {'-'.join(map(str, sizes))}"] = lambda s=sizes, n=count: prediction(s, n)
    return rows


def main() -> None:
    chosen = sys.argv[1:] or [""]
    for name, measure in table().items():
        if any(part in name for part in chosen):
            seconds = measure()
            parts = [f"{timing.ratio(seconds, peer, 'ours'):.2f} {peer}" for peer in seconds if peer != "ours"]
            print(f"{name:42}{np.median(seconds['ours']) * 1e6:11.1f} us   {', '.join(parts)}", flush=True)


if __name__ == "__main__":
    main()
