"""What is remembered of the accesses of a launch: who has waited for whom, a cell for each granule, the footprint."""

import bisect
from typing import NamedTuple

import numpy as np

from .ptx import MAX_THREADS
from .races import SITE_BITS


class Race(Exception):
    """Two accesses to the same bytes, at least one of them a store, of which none is ordered before the other."""


class Footprint(NamedTuple):
    """The global memory that a launch touched: addresses (start, stop), sorted and apart from each other."""

    read: list[tuple[int, int]]
    written: list[tuple[int, int]]
    atomic: list[tuple[int, int]]


class History:
    """The order of what the threads of a launch do, in rounds: in each, every thread runs to where it waits.

    Rounds are counted on from launch to launch, so that no cell has to be cleared.
    """

    def __init__(self, state):
        self._state, self._round, self._blocks = state, 0, []

    def begin_launch(self):
        self._blocks = []  # of this launch: the first round, and which it is
        self._next("round", "launch")
        self._state.wide("nodes")[0] = self._state.address("pool")

    def begin_block(self, block):
        self._next("round", "block", "ordered")
        self._blocks.append((self._round, block))

    def next_round(self):
        self._next("round")

    def waited(self, sites, threads, count, everyone, ignore=()):
        """What these threads, of a block of `count`, have done comes before what they do next; not if at `ignore`."""
        if len(ignore) and np.isin(sites, ignore).any():
            return
        if everyone:
            self._state.wide("ordered")[0] = (self._round + 1) << 32
            return
        known = self._state.known_rounds
        rows = known[threads, :count].max(axis=0)
        rows[threads] = self._round
        known[threads, :count] = rows

    def _next(self, *names):
        self._round += 1
        for name in names:
            self._state.wide(name)[0] = self._round << 32

    def access(self, stamp):
        """(block, thread, site) of a stamp of this launch."""
        at = bisect.bisect_right(self._blocks, stamp >> 32, key=lambda entry: entry[0]) - 1
        return self._blocks[at][1], stamp >> SITE_BITS & (MAX_THREADS - 1), stamp & ((1 << SITE_BITS) - 1)

    def footprint(self, cells):
        """What this launch has touched of the memory that `cells` are of."""
        begin = self._state.wide("launch")[0]
        kinds = ("loads", "stores", "atomics")
        spans = ([span for c in cells for span in c.touched(begin, getattr(c.layout, kind))] for kind in kinds)
        return Footprint(*map(_merged, spans))


class Cells:
    """The cells of a region; kept from launch to launch, since stamps of earlier ones say nothing."""

    def __init__(self, layout, address, nbytes):
        self.layout, self.address, self.nbytes = layout, address, nbytes
        self.first = address >> layout.shift
        count = ((address + max(1, nbytes) - 1) >> layout.shift) - self.first + 1
        self.words = np.zeros((count, layout.cell_bytes // 8), np.uint64)  # pages that nobody touches cost nothing
        #: What the compiled code adds to `granule * cell_bytes`.
        self.place = (self.words.ctypes.data - self.first * layout.cell_bytes) % (1 << 64)

    def forget(self):
        """Memory of a block that begins: what others did to theirs is no concern of its."""
        self.words[...] = 0

    def touched(self, begin, columns):
        """(start, stop) of where one of these stamps is none from before `begin`."""
        marks = (self.words[:, columns] >= begin).any(axis=1)
        edges = np.flatnonzero(np.diff(marks, prepend=False, append=False)).reshape(-1, 2)
        for start, stop in ((edges + self.first) << self.layout.shift).tolist():
            yield max(start, self.address), min(stop, self.address + self.nbytes)


def cells_of(region, layout):
    """The cells of a region that lives longer than a launch."""
    if layout.chains:  # their memory is used again by the next launch
        return Cells(layout, region.address, region.nbytes)
    if layout not in region.cells:
        region.cells[layout] = Cells(layout, region.address, region.nbytes)
    return region.cells[layout]


def cells_of_views(regions, layout):
    """Those of arrays that may overlap."""
    found, spans = {}, _merged((r.address, r.address + r.nbytes) for r in regions)
    for start, stop in spans:
        cells = Cells(layout, start, stop - start)
        found |= {id(r): cells for r in regions if start <= r.address <= stop}
    return [found[id(r)] for r in regions]


def _merged(spans):
    """Spans that touch or overlap, as one."""
    out = []
    for start, stop in sorted(spans):
        if out and start <= out[-1][1]:
            out[-1] = (out[-1][0], max(out[-1][1], stop))
        else:
            out.append((start, stop))
    return out
