"""The sections of `nagd-numba bench`: each yields its rows as they are measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from . import adapters_jax, adapters_torch, digits, memory, products, steps, timing
from . import training as training_of
from .contenders import Missing
from .inference import PREDICTORS
from .machine import Others, cores
from .promises import described
from .timing import FEW_ROUNDS, SETTLE, Seconds

SIZES: tuple[int, ...] = (10, 1_000, 10_000, 100_000, 1_000_000, 10_000_000)
ADAM_SIZES: tuple[int, ...] = (1_000, 100_000, 10_000_000)
STEP_ROUNDS = 7
CASES: tuple[tuple[int, int], ...] = ((32, 32), (32, 128), (256, 128), (256, 1024))  # batch, hidden
NETWORKS: tuple[tuple[int, int, int], ...] = ((32, 32, 16), (32, 128, 16))  # batch, hidden, networks
ROWS: tuple[int, ...] = (1, 10_000)  # to predict at once
ADAPTERS: tuple[Any, ...] = (adapters_torch, adapters_jax)  # each with CASES, and measure(case, rounds)
if timing.QUICK:
    SIZES, ADAM_SIZES, CASES, NETWORKS, ROWS = SIZES[:2], ADAM_SIZES[:1], CASES[:1], NETWORKS[:1], ROWS[:1]


@dataclass
class Row:
    """One case: the median seconds of each contender, and how many times as long as ours each takes."""

    case: dict[str, Any]
    seconds: dict[str, float] = field(default_factory=dict)
    ratios: dict[str, float] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)  # contenders, and why they have no figure
    more: dict[str, Any] = field(default_factory=dict)

    def put(self, seconds: Seconds, busy: float | None, scale: float = 1.0) -> Row:
        """Take the figures; `scale` makes a call of them one step; `busy` cores worked for others meanwhile."""
        self.seconds = {name: float(np.median(rounds)) * scale for name, rounds in seconds.items()}
        others = [name for name in seconds if name != "ours"] if "ours" in seconds else []  # the limits have none
        self.ratios = {name: timing.ratio(seconds, name, "ours") for name in others}
        self.more["others"] = busy
        return self

    def __str__(self) -> str:
        return described(self.case)


Job = tuple[dict[str, Any], Callable[[Row], object]]  # a case, and what measures it


def limits() -> Iterator[Job]:
    """What the machine can do at most, by one thread and by all: the best of some rounds."""
    yield {"limit": "multiply-adds in registers"}, _registers
    yield {"limit": "matrix product, NumPy's BLAS"}, _product
    yield {"limit": "bytes of a step, far more than caches hold"}, _bytes


def _limit(row: Row, contenders: dict[str, Callable[[], object]], unit: str, each: Mapping[str, float]) -> None:
    """Rates in `unit`: `each` contender makes so many of them in a call."""
    others = Others()
    seconds = timing.interleaved(contenders, timing.ROUNDS, SETTLE)
    row.put(seconds, others.cores())
    row.more[unit] = {name: each[name] / min(rounds) / 1e9 for name, rounds in seconds.items()}


def _registers(row: Row) -> None:
    made = {name: products.Registers(count) for name, count in (("one thread", 1), ("all threads", cores()))}
    _limit(row, {**made}, "gflops", {name: call.flop for name, call in made.items()})


def _product(row: Row) -> None:
    product = products.Product()
    _limit(row, {"all threads": product}, "gflops", {"all threads": product.flop})


def _bytes(row: Row) -> None:
    n = memory.elements_beyond_caches()
    arrays = memory.vectors(n, "float32")
    movers = memory.MOVERS["nesterov"]
    made = {"one thread": partial(movers[False], *arrays), "all threads": partial(movers[True], *arrays)}
    _limit(row, {**made}, "gb_per_s", dict.fromkeys(made, 4.0 * memory.STEP_BYTES["nesterov"] * n))
    row.more["n"] = n


def steps_rounds() -> int:
    return min(STEP_ROUNDS, timing.ROUNDS)


def step() -> Iterator[Job]:
    """A step on `n` elements, from Python with all checks."""
    yield from _steps("nesterov", SIZES, {"ours": steps.ours, **steps.PEERS, **steps.LIMIT})


def adam() -> Iterator[Job]:
    """The same of Adam."""
    yield from _steps("adam", ADAM_SIZES, steps.ADAM)


def _steps(rule: str, sizes: tuple[int, ...], makers: steps.Makers) -> Iterator[Job]:
    for n in sizes:
        yield {"n": n, "dtype": "float32"}, partial(_step, rule, n, makers, n == sizes[0])


def _step(rule: str, n: int, makers: steps.Makers, first: bool, row: Row) -> None:
    if first:  # peers are imported, and start their threads: for nothing
        steps.measure(n, "float32", makers, 1, rule)
    others = Others()
    seconds, row.missing = steps.measure(n, "float32", makers, steps_rounds(), rule)
    row.put(seconds, others.cores())
    size = memory.STEP_BYTES[rule] * 4 * n
    row.more["gb_per_s"] = {name: size / each / 1e9 for name, each in row.seconds.items()}


def training() -> Iterator[Job]:
    """A step of training on the digits."""
    for batch, hidden in CASES:
        yield {"batch": batch, "hidden": hidden}, partial(_training, batch, hidden)


def _training(batch: int, hidden: int, row: Row) -> None:
    others = Others()
    seconds, row.missing, more = training_of.measure(batch, hidden)
    row.put(seconds, others.cores())
    row.more |= more


def networks() -> Iterator[Job]:
    """Many networks at once, against one after another."""
    for batch, hidden, count in NETWORKS:
        yield {"batch": batch, "hidden": hidden, "networks": count}, partial(_networks, batch, hidden, count)


def _networks(batch: int, hidden: int, count: int, row: Row) -> None:
    case = digits.Case(batch, hidden)
    together, alone = training_of.many_ours(case, count)
    if not np.array_equal(together(), alone()):
        raise Missing("fit_many differs from fit: please report this")
    others = Others()
    seconds = timing.interleaved({"ours": together, "one by one": alone}, FEW_ROUNDS, SETTLE)
    row.put(seconds, others.cores(), 1 / count)


def prediction() -> Iterator[Job]:
    """The classes of samples, through 64-128-10."""
    for rows in ROWS:
        yield {"rows": rows}, partial(_prediction, rows)


def _prediction(rows: int, row: Row) -> None:
    case = digits.Case(32, 128)
    contenders, row.missing = digits.those_there(PREDICTORS, case, rows)
    said = {name: np.asarray(call()) for name, call in contenders.items()}
    different = [name for name, labels in said.items() if np.mean(labels == said["ours"]) < 0.999]
    if different:
        raise Missing(f"{', '.join(different)} predicts other classes")
    others = Others()
    row.put(timing.interleaved(contenders, steps_rounds(), SETTLE), others.cores())


def adapters() -> Iterator[Job]:
    """A step of the optimizers for frameworks, beside the frameworks' own."""
    for module in ADAPTERS:
        for case in module.CASES:
            yield case, partial(_adapter, module.measure, case)


def _adapter(measure: Callable[..., Seconds], case: dict[str, Any], row: Row) -> None:
    others = Others()
    row.put(measure(case, steps_rounds()), others.cores())


SECTIONS: Mapping[str, tuple[str, Callable[[], Iterator[Job]]]] = {
    "step": ("A step on n float32 elements", step),
    "adam": ("A step of Adam on n float32 elements", adam),
    "training": ("A step of training, 64-hidden-10 on the digits, float32", training),
    "networks": ("Training many networks at once, for each", networks),
    "prediction": ("Prediction through 64-128-10, float32", prediction),
    "adapters": ("A step of the optimizers for frameworks, float32", adapters),
    "limits": ("Limits of the machine", limits),
}
