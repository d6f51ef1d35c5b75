"""`python -m benchmarks.gate`: are the ratios that the project promises kept on this machine?

Those are the figures in brackets of the page about speed (`nagd_numba/bench/promises.py`).  Each is the
median of interleaved rounds; what falls short is measured again after all others, at most three times in all, and its
best counts: a shared machine makes figures worse, not better.  Not judged, and said so: peers that are not installed,
promises for another number of cores, and those of several threads where other processes kept the cores busy in every
try.

Exit status: 0; 1 where a promise was broken.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

from nagd_numba.bench import machine, report, steps
from nagd_numba.bench.contenders import Missing
from nagd_numba.bench.promises import PROMISES, Promise
from nagd_numba.bench.sections import SECTIONS, Row

TRIES = 3
BUSY = 0.2  # cores of others, from which several threads cannot be judged


@dataclass
class Verdict:
    """A promise, and what was measured."""

    promise: Promise
    ratios: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)
    reason: str | None = None  # why it is not judged
    share: float = 1.0  # of the promised ratio that is enough

    @property
    def kept(self) -> bool:
        return any(ratio >= self.share * self.promise.ratio for ratio in self.ratios)

    @property
    def word(self) -> str:
        if self.kept:
            return "kept"
        if self.reason is not None:
            return f"not judged: {self.reason}"
        if self.promise.cores is not None and min(self.busy) > BUSY:
            return f"not judged: others kept {min(self.busy):.2f} cores busy"
        return "BROKEN"

    @property
    def margin(self) -> float:
        """The best ratio over the promised one; infinite where there is none."""
        return max(self.ratios) / self.promise.ratio if self.ratios else float("inf")


def opened(promises: Sequence[Promise], cores: int, share: float = 1.0) -> list[Verdict]:
    """Verdicts on promises before anything was measured."""
    verdicts = [Verdict(promise, share=share) for promise in promises]
    for verdict in verdicts:
        if verdict.promise.cores not in (None, cores):
            verdict.reason = f"meant for {verdict.promise.cores} cores, and here are {cores}"
    return verdicts


def attempt(verdicts: Sequence[Verdict], measure: Callable[[list[Promise]], Row]) -> None:
    """One try for what was not kept so far, of one case: `measure(promises)` gives its row."""
    open_ = [verdict for verdict in verdicts if verdict.reason is None and not verdict.kept]
    if not open_:
        return
    row = measure([verdict.promise for verdict in open_])
    for verdict in open_:
        name = verdict.promise.against
        if name in row.ratios:
            verdict.ratios.append(row.ratios[name])
            verdict.busy.append(row.more["others"] or 0.0)
        else:
            verdict.reason = row.missing.get(name, "not measured")


def measured(section: str, case: dict, promises: Sequence[Promise]) -> Row:
    """The row of a case; steps beside those contenders only that are promised about."""
    row = Row(case)
    if section == "step":
        makers = {name: steps.ALL[name] for name in ("ours", *(promise.against for promise in promises))}
        others = machine.Others()
        seconds, row.missing = steps.measure(case["n"], case["dtype"], makers)
        return row.put(seconds, others.cores())
    _, jobs = SECTIONS[section]
    (run,) = (run for found, run in jobs() if found == case)
    try:
        run(row)
    except Missing as error:
        row.missing = {promise.against: str(error) for promise in promises}
    return row


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gate", description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=sorted({promise.section for promise in PROMISES}), help="one section")
    parser.add_argument(
        "--share", type=float, default=1.0, metavar="X", help="of a promised ratio is enough: on machines of many users"
    )
    options = parser.parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(report.facts(machine.about()), highlight=False, soft_wrap=True)
    cases: dict[tuple, list[Verdict]] = {}
    for promise in PROMISES:
        if options.only in (None, promise.section):
            cases.setdefault((promise.section, *promise.case.items()), []).extend(
                opened([promise], machine.cores(), options.share)
            )
    for _ in range(TRIES):  # what falls short waits until everything else was tried: a bad minute may be over
        for (section, *case), verdicts in cases.items():
            attempt(verdicts, functools.partial(measured, section, dict(case)))
            print(".", end="", flush=True)
    print()
    verdicts = [verdict for each in cases.values() for verdict in each]
    table = Table(title="Promised ratios, the narrowest first")
    for heading in ("promise", "measured", "tries", "verdict"):
        table.add_column(heading)
    for verdict in sorted(verdicts, key=lambda verdict: verdict.margin):
        best = f"{max(verdict.ratios):.3g}" if verdict.ratios else ""
        table.add_row(str(verdict.promise), best, str(len(verdict.ratios) or ""), verdict.word)
    console.print(table, highlight=False)
    broken = [verdict for verdict in verdicts if verdict.word == "BROKEN"]
    for verdict in broken:
        tries = ", ".join(f"{ratio:.3g}" for ratio in verdict.ratios)
        console.print(f"BROKEN: {verdict.promise}; measured {tries}", highlight=False, soft_wrap=True)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
