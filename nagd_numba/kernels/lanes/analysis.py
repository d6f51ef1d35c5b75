"""What is the same in all lanes of a function, and which of its blocks the same lanes run."""

from __future__ import annotations

import enum
from collections.abc import Mapping

from . import order
from .instructions import Function, Instruction
from .memory import Memory, Places

TAKE, EVALUATION, EVALUATE = "@nagd_numba.take", "@nagd_numba.evaluation", "@nagd_numba.evaluate"


class Value(enum.Enum):
    """An argument of the function: the same in all lanes, or one for each."""

    UNIFORM = "uniform"
    LANES = "lanes"


class Analysis:
    """Of one function; `arguments` says what each is, by name: a `Value` or the `Memory` that a pointer is to."""

    def __init__(
        self, function: Function, arguments: Mapping[str, Memory | Value], headers: tuple[str, ...], mixed: bool
    ) -> None:
        self.function = function
        self.blocks = blocks = function.blocks
        self.entry = next(iter(blocks))
        self.order, self._outer = order.arranged(blocks, self.entry, headers)
        self.loops = [loop for outer in self._outer for loop in outer.all()]
        self.back = {
            (p, loop.header) for loop in self.loops for p in loop.members if loop.header in blocks[p].successors
        }
        self.home: dict[str, str] = {}  # the block where a value is made
        self.made: dict[str, Instruction] = {}
        for block in blocks.values():
            for made in block.body:
                if made.result:
                    self.home[made.result], self.made[made.result] = block.name, made
        self.places = Places(function, {k: v for k, v in arguments.items() if isinstance(v, Memory)}, mixed)
        self.divergent = {name for name, what in arguments.items() if what is Value.LANES}
        self.partial: set[str] = set()  # blocks that perhaps not all lanes of the call run together
        self._find_divergent()
        self._find_survivors()
        self._find_groups()

    def uses(self, made: Instruction, block: str) -> list[tuple[str, str]]:
        """The values that an instruction uses, and where: a phi's are used where they come from."""
        places = made.labels if made.op == "phi" else [block] * len(made.operands)
        return [(x, place) for x, place in zip(made.operands, places, strict=True) if x in self.home]

    def _find_divergent(self) -> None:
        """Values that differ: what was made of others that do, and where lanes come together that had parted."""
        blocks = self.blocks
        # Where some lanes have failed, the others come together as before, but they are no longer all.
        after = order.post_dominators(blocks, ("ret",))
        for_all = order.post_dominators(blocks, ("ret", "fail", "unreachable"))
        parting: dict[str, set[str]] = {}  # blocks with a branch that differs, and what not all lanes run because of it
        joins: set[str] = set()
        while True:
            before = len(self.divergent), len(parting), len(joins)
            for block in blocks.values():
                for made in block.body:
                    if made.result and self._diverges(made, block.name in joins):
                        self.divergent.add(made.result)
                if len(block.successors) > 1 and block.end.operands[0] in self.divergent:
                    parting[block.name] = order.reached(blocks, block.name, after[block.name] - {block.name})
            for name, region in parting.items():
                for other in blocks.values():
                    ways = [((p, other.name) in self.back) for p in other.predecessors if p in region or p == name]
                    if max(ways.count(True), ways.count(False)) > 1:
                        joins.add(other.name)
            for loop in self.loops:
                inside = set(loop.members)
                if not inside.isdisjoint(parting):
                    self._part(loop, inside, parting, joins)
            if before == (len(self.divergent), len(parting), len(joins)):
                break
        self.parting = set(parting)
        for name in parting:
            self.partial |= order.reached(blocks, name, for_all[name] - {name})
        self.always = for_all[self.entry] - self.partial  # blocks that every call runs

    def _part(self, loop: order.Loop, inside: set[str], parting: dict[str, set[str]], joins: set[str]) -> None:
        """A loop in which lanes part: they come to its other entries, and leave it, at different times."""
        blocks = self.blocks
        self.partial |= inside
        joins |= {x for x in inside - {loop.header} if not inside.issuperset(blocks[x].predecessors) or x == self.entry}
        apart = {x for name in inside & set(parting) for x in parting[name] | {name}}
        if any(not inside.issuperset(blocks[x].successors) for x in inside & apart):
            for block in blocks.values():
                for made in block.body:
                    for x, place in self.uses(made, block.name):
                        if self.home[x] not in inside:
                            continue
                        if place not in inside:
                            self.divergent.add(x)
                        elif made.op == "phi" and block.name not in inside:
                            self.divergent.add(str(made.result))

    def _diverges(self, made: Instruction, joined: bool) -> bool:
        if made.op == "load" and self.places.of(made.operands[0]) is Memory.PRIVATE:
            return True
        if made.op == "call" and made.detail in (TAKE, EVALUATE):
            return True
        return (joined and made.op == "phi") or not self.divergent.isdisjoint(made.operands)

    def _find_survivors(self) -> None:
        """Values that lanes take along when they leave a loop before others do."""
        self.split = [loop for loop in self.loops if not self.parting.isdisjoint(loop.members)]
        within: dict[str, set[str]] = {}  # of a block, the innermost loop in which lanes part
        for loop in self.split:
            within |= {name: set(loop.members) for name in loop.members}
        self.survivors: set[str] = set()
        for block in self.blocks.values():
            for made in block.body:
                for x, place in self.uses(made, block.name):
                    if place not in within.get(self.home[x], {place}):
                        self.survivors.add(x)

    def _find_groups(self) -> None:
        """Blocks that the same lanes run: `group` of a block is the one where these come together.

        Within a group all branches are the same for all of them: they jump, as one lane would.
        """
        first = {self.entry} | {loop.header for loop in self.split}
        # What comes after such a loop is run once, when all lanes have left it.
        for loop in self.split:
            first |= {x for name in loop.members for x in self.blocks[name].successors if x not in loop.members}
        first |= {x for name in self.parting for x in self.blocks[name].successors}
        wrong = first
        while wrong:
            first |= wrong
            self.group: dict[str, str] = {}
            for name in self.order:
                before = {self.group[p] for p in self.blocks[name].predecessors if (p, name) not in self.back}
                self.group[name] = name if name in first or len(before) != 1 else before.pop()
            wrong = {name for p, name in self.back if self.group[name] not in (name, self.group[p])}
