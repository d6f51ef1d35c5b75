"""The order in which the blocks of a function run when its lanes are at different places."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator

from .instructions import Block


@dataclasses.dataclass(eq=False)
class Loop:
    """Blocks that lead to one another: `members` in their order, and the loops that are left without `header`."""

    header: str
    members: list[str]
    inner: list[Loop]

    def all(self) -> Iterator[Loop]:
        """It and those within it, outer ones first."""
        yield self
        for loop in self.inner:
            yield from loop.all()


def arranged(blocks: dict[str, Block], entry: str, headers: Iterable[str] = ()) -> tuple[list[str], list[Loop]]:
    """All blocks, each after those that lead to it but for ways back to headers, loops in one piece; and the loops.

    A loop that contains one of `headers` begins with it; else with the block where it is entered.
    """
    wanted = set(headers)

    def region(names: set[str], start: str, cut: set[str]) -> tuple[list[str], list[Loop]]:
        """Of some blocks; ways to those in `cut` do not count."""
        order: list[str] = []
        loops: list[Loop] = []
        for component in _components(names, start, lambda x: [s for s in blocks[x].successors if s in names - cut]):
            inside = set(component)
            if len(component) == 1 and component[0] not in set(blocks[component[0]].successors) - cut:
                order += component
                continue
            entered = [x for x in component if x == start or set(blocks[x].predecessors) & names - inside]
            header = next((x for x in component if x in wanted), (entered or component)[0])
            members, inner = region(inside, header, cut | {header})
            order += members
            loops.append(Loop(header, members, inner))
        return order, loops

    return region(set(blocks), entry, set())


def _components(names: set[str], start: str, following: Callable[[str], list[str]]) -> list[list[str]]:
    """Strongly connected components, in topological order (Tarjan)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def begin(name: str) -> tuple[str, Iterator[str]]:
        index[name] = low[name] = len(index)
        stack.append(name)
        return name, iter(following(name))

    for root in [start, *sorted(names)]:
        work = [] if root in index else [begin(root)]
        while work:
            name, rest = work[-1]
            successor = next(rest, None)
            if successor is None:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[name])
                if low[name] == index[name]:
                    place = stack.index(name)
                    found.append(stack[place:])
                    del stack[place:]
            elif successor not in index:
                work.append(begin(successor))
            elif successor in stack:
                low[name] = min(low[name], index[successor])
    return found[::-1]


def post_dominators(blocks: dict[str, Block], ends: tuple[str, ...]) -> dict[str, set[str]]:
    """Of each block, those that every way from it to one of these ends goes through."""
    after = {name: {name} if block.end.op in ends else set(blocks) for name, block in blocks.items()}
    changed = True
    while changed:
        changed = False
        for name in reversed(list(blocks)):
            if blocks[name].successors:
                made = {name} | set.intersection(*(after[x] for x in blocks[name].successors))
                changed |= made != after[name]
                after[name] = made
    return after


def reached(blocks: dict[str, Block], name: str, until: set[str]) -> set[str]:
    """The blocks that a branch leads to before `until`."""
    found: set[str] = set()
    left = list(blocks[name].successors)
    while left:
        block = left.pop()
        if block not in found and block not in until:
            found.add(block)
            left += blocks[block].successors
    return found
