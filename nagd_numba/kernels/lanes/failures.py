"""Of what fails, only that it does: how a function makes its messages is nothing for lanes."""

from __future__ import annotations

from .instructions import Block, Function, Instruction


def cut(function: Function) -> Function:
    """The function without what it does once it is sure that it fails.

    Numba's functions return 0, or another whole number where they raise.
    """
    blocks = function.blocks
    well: set[str] = set()  # blocks from which a way leads to a return that may be of 0
    left = [name for name, block in blocks.items() if block.end.op == "ret" and not block.phis and _may_be_0(block, "")]
    for name, block in blocks.items():
        if block.end.op == "ret" and block.phis:
            good = [p for p in block.predecessors if _may_be_0(block, p)]
            left += good
            well |= {name} if good else set()
    while left:
        name = left.pop()
        if name not in well:
            well.add(name)
            left += blocks[name].predecessors
    entry = next(iter(blocks))
    kept: dict[str, Block] = {}
    todo = [entry]
    while todo:
        name = todo.pop()
        if name in kept:
            continue
        block = kept[name] = Block(name, blocks[name].body, blocks[name].successors)
        if name not in well:
            block.body = [Instruction("fail")]
            block.successors = []
        todo += block.successors
    for name, block in kept.items():
        block.predecessors = [p for p in blocks[name].predecessors if p in kept and name in kept[p].successors]
        block.body = [_from(made, block.predecessors) if made.op == "phi" else made for made in block.body]
    return Function(function.returns, function.arguments, {name: kept[name] for name in blocks if name in kept})


def _may_be_0(block: Block, come_from: str) -> bool:
    """Does a block return what may be 0, when it is come to from another one?"""
    if not block.end.operands:
        return True
    (value,) = block.end.operands
    for phi in block.phis:
        if phi.result == value:
            value = phi.operands[phi.labels.index(come_from)]
    return not value.lstrip("-").isdigit() or int(value) == 0


def _from(phi: Instruction, blocks: list[str]) -> Instruction:
    pairs = [(x, label) for x, label in zip(phi.operands, phi.labels, strict=True) if label in blocks]
    operands, labels = [x for x, _ in pairs], [label for _, label in pairs]
    return Instruction("phi", phi.result, phi.kind, operands, [phi.kind] * len(pairs), "", labels)
