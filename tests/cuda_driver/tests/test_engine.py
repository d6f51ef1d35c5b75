"""Order and races, against what follows from their definition on graphs that are drawn at random."""

import functools
import random
from types import SimpleNamespace

import pytest

from ...emulator import Footprint
from ..engine import Engine, conflict, overlap
from ..operations import Operation

CONTEXT = SimpleNamespace(error=None)


COUNT = 12


class Drawn:
    """A graph of operations, drawn by number: what each touches and waits for, and what the engine made of it."""

    def __init__(self, number, seed, waits):
        draw = random.Random(number)
        self.cells = [draw.randrange(3) for _ in range(COUNT)]
        self.writes = [draw.random() < 0.4 for _ in range(COUNT)]
        self.order, self.faults, self.after = [], [], []
        engine = Engine(lambda text, address=None: self.faults.append(text), seed)
        made, known = [], set()  # `known`: those that the host has waited for
        for k in range(COUNT):
            before = draw.sample(range(k), min(k, draw.randrange(3)))
            made.append(Operation(str(k), CONTEXT, functools.partial(self.run, k), [made[i] for i in before]))
            engine.add(made[-1])
            self.after.append({*before, *known}.union(*(self.after[i] for i in (*before, *known))))
            if waits and draw.random() < 0.2:
                waited = draw.randrange(k + 1)
                engine.wait([made[waited]])
                known |= {waited} | self.after[waited]
        engine.wait(made)

    def run(self, k):
        self.order.append(k)
        cell = [(self.cells[k], self.cells[k] + 1)]
        return Footprint([], cell, []) if self.writes[k] else Footprint(cell, [], [])

    def races(self):
        """The pairs that the definition names."""
        pairs = ((i, k) for k in range(COUNT) for i in range(k) if i not in self.after[k])
        same = (p for p in pairs if self.cells[p[0]] == self.cells[p[1]])
        return {frozenset(p) for p in same if self.writes[p[0]] or self.writes[p[1]]}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("waits", [False, True])
def test_any_graph(seed, waits):
    for number in range(40):
        drawn = Drawn(number, seed, waits)
        assert sorted(drawn.order) == list(range(COUNT))
        place = {k: drawn.order.index(k) for k in range(COUNT)}
        assert all(place[i] < place[k] for k in range(COUNT) for i in drawn.after[k])
        found = {frozenset(int(part.split(",")[0]) for part in text.split("[")[1:]) for text in drawn.faults}
        assert found == drawn.races()


def test_seeds_give_other_orders():
    assert len({tuple(Drawn(3, seed, False).order) for seed in range(6)}) > 3


def test_numbers_begin_anew_when_the_host_knows_that_all_is_done():
    engine = Engine(lambda *_: None)
    for _ in range(3):
        engine.wait([engine.add(Operation("", CONTEXT, lambda: Footprint([(0, 1)], [], []))) for _ in range(5)])
        assert engine.count == 5
        assert len(engine.history) == 5


def test_ranges():
    first, second = [(0, 4), (10, 20), (30, 31)], [(4, 10), (25, 30), (30, 40)]
    assert overlap(first, second) == (30, 31)
    assert overlap(first[:2], second) is None
    reads, writes, changes = (Footprint(*(first if k == i else [] for i in range(3))) for k in range(3))
    also = [Footprint(*(second if k == i else [] for i in range(3))) for k in range(3)]
    allowed = [[conflict(x, y) is None for y in also] for x in (reads, writes, changes)]
    assert allowed == [[True, False, False], [False, False, False], [False, False, True]]
    assert conflict(reads, also[1]) == ("the first reads and the second writes", (30, 31))
