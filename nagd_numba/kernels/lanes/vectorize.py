"""One function for many lanes: LLVM code that does for W problems what a function does for one.

Each value that differs between lanes is a vector.  Groups of blocks run one after another, in an order in which each
comes after those that lead to it; `wait` of a group are the lanes that have to run it.  A branch on what differs sends
each lane to where it goes; a group for which no lanes wait is passed over; at the end of a loop, lanes that wait at its
header go around again.

Where values are written for all lanes, those that are elsewhere get what means nothing.  They do not see it: a value is
used in the round of its loop in which it was made, but for those that come along the way back to the header, or leave
the loop (`survivors`), and these are written for the lanes that are there alone.
"""

from __future__ import annotations

from collections.abc import Mapping

from .analysis import EVALUATION, Analysis, Value
from .instructions import Block, Function, Instruction
from .memory import Memory
from .operations import Operations
from .order import Loop

CHEAP = 16  # instructions that are sooner run for no lanes than passed over
_HARMLESS_CALLS = ("@llvm.fabs.", "@llvm.fma.", "@llvm.assume", "@llvm.experimental.noalias")


class Vectorizer(Operations):
    """`text` is the form of a function for `width` lanes, called `lanes`.

    It has the arguments of the function but those IGNORED, pointers to W numbers for those of LANES, and last the lanes
    that are to run it, as bits.  It returns the lanes whose function returned something else than 0.
    """

    def __init__(
        self,
        function: Function,
        arguments: Mapping[str, Memory | Value],
        width: int,
        headers: tuple[str, ...] = (),
        trusted: bool = False,
    ) -> None:
        super().__init__(Analysis(function, arguments, headers, mixed=trusted), arguments, width, trusted)
        self.function = function

    def text(self) -> str:
        seen, blocks = self.seen, self.function.blocks
        self.crossing = {
            x
            for block in blocks.values()
            for made in block.body
            for x, _ in seen.uses(made, block.name)
            if seen.home[x] != block.name or "phi" in (made.op, seen.made[x].op) or made.detail == EVALUATION
        }
        groups: dict[str, list[str]] = {}
        for name in seen.order:
            groups.setdefault(seen.group[name], []).append(name)
        self.labels = {name: f"b{k}" for k, name in enumerate(seen.order)}
        firsts = [name for name in seen.order if name in groups]
        self.rank = {name: k for k, name in enumerate(firsts)}
        self.apart = {target for p, target in seen.back if not self._goes_on(p, target)}
        ends: dict[str, list[Loop]] = {}
        for loop in reversed(seen.loops):  # inner ones first
            if loop.header in self.apart:
                ends.setdefault([name for name in loop.members if name in groups][-1], []).append(loop)
        for k, first in enumerate(firsts):
            label = self.labels[first]
            following = f"check.{self.labels[firsts[k + 1]]}" if k + 1 < len(firsts) else "finish"
            self.after = f"around.{label}.0" if first in ends else following
            self._group(first, groups[first])
            for number, loop in enumerate(ends.get(first, [])):
                self.lines.append(f"around.{label}.{number}:")
                any_ = self.any(self.emit(f"load {self.flags}, ptr %wait.{self.labels[loop.header]}"))
                onward = f"around.{label}.{number + 1}" if number + 1 < len(ends[first]) else following
                self.do(f"br i1 {any_}, label %check.{self.labels[loop.header]}, label %{onward}")
        return self._assembled()

    def _assembled(self) -> str:
        seen, bits, flags = self.seen, f"i{self.width}", self.flags
        parameters: list[str] = []
        entry = [f"  %all.bits = trunc i64 %lanes to {bits}", f"  %all = bitcast {bits} %all.bits to {flags}"]
        for kind, name in self.function.arguments:
            if self.arguments[name] is Value.LANES:
                entry.append(f"  {name}.lanes = load {self.vector(kind)}, ptr {name}")
                parameters.append(f"ptr {name}")
            elif self.arguments[name] is not Memory.IGNORED:
                parameters.append(f"{kind} {name}")
        for first in self.rank:
            initial = "%all" if first == seen.entry else "zeroinitializer"
            entry.append(f"  %wait.{self.labels[first]} = alloca {flags}")
            entry.append(f"  store {flags} {initial}, ptr %wait.{self.labels[first]}")
        for name in sorted(self.crossing):
            kind = seen.made[name].kind
            entry.append(f"  {self.slot(name)} = alloca {self.vector(kind) if name in seen.divergent else kind}")
        status = self.vector(self.function.returns)
        entry += [f"  %returned = alloca {status}", f"  store {status} zeroinitializer, ptr %returned"]
        entry += ["  %arena = alloca ptr", "  store ptr null, ptr %arena", *self.head]
        finish = [
            "finish:",
            "  call void @nagd_numba.release(ptr %arena)",
            f"  %status = load {status}, ptr %returned",
            f"  %failed = icmp ne {status} %status, zeroinitializer",
            f"  %failed.here = select {flags} %all, {flags} %failed, {flags} zeroinitializer",
            f"  %failed.bits = bitcast {flags} %failed.here to {bits}",
            f"  %failed.wide = zext {bits} %failed.bits to i64",
            "  ret i64 %failed.wide",
        ]
        head = f"define i64 @lanes({', '.join([*parameters, 'i64 %lanes'])}) {{"
        begin = f"  br label %check.{self.labels[seen.entry]}"
        return "\n".join([*sorted(self.declared), head, "start:", *entry, begin, *self.lines, *finish, "}"])

    # -- control flow

    def _group(self, first: str, names: list[str]) -> None:
        """The blocks that the lanes run which wait for the first of them."""
        label = self.labels[first]
        self.forget()
        self.lines.append(f"check.{label}:")
        self.mask = self.emit(f"load {self.flags}, ptr %wait.{label}")
        self.do(f"store {self.flags} zeroinitializer, ptr %wait.{label}")
        self.full = first not in self.seen.partial
        if not self.full and self._is_cheap(names):  # what is of all lanes has no mask, which may be empty
            self.do(f"br label %{label}")
        else:
            self.do(f"br i1 {self.any(self.mask)}, label %{label}, label %{self.after}")
        if self.full:
            self.mask = "%all"
        for name in names:
            block = self.function.blocks[name]
            self.block = name
            self.forget()
            self.lines.append(f"{self.labels[name]}:")
            for made in block.body[:-1]:
                if made.op != "phi":
                    self.instruction(made)
            self._leave(block, block.end)

    def _is_cheap(self, names: list[str]) -> bool:
        """May it be run for no lanes, at little cost?  What was made before it then need not have been made."""
        if any(loop.header in names and loop.header not in self.apart for loop in self.seen.loops):
            return False
        body = [made for name in names for made in self.function.blocks[name].body]
        return len(body) <= CHEAP and all(self._is_harmless(made, names) for made in body)

    def _is_harmless(self, made: Instruction, names: list[str]) -> bool:
        if made.op in ("load", "store"):
            return self.is_always_there(made.operands[-1], names)
        if made.op == "call":
            return made.detail.startswith(_HARMLESS_CALLS)
        if made.op in ("br", "switch"):
            return all(x in self.seen.divergent for x in made.operands[:1])
        return made.op not in ("fdiv", "frem", "sdiv", "udiv", "srem", "urem", "ret")

    def _leave(self, block: Block, end: Instruction) -> None:
        if end.op == "ret":
            kind = self.vector(end.kinds[0])
            old = self.emit(f"load {kind}, ptr %returned")
            value = self.varying(end.operands[0], end.kinds[0])
            self.do(f"store {kind} {self.chosen(kind, self.mask, value, old)}, ptr %returned")
            self.do(f"br label %{self.after}")
        elif end.op == "fail":
            kind = self.vector(self.function.returns)
            old = self.emit(f"load {kind}, ptr %returned")
            failed = f"splat ({self.function.returns} 1)"
            self.do(f"store {kind} {self.chosen(kind, self.mask, failed, old)}, ptr %returned")
            self.do(f"br label %{self.after}")
        elif end.op == "unreachable":
            self.do(f"br label %{self.after}")
        elif len(block.successors) == 1:
            self._go(block, block.successors[0])
        elif end.operands[0] in self.seen.divergent:
            for target, here in self._ways(end).items():
                self._send(block, target, here)
            self.do(f"br label %{self.after}")
        else:
            kind, condition = end.kinds[0], self.uniform(end.operands[0], end.kinds[0])
            edges = [f"edge.{self.labels[block.name]}.{k}" for k in range(len(end.labels))]
            if end.op == "br":
                self.do(f"br i1 {condition}, label %{edges[0]}, label %{edges[1]}")
            else:
                cases = zip(end.operands[1:], edges[1:], strict=True)
                listed = " ".join(f"{kind} {value}, label %{edge}" for value, edge in cases)
                self.do(f"switch {kind} {condition}, label %{edges[0]} [ {listed} ]")
            for target, edge in zip(end.labels, edges, strict=True):
                self.lines.append(f"{edge}:")
                self.forget()
                self._go(block, target)

    def _ways(self, end: Instruction) -> dict[str, str]:
        """Of each block that a branch goes to, which lanes go there."""
        kind, value = end.kinds[0], self.varying(end.operands[0], end.kinds[0])
        masks: dict[str, str] = {}
        if end.op == "br":
            # `select`, not `and`: the condition of a lane that is elsewhere may be poison.
            yes = masks[end.labels[0]] = self.chosen(self.flags, self.mask, value, "zeroinitializer")
            masks[end.labels[1]] = self.chosen(self.flags, yes, "zeroinitializer", self.mask)
            return masks
        rest = self.mask
        for case, target in zip(end.operands[1:], end.labels[1:], strict=True):
            same = self.emit(f"icmp eq {self.vector(kind)} {value}, splat ({kind} {case})")
            yes = self.chosen(self.flags, rest, same, "zeroinitializer")
            rest = self.chosen(self.flags, yes, "zeroinitializer", rest)
            masks[target] = self.emit(f"or {self.flags} {masks[target]}, {yes}") if target in masks else yes
        target = end.labels[0]
        masks[target] = self.emit(f"or {self.flags} {masks[target]}, {rest}") if target in masks else rest
        return masks

    def _go(self, block: Block, target: str) -> None:
        """All lanes of the block go to `target`."""
        self._send(block, target, self.mask)
        self.do(f"br label %{self.labels[target] if self._goes_on(block.name, target) else self.after}")

    def _goes_on(self, name: str, target: str) -> bool:
        """Do all lanes of a block jump to another one?  Lanes that part wait there, even at their own group's head."""
        return self.seen.group[name] == self.seen.group[target] and name not in self.seen.parting

    def _send(self, block: Block, target: str, lanes: str) -> None:
        """Some lanes of the block go to `target`, with what its phis take from here."""
        seen, group = self.seen, self.seen.group[block.name]
        together = self._goes_on(block.name, target)
        moved = []
        for phi in self.function.blocks[target].phis:
            value = phi.operands[phi.labels.index(block.name)]
            divergent = phi.result in seen.divergent
            moved.append((phi, (self.varying if divergent else self.uniform)(value, phi.kind)))
        # Those that come first may write for all lanes.
        forward = [seen.group[p] for p in self.function.blocks[target].predecessors if (p, target) not in seen.back]
        first = min(forward, key=self.rank.__getitem__, default=None) == group and (block.name, target) not in seen.back
        # Lanes that leave a loop do not write for those that left it in a round before.
        leaves = any(block.name in loop.members and target not in loop.members for loop in seen.split)
        for phi, value in moved:
            if phi.result in self.crossing:
                alone = phi.result in seen.survivors or leaves or not (together or first)
                self.keep(phi, value, lanes if alone else None)
        if not together:
            place = f"%wait.{self.labels[target]}"
            waiting = self.emit(f"or {self.flags} {self.emit(f'load {self.flags}, ptr {place}')}, {lanes}")
            self.do(f"store {self.flags} {waiting}, ptr {place}")
