"""Training on the device: a small network against its peers, and a sweep against one network.

The trainings are those of `nagd_numba.bench`: same data, initial weights, batches and rate; all epochs are one call,
which sets parameters back first and ends with the weights on the host.  All compute in float32 (no TF32), but for the
largest network, which ours trains with `precision="tf32"` too.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import nagd_numba
from nagd_numba.bench.digits import EPOCHS, LR, MOMENTUM, Case, torch_model
from nagd_numba.bench.training import TOLERANCE, train_jax
from nagd_numba.gpu import driver

from . import gpu_peers as peers
from .gpu_report import Row
from .gpu_step import Job
from .gpu_timing import DEFAULT_STREAM, Contender, compare, measure

CASES = ((32, 128), (32, 32), (256, 128), (256, 1024))  # batch, hidden; the last does not fit a multiprocessor
TF32 = "ours, TF32"
TF32_CASES = ((256, 1024),)
TF32_TOLERANCE = 1e-3  # relative, of the loss at the end: factors have 11 bits; a model of it in NumPy ends 1e-5 away
GRAPH_RATIO = {(32, 128): 3.0}
NETWORKS, RATES, SWEEP_HIDDEN, SWEEP_RATIO = 132, 12, 128, 1.5
ROUNDS = 5
MOST: int | None = None  # rows of the digits


def trainings(_: int) -> Iterator[Job]:
    """Microseconds for each step."""
    for batch, hidden in CASES:
        yield {"batch": batch, "hidden": hidden}, functools.partial(_training_row, batch, hidden)


def _training_row(batch: int, hidden: int, row: Row) -> None:
    case = Case(batch, hidden, MOST)
    makers = {
        "ours": ours,
        "torch graph": torch_graph,
        "torch graph, epoch": torch_epoch_graph,
        "torch eager": torch_eager,
        "JAX": jax_scan,
    }
    if (batch, hidden) in TF32_CASES:
        makers[TF32] = functools.partial(ours, precision="tf32")
    losses: dict[str, float] = {}

    def judged(name: str, make: Callable[[Any], Callable[[], Any]]) -> Contender:
        train = make(case)
        for _ in range(2):  # the second shows whether everything was set back
            losses[name] = case.loss(train())
            reference = losses.get("ours", losses[name])
            tolerance = TF32_TOLERANCE if name == TF32 else TOLERANCE
            if not abs(losses[name] - reference) <= tolerance * reference:
                raise AssertionError(f"the loss at the end is {losses[name]:.7f} and ours {reference:.7f}")
        return Contender(train)

    seconds = measure(
        row, {name: functools.partial(judged, name, make) for name, make in makers.items()}, steps=1, rounds=ROUNDS
    )
    target = GRAPH_RATIO.get((batch, hidden))
    compare(row, seconds, "us", 1e6 / (EPOCHS * case.steps), {} if target is None else {"torch graph": target})
    for name, loss in losses.items():
        if name in row.figures:
            row.figures[name]["loss"] = loss
    if "ours" in losses:
        row.put("our loss", losses["ours"], "at the end")
    peers.give_back()


def ours(case: Any, precision: str = "float32") -> Callable[[], Any]:
    here = driver.current()
    X, y, params = (here.upload(x, 0) for x in (case.X, case.y, case.flat))
    net = nagd_numba.MLP(case.net.sizes, precision=precision)

    def train():
        here.rewrite(params, case.flat, DEFAULT_STREAM)
        net.fit(params, X, y, EPOCHS, case.batch, LR, MOMENTUM, shuffle=False)
        return case.views(here.download(params))

    return train


class Torch:
    """The network on the device, with an optimizer that can be set back and captured."""

    def __init__(self, case: Any) -> None:
        self.torch = torch = peers.usable("torch")
        self.case = case
        model, _ = torch_model(case)
        self.model = model.to(peers.DEVICE)
        self.weights = list(self.model.parameters())
        self.initial = [w.detach().clone() for w in self.weights]
        self.X, self.y = (torch.from_numpy(x).to(peers.DEVICE) for x in (case.X, case.y))
        self.first = torch.arange(case.batch, device=peers.DEVICE)
        self.rows = self.first.clone()
        self.optimizer = torch.optim.SGD(self.weights, LR, MOMENTUM, nesterov=True, fused=True)

    def reset(self) -> None:
        """The initial weights, no velocity, the first batch; all in place."""
        with self.torch.no_grad():
            for w, start in zip(self.weights, self.initial, strict=True):
                w.copy_(start)
            for state in self.optimizer.state.values():
                state["momentum_buffer"].zero_()
            self.rows.copy_(self.first)

    def step(self, X: Any, y: Any) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.torch.nn.functional.cross_entropy(self.model(X), y).backward()
        self.optimizer.step()

    def next_step(self) -> None:
        """A step that fetches its rows by indices on the device, and moves these on."""
        self.step(self.X.index_select(0, self.rows), self.y.index_select(0, self.rows))
        self.rows.add_(self.case.batch).remainder_(len(self.X))

    def captured(self, steps: int) -> Any:
        """A graph of so many steps."""
        torch = self.torch
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self.next_step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.cuda.graph(graph):
            for _ in range(steps):
                self.next_step()
        return graph

    def done(self) -> list[np.ndarray]:
        return [w.detach().cpu().numpy().T for w in self.weights]


def torch_eager(case: Any) -> Callable[[], Any]:
    it = Torch(case)
    batches = list(zip(it.X.split(case.batch), it.y.split(case.batch), strict=True))

    def train():
        it.reset()
        for _ in range(EPOCHS):
            for X, y in batches:
                it.step(X, y)
        return it.done()

    return train


def torch_graph(case: Any, steps: int = 1) -> Callable[[], Any]:
    """Every step is one replay."""
    it = Torch(case)
    graph = it.captured(steps)

    def train():
        it.reset()
        for _ in range(EPOCHS * case.steps // steps):
            graph.replay()
        return it.done()

    return train


def torch_epoch_graph(case: Any) -> Callable[[], Any]:
    """Every epoch is one replay."""
    return torch_graph(case, case.steps)


def jax_scan(case: Any) -> Callable[[], Any]:
    """As `nagd_numba.bench.training` has it; its products in float32, which JAX would round to TF32 on a device."""
    jax = peers.usable("jax")
    train = train_jax(case, EPOCHS)[""]

    def exactly():
        with jax.default_matmul_precision("highest"):
            return train()

    return exactly


def sweeps(_: int) -> Iterator[Job]:
    """Many networks at once, against the first of them alone."""
    yield {"networks": NETWORKS, "batch": 32, "hidden": SWEEP_HIDDEN}, _sweep_row


def _sweep_row(row: Row) -> None:
    case, here = Case(32, SWEEP_HIDDEN, MOST), driver.current()
    rates = [float(lr) for lr in np.repeat(np.geomspace(0.01, 0.1, RATES), NETWORKS // RATES)]
    seeds = [k % (NETWORKS // RATES) for k in range(NETWORKS)]
    start_at = np.stack([case.net.init(seed) for seed in seeds])
    X, y = here.upload(case.X, 0), here.upload(case.y, 0)
    together, alone = here.upload(start_at, 0), here.upload(start_at[0], 0)

    def fit_many():
        here.rewrite(together, start_at, DEFAULT_STREAM)
        nagd_numba.fit_many(case.net, together, X, y, EPOCHS, case.batch, rates, MOMENTUM, seed=seeds)

    def fit():
        here.rewrite(alone, start_at[0], DEFAULT_STREAM)
        case.net.fit(alone, X, y, EPOCHS, case.batch, rates[0], MOMENTUM, seed=seeds[0])

    seconds = measure(
        row, {"ours, one": lambda: Contender(fit), "ours": lambda: Contender(fit_many)}, steps=1, rounds=ROUNDS
    )
    if len(seconds) < 2:
        return
    if not np.array_equal(here.download(together)[0], here.download(alone)):
        raise AssertionError("fit_many differs from fit on the device")
    row.put("one network", float(np.median(seconds["ours, one"])) * 1e3, "ms")
    row.put("all networks", float(np.median(seconds["ours"])) * 1e3, "ms")
    times = [many / one for many, one in zip(seconds["ours"], seconds["ours, one"], strict=True)]
    row.put("all / one", float(np.median(times)), "ratio", target=SWEEP_RATIO)
    row.put("rate", NETWORKS / float(np.median(seconds["ours"])), "networks/s")
