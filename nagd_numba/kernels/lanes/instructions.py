"""LLVM code as data: the instructions of one function, read from LLVM's own text."""

from __future__ import annotations

import dataclasses
import re

WORD = r'(?:"[^"]*"|[-a-zA-Z$._0-9]+)'  # a name, without its % or @
NAME = f"%{WORD}"
_FLAGS = re.compile(
    r"\b(?:nuw|nsw|exact|disjoint|nneg|samesign|inbounds|nusw|volatile|noundef|nonnull|zeroext|signext|inrange\([^)]*\)|"
    r"range\([^)]*\)|noalias|returned|captures\([^)]*\)|readonly|writeonly|immarg|align \d+|dereferenceable\(\d+\)|"
    r"dereferenceable_or_null\(\d+\)|initializes\([^)]*\)|nofpclass\([^)]*\))(?=\s) *"
)
_FAST = re.compile(r"\b(?:fast|reassoc|nnan|ninf|nsz|arcp|contract|afn)\b")
_METADATA = re.compile(r"(, !\S+ !\S+)+$")
_BINARY = {
    *("add", "sub", "mul", "sdiv", "udiv", "srem", "urem", "shl", "lshr", "ashr", "and", "or", "xor"),
    *("fadd", "fsub", "fmul", "fdiv", "frem"),
}
_CASTS = {
    *("trunc", "zext", "sext", "fptrunc", "fpext", "fptoui", "fptosi", "uitofp", "sitofp", "ptrtoint", "inttoptr"),
    "bitcast",
}


class Unfit(Exception):
    """Why a function cannot run in lanes."""


@dataclasses.dataclass(eq=False)
class Instruction:
    """One instruction: `result = op(operands)`; `kind` is the type of the result, `kinds` are those of the operands."""

    op: str
    result: str | None = None
    kind: str = "void"
    operands: list[str] = dataclasses.field(default_factory=list)
    kinds: list[str] = dataclasses.field(default_factory=list)
    detail: str = ""  # the predicate, the called function, the type that an address steps over
    labels: list[str] = dataclasses.field(default_factory=list)  # where a phi's operands come from, a branch goes


@dataclasses.dataclass(eq=False)
class Block:
    name: str
    body: list[Instruction] = dataclasses.field(default_factory=list)
    successors: list[str] = dataclasses.field(default_factory=list)
    predecessors: list[str] = dataclasses.field(default_factory=list)

    @property
    def phis(self) -> list[Instruction]:
        return [made for made in self.body if made.op == "phi"]

    @property
    def end(self) -> Instruction:
        return self.body[-1]


@dataclasses.dataclass
class Function:
    returns: str
    arguments: list[tuple[str, str]]  # type and name
    blocks: dict[str, Block]


def span(text: str, name: str) -> tuple[int, int]:
    """Where in a module's text a function is defined: from its head to behind its last brace."""
    begin = next(
        m.start() for m in re.finditer(r"^define .*$", text, re.M) if f"@{name}(" in m.group().replace('"', "")
    )
    return begin, text.index("\n}", begin) + 2


def read(text: str, name: str) -> Function:
    """The function of this name in a module's text."""
    begin, end = span(text, name)
    head, *lines = text[begin:end].splitlines()
    opening = head.index("(", head.index(name))
    inside = head[opening + 1 : _closing(head, opening)]
    arguments = [(_typed(part)[0], part.split()[-1]) for part in _split(inside)]
    returns = _clean(head[: head.index("@")]).split()[-1]
    blocks: dict[str, Block] = {}
    block = Block("%0")
    pending = ""
    for line in lines[:-1]:
        label = re.match(rf"^({WORD}):", line)
        if label:
            block = blocks[f"%{label.group(1)}"] = Block(f"%{label.group(1)}")
            continue
        pending = f"{pending} {line.strip()}".strip()
        if not pending or (pending.startswith("switch ") and not re.search(r"\](, !\S+ !\S+)*$", pending)):
            continue  # a switch takes several lines
        blocks.setdefault(block.name, block)
        made = _instruction(pending)
        pending = ""
        if made is not None:
            block.body.append(made)
    for block in blocks.values():
        block.successors = list(dict.fromkeys(block.end.labels)) if block.end.op != "phi" else []
        for successor in block.successors:
            blocks[successor].predecessors.append(block.name)
    return Function(returns, arguments, blocks)


def _instruction(line: str) -> Instruction | None:
    """Read one; None where it means nothing to the result."""
    text = _METADATA.sub("", line)
    result = None
    assigned = re.match(rf"^({NAME}) = (.*)$", text)
    if assigned:
        result, text = assigned.groups()
    if _FAST.search(re.split("[@%]", text)[0]):
        raise Unfit("arithmetic that need not be exact")
    op, _, rest = text.partition(" ")
    if op in ("tail", "notail", "musttail"):
        op, _, rest = rest.partition(" ")
    if op in ("br", "switch", "ret", "unreachable"):
        return _end(op, rest)
    if op == "fence":
        return None
    if op == "phi":
        kind, _, rest = rest.partition(" ")
        pairs = re.findall(rf"\[ (.+?), ({NAME}) \]", rest)
        return Instruction(op, result, kind, [a for a, _ in pairs], [kind] * len(pairs), "", [b for _, b in pairs])
    rest = _clean(rest)
    if op == "call":
        called = re.match(rf"^(.*?)\s*([@%]{WORD})\(", rest)
        if called is None:
            raise Unfit("a call of what is not known")
        given = _split(rest[called.end() : _closing(rest, called.end() - 1)])
        kind = re.sub(r"\(.*\)$", "", called.group(1)).strip()
        return Instruction(op, result, kind, *_operands(given), called.group(2))
    if op in _CASTS:
        source, _, kind = rest.rpartition(" to ")
        return Instruction(op, result, kind, *_operands([source]))
    detail = ""
    if op in ("icmp", "fcmp"):
        detail, _, rest = rest.partition(" ")
    parts = _split(rest)
    if op in ("load", "getelementptr", "alloca"):
        detail, parts = parts[0], [] if op == "alloca" else parts[1:2] if op == "load" else parts[1:]
        return Instruction(op, result, detail if op == "load" else "ptr", *_operands(parts), detail)
    if op == "store":
        return Instruction(op, None, "void", *_operands(parts[:2]))
    if op == "extractvalue":
        operands, kinds = _operands(parts[:1])
        return Instruction(op, result, _split(kinds[0][1:-1])[int(parts[1])], operands, kinds, parts[1])
    if op in _BINARY or op in ("icmp", "fcmp"):
        kind, first = _typed(parts[0])
        return Instruction(op, result, "i1" if detail else kind, [first, parts[1]], [kind, kind], detail)
    if op in ("fneg", "freeze", "select"):
        operands, kinds = _operands(parts)
        return Instruction(op, result, kinds[-1], operands, kinds)
    raise Unfit(f"the instruction {op}")


def _end(op: str, rest: str) -> Instruction:
    """What ends a block."""
    if op == "br":
        *condition, last = (part.split() for part in _split(rest))
        if not condition:
            return Instruction(op, labels=[last[1]])
        (kind, value), (_, yes) = condition
        return Instruction(op, operands=[value], kinds=[kind], labels=[yes, last[1]])
    if op == "switch":
        head, _, cases = rest.partition("[")
        (kind, name), (_, default) = (part.split() for part in _split(head))
        found = re.findall(rf"\S+ (\S+), label ({NAME})", cases)
        operands, labels = [name, *(x for x, _ in found)], [default, *(x for _, x in found)]
        return Instruction(op, operands=operands, kinds=[kind] * len(operands), labels=labels)
    return Instruction(op, None, "void", *_operands([] if rest in ("", "void") else [rest]))


def _clean(text: str) -> str:
    return _FLAGS.sub("", text).strip()


def _closing(text: str, opening: int) -> int:
    """Where the bracket that opens there is closed."""
    depth = 0
    for k in range(opening, len(text)):
        depth += {"(": 1, ")": -1}.get(text[k], 0)
        if depth == 0:
            return k
    raise Unfit(text)


def _split(text: str) -> list[str]:
    """At the commas that stand in no brackets."""
    parts, depth, begin, quoted = [], 0, 0, False
    for k, letter in enumerate(text):
        quoted ^= letter == '"'
        depth += 0 if quoted else {"(": 1, "[": 1, "{": 1, "<": 1, ")": -1, "]": -1, "}": -1, ">": -1}.get(letter, 0)
        if letter == "," and depth == 0 and not quoted:
            parts.append(text[begin:k].strip())
            begin = k + 1
    parts.append(text[begin:].strip())
    return [part for part in parts if part]


def _typed(text: str) -> tuple[str, str]:
    """The type and the value in `i64 %x`."""
    text = _clean(f"{text} ")
    depth = 0
    for k, letter in enumerate(text):
        depth += {"{": 1, "[": 1, "<": 1, "}": -1, "]": -1, ">": -1}.get(letter, 0)
        if depth == 0 and letter == " ":
            return text[:k], _clean(f"{text[k:]} ")
    return text, ""


def _operands(parts: list[str]) -> tuple[list[str], list[str]]:
    typed = [_typed(part) for part in parts]
    return [value for _, value in typed], [kind for kind, _ in typed]
