"""The machine code of the CUDA kernels as it is shipped, in numbers, and the committed tables of them.

There is a table for each pair of NVVM and nvJitLink that users have: the newest, those of CUDA 13.0, and NVVM 13.0
with the newest nvJitLink, which is what PyTorch 2.13 brings.  The one of what is installed is read and written.

    python -m tests.ptx.machine_code            what differs from the table
    python -m tests.ptx.machine_code --write    rewrite the table: `git diff` then shows what changed

Needs no driver: `Kernel.image` is linked by nvJitLink, and read by cuobjdump and nvdisasm (pip wheels).
"""

from __future__ import annotations

import argparse
import csv
import functools
import re
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from nagd_numba.gpu import (
    elementwise,
    exchange,
    guard_kernels,
    guard_scale,
    hyper_kernels,
    row_kernels,
    stored_kernel,
    toolchain,
)
from nagd_numba.gpu.compiler import Kernel
from nagd_numba.kernels.composed import ARRAY, L1, NUMBER, SCALED_L1, Parts, composed
from nagd_numba.kernels.rule import Rule
from nagd_numba.kernels.stored_loops import COMPENSATED, RANDOM
from nagd_numba.mlp.gpu import finite, gemm, losses, persistent, reductions, split
from nagd_numba.mlp.gpu.gemm import Kind
from nagd_numba.optimizers.registry import RULES

TABLES = Path(__file__).with_name("tables")
NEWEST = TABLES / "nvvm-13.5-nvjitlink-13.5.csv"

Capability = tuple[int, int]
OLDEST: Capability = (7, 5)  # compiled for, not in the table
CAPABILITIES: tuple[Capability, ...] = ((8, 0), (9, 0), (10, 0), (12, 0))  # in the table
ONE: tuple[Capability, ...] = ((9, 0),)

# The dtypes of parameters in memory, and whether there is a master copy.
STORED = {
    "float32": (False,),
    "float64": (False,),
    "float16": (False, True),
    "bfloat16": (False, True),
}
# Of the rules but Nesterov's: with a master copy or not, for lists or not.
FEW = {
    "float32": ((False, False), (False, True)),
    "float64": ((False, False),),
    "bfloat16": ((True, True),),
}
LINKED = ("nvvm", "nvJitLink")  # what decides the code
WRITE = "python -m tests.ptx.machine_code --write"
REGISTERS = 10  # per cent more that another compiler may take
INSTRUCTIONS = 10  # per cent more in any case


class Code(NamedTuple):
    """A kernel's machine code in numbers."""

    registers: int
    shared: int  # bytes, without those that the launch gives
    spills: int  # bytes of stack and local memory, and instructions that use them
    wide_loads: int  # of 16 bytes or more, from the device's memory
    wide_stores: int
    generic: int  # accesses that find out which kind of memory it is: slower, and not needed
    wide_shared: int  # loads and stores of 16 bytes in shared memory
    fma: int
    instructions: int


class Table(NamedTuple):
    """The numbers of kernels, by (name, architecture), and the compilers that made them."""

    tools: str
    rows: Mapping[tuple[str, str], Code]


class Entry(NamedTuple):
    """A kernel of the table; it is made when it is called for."""

    name: str
    make: Callable[[], Kernel]
    capabilities: tuple[Capability, ...]


def arch(capability: Capability) -> str:
    return f"sm_{capability[0]}{capability[1]}"


def short_name(kernel: Kernel) -> str:
    """Without the digest of the sources."""
    return kernel.name.rpartition("_")[0]


def tool(name: str) -> str | None:
    """The path of one of NVIDIA's programs."""
    for root in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        for found in Path(root, "nvidia").glob(f"*/bin/{name}*"):
            if found.stem == name:
                return str(found)
    return shutil.which(name)


def missing() -> str | None:
    """What to install before machine code can be read."""
    absent = [f"nvidia-cuda-{name}" for name in ("cuobjdump", "nvdisasm") if tool(name) is None]
    return f"{' and '.join(absent)} not installed: pip install '.[dev]'" if absent else None


def read(image: bytes) -> Code:
    """The numbers of an image with one kernel."""
    usage, opcodes = _said_of(image, "cuobjdump", "-res-usage"), instructions(image)
    resources = {name: int(value) for name, value in re.findall(r"\b(REG|STACK|SHARED|LOCAL):(\d+)", usage)}
    assert len(resources) == 4, usage

    def count(pattern: str) -> int:
        return sum(re.fullmatch(pattern, opcode) is not None for opcode in opcodes)

    return Code(
        registers=resources["REG"],
        shared=resources["SHARED"],
        spills=resources["STACK"] + resources["LOCAL"] + count(r"(LDL|STL)(\..*)?"),
        wide_loads=count(r"LDG?\.(.*\.)?(128|256)(\..*)?"),
        wide_stores=count(r"STG?\.(.*\.)?(128|256)(\..*)?"),
        generic=count(r"(LD|ST)(\..*)?"),
        wide_shared=count(r"(LDS|STS)\.(.*\.)?128(\..*)?"),
        fma=count(r"(FFMA|DFMA)(\..*)?") + 2 * count(r"FFMA2(\..*)?"),  # two in one
        instructions=len(opcodes) - count("NOP"),
    )


def disassembled(image: bytes) -> str:
    """The machine code of an image as text."""
    return _said_of(image, "nvdisasm", "-c")


def instructions(image: bytes) -> list[str]:
    """The opcodes of an image with one kernel, with their modifiers, in order."""
    listing = disassembled(image)
    opcodes = re.findall(r"^\s*/\*[0-9a-f]{4,}\*/\s+\{?\s*(?:@!?U?P\w+\s+)?([A-Z]\w*(?:\.\w+)*)", listing, re.MULTILINE)
    assert "EXIT" in opcodes, listing[:1000]
    return opcodes


def _said_of(image: bytes, name: str, *arguments: str) -> str:
    program = tool(name)
    assert program is not None, missing()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kernel.cubin")
        path.write_bytes(image)
        done = subprocess.run([program, *arguments, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


# What is in the table.


class StepKind(NamedTuple):
    """Which of a rule's kernels for arrays of one dtype, and the architectures that it is looked at on."""

    options: tuple
    master: bool
    lists: bool
    capabilities: tuple[Capability, ...]


def step_kinds(rule: Rule, storage: str) -> list[StepKind]:
    """Of Nesterov's rule everything; of the others, whose kernels differ in the rule alone, a few on one architecture.

    In float32 with each other value of the first option too.
    """
    options = rule.defaults()
    if rule.name == "nesterov":
        found = [StepKind(options, m, lists, CAPABILITIES) for m in STORED[storage] for lists in (False, True)]
    else:
        found = [StepKind(options, m, lists, ONE) for m, lists in FEW.get(storage, ())]
    if storage == "float32":
        others = next(iter(rule.options.values()))[1:]
        found += [StepKind((value, *options[1:]), False, False, ONE) for value in others]
    return found


def step_entries(rule: Rule, storage: str) -> Iterator[Entry]:
    """The kernels of `step_kinds`."""
    for options, master, lists, capabilities in step_kinds(rule, storage):
        yield _step_entry(rule, options, storage, master, lists, capabilities)


def default_step(rule: Rule, storage: str) -> Entry:
    return _step_entry(rule, rule.defaults(), storage, False, False)


def _step_entry(
    rule: Rule,
    options: tuple,
    storage: str,
    master: bool,
    lists: bool,
    capabilities: tuple[Capability, ...] = CAPABILITIES,
) -> Entry:
    make = functools.partial(elementwise.kernel, rule, options, storage, master, lists)
    return Entry(short_name(make()), make, capabilities)


def network_entries() -> Iterator[Entry]:
    """The network's kernels, each with some of its options; on every architecture the hot ones."""
    rule = RULES["nesterov"]
    default: dict[str, Any] = {"rule": rule, "options": rule.defaults()}

    def product(purpose: str, tile: int, *kind: Any, everywhere: bool = False, **named: Any) -> Entry:
        made = Kind(*kind, **named)
        return _entry(gemm.kernel, purpose, made, tile, everywhere=everywhere)

    yield product("hidden", 64, "float32", "relu", everywhere=True)
    yield product("hidden", 32, "float32", "tanh", True, "float32", everywhere=True)
    yield product("hidden", 64, "float32", "sigmoid", False, "uint8")
    yield product("hidden", 32, "float32", "identity", True, "float64")
    yield product("hidden", 64, "float64", "tanh", True)
    yield product("hidden", 32, "float64", "relu", False, "uint8")
    yield product("output", 64, "float32")
    yield product("output", 32, "float64", source="float64")
    yield product("delta", 64, "float32", "relu", everywhere=True)
    yield product("delta", 32, "float32", "tanh", True)
    yield product("delta", 32, "float64", "sigmoid", True)
    yield product("delta", 64, "float64", "identity")
    yield product("gradient", 64, "float32")
    yield product("gradient", 32, "float32", source="uint8")
    yield product("gradient", 64, "float64")
    yield product("update", 64, "float32", **default, everywhere=True)
    yield product("update", 32, "float32", source="uint8", **default)
    yield product("update", 32, "float64", **default)

    yield product("hidden", 64, "float32", "relu", tf32=True)
    yield product("hidden", 32, "float32", "tanh", True, "uint8", tf32=True)
    yield product("output", 64, "float32", tf32=True, everywhere=True)
    yield product("delta", 32, "float32", "relu", tf32=True, everywhere=True)
    yield product("gradient", 64, "float32", tf32=True)
    yield product("update", 64, "float32", tf32=True, **default, everywhere=True)

    yield _entry(gemm.part_kernel, "hidden", Kind("float32"), 32, everywhere=True)
    yield _entry(gemm.part_kernel, "gradient", Kind("float32", source="uint8"), 64)
    yield _entry(gemm.part_kernel, "delta", Kind("float64"), 32)
    yield _entry(split.sum_kernel, "hidden", Kind("float32", "relu", True))
    yield _entry(split.sum_kernel, "gradient", Kind("float64"))
    yield _entry(split.sum_kernel, "update", Kind("float32", **default))

    yield _entry(split.sum_kernel, "hidden", Kind("float32", "relu"))
    yield _entry(split.sum_kernel, "update", Kind("float64", **default))

    for at, loss in enumerate(("cross_entropy", "mse", "binary_cross_entropy", "soft_cross_entropy")):
        yield _entry(losses.losses_kernel, "float32", loss, False, at == 1, everywhere=at == 0)
        yield _entry(losses.losses_kernel, "float64", loss, True, at != 1)
    yield _entry(losses.targets_kernel, "float32", "int64", losses.LABELS)
    yield _entry(losses.targets_kernel, "float32", "int32", losses.ONE_HOT)
    yield _entry(losses.targets_kernel, "float64", "bool", losses.BINARY)
    yield _entry(losses.targets_kernel, "float64", "float64", losses.REAL)
    yield _entry(losses.targets_kernel, "float32", "float32", losses.PROBABILITIES)
    for dtype in ("float32", "float64"):
        for flag in (False, True):
            yield _entry(losses.probabilities_kernel, dtype, flag)
            yield _entry(losses.classes_kernel, dtype, flag)
            yield _entry(reductions.squares_kernel, dtype, flag)
            yield _entry(reductions.apply_kernel, dtype, rule, rule.defaults(), flag)

    kinds = "float32", "float32", "relu", "cross_entropy", False, False, False
    yield _entry(persistent.kernel, *kinds, rule, rule.defaults(), everywhere=True)
    kinds = "float64", "uint8", "tanh", "mse", True, True, True
    yield _entry(persistent.kernel, *kinds, rule, rule.defaults())


MASK = Parts(mask="bytes")
BOUNDS = Parts(lower=NUMBER, upper=NUMBER)
RATES = Parts(rates=("lr",))
EVERYTHING = Parts(ARRAY, ARRAY, L1, average=True, rates=("lr", "weight_decay"), mask="bytes")


def composed_entries() -> Iterator[Entry]:
    """The kernels of rules with masks, bounds, averages and rates for elements: each alone, and all of it."""
    for name, parts, storage, lists in (
        ("nesterov", MASK, "float32", False),
        ("nesterov", MASK, "bfloat16", True),
        ("nesterov", BOUNDS, "float32", False),
        ("nesterov", RATES, "float32", False),
        ("nesterov", Parts(average=True), "float32", False),
        ("nesterov", EVERYTHING, "float32", False),
        ("nesterov", EVERYTHING, "float64", True),
        ("adam", replace(EVERYTHING, prox=SCALED_L1), "float32", False),
    ):
        rule = composed(RULES[name], parts)
        yield _entry(
            elementwise.kernel, rule, rule.defaults(), storage, False, lists, everywhere=parts in (MASK, RATES)
        )
    yield _entry(exchange.kernel)


def other_entries() -> Iterator[Entry]:
    """The kernels of steps with a guard, of hyper-parameters in the device's memory, of rows, and of small storage."""
    nesterov, adam = RULES["nesterov"], RULES["adam"]
    for storage in ("float32", "bfloat16"):
        yield _entry(guard_kernels.sums_kernel, storage, 1)
    for before in (True, False):
        yield _entry(guard_kernels.judge_kernel, "float32", 1, before)
    yield _entry(guard_kernels.step_kernel, nesterov, nesterov.defaults(), "float32", False, False)
    yield _entry(guard_kernels.step_kernel, nesterov, nesterov.defaults(), "bfloat16", True, True)
    yield _entry(guard_scale.scale_kernel, "float32")
    yield _entry(hyper_kernels.prepare_kernel, adam, adam.defaults(), "float32")
    yield _entry(finite.counts_kernel, "float32")
    yield _entry(row_kernels.look_kernel)
    yield _entry(row_kernels.note_kernel)
    for exact in ("float32", "float64"):
        yield _entry(row_kernels.step_kernel, nesterov, nesterov.defaults(), exact)
        yield _entry(row_kernels.finish_kernel, exact)
    yield _entry(stored_kernel.kernel, nesterov, nesterov.defaults(), RANDOM, "bfloat16", ("int8",))
    yield _entry(stored_kernel.kernel, nesterov, nesterov.defaults(), COMPENSATED, "float16", ("float32",))
    yield _entry(stored_kernel.kernel, adam, adam.defaults(), RANDOM, "bfloat16", ("int8", "uint8"))


def _entry(make: Callable[..., Kernel], *arguments: object, everywhere: bool = False) -> Entry:
    made = functools.partial(make, *arguments)
    return Entry(short_name(made()), made, CAPABILITIES if everywhere else ONE)


def entries() -> Iterator[Entry]:
    """Everything that is in the table."""
    for rule in RULES.values():
        for storage in STORED:
            yield from step_entries(rule, storage)
    yield from network_entries()
    yield from composed_entries()
    yield from other_entries()


# The table, and what is worse than it.


def path_here() -> Path:
    """The table of the compilers that are installed."""
    found = toolchain.found()
    releases = (f"{name.lower()}-{'.'.join(map(str, toolchain.release(found[name].version)))}" for name in LINKED)
    return TABLES / f"{'-'.join(releases)}.csv"


def no_table() -> str | None:
    """Why kernels are compared with no table here, or None."""
    path = path_here()
    if path.exists():
        return None
    there = ", ".join(sorted(table.stem for table in TABLES.glob("*.csv")))
    return f"no table for {path.stem}, so that kernels must only not spill (there are {there}); {WRITE}"


def here() -> Table:
    """The table for what is installed, or an empty one."""
    return Table(toolchain.names(), {}) if no_table() else load(path_here())


def load(path: Path) -> Table:
    first, *lines = path.read_text().splitlines()
    rows = csv.DictReader(lines)
    return Table(
        first.removeprefix("# "),
        {(row["kernel"], row["arch"]): Code(*(int(row[field]) for field in Code._fields)) for row in rows},
    )


def save(table: Table, path: Path) -> None:
    with path.open("w", newline="") as file:
        file.write(f"# {table.tools}\n")
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["kernel", "arch", *Code._fields])
        writer.writerows([*key, *code] for key, code in table.rows.items())


def worse(old: Code, new: Code, same_tools: bool) -> list[str]:
    """The numbers that got worse; none of the reasons is a change for the better."""
    most = {
        "registers": old.registers if same_tools else old.registers * (100 + REGISTERS) // 100,
        "shared": old.shared,
        "spills": 0,
        "generic": old.generic,
        "instructions": old.instructions * (100 + INSTRUCTIONS) // 100,
    }
    found = [field for field, limit in most.items() if getattr(new, field) > limit]
    found += [x for x in ("wide_loads", "wide_stores", "wide_shared") if getattr(new, x) < getattr(old, x)]
    return found


def difference(old: Code, new: Code) -> str:
    """Every number that is another: `registers 30 -> 32, ...`."""
    pairs = zip(Code._fields, old, new, strict=True)
    return ", ".join(f"{field.replace('_', ' ')} {was} -> {now}" for field, was, now in pairs if was != now)


def regressions(committed: Table, now: Table) -> list[str]:
    """A line for each kernel that is worse than in the committed table.  One that is not there must not spill."""
    lines = []
    for key, new in now.rows.items():
        old = committed.rows.get(key)
        if found := worse(new if old is None else old, new, committed.tools == now.tools):
            named = " and ".join(found).replace("_", " ")
            said = f"spills {new.spills}" if old is None else difference(old, new)
            lines.append(f"{key[0]} {key[1]}: worse in {named}: {said}")
    if lines and committed.tools != now.tools:
        lines.append(f"the table was made by {committed.tools}; these are {now.tools}")
    return lines


def measure(chosen: Iterable[Entry], capabilities: Sequence[Capability] | None = None) -> Table:
    """The numbers of the kernels as they are now, for all their architectures or for some."""
    rows = {
        (entry.name, arch(capability)): read(entry.make().image(capability))
        for entry in chosen
        for capability in capabilities or entry.capabilities
    }
    return Table(toolchain.names(), rows)


def check(now: Table, committed: Table | None = None) -> None:
    """Fail with the difference printed if a kernel is worse than in the table."""
    lines = regressions(here() if committed is None else committed, now)
    assert not lines, "\n".join(["", *lines, f"if it must be: {WRITE}"])


def main() -> None:
    parser = argparse.ArgumentParser(description="The machine code of the CUDA kernels against the committed table.")
    parser.add_argument("--write", action="store_true", help="rewrite the table")
    parser.add_argument("--only", default="", help="kernels whose names have this in them")
    wanted = parser.parse_args()
    everything = list(entries())
    now = measure(x for x in everything if wanted.only in x.name)
    committed = here()
    for key, new in now.rows.items():
        old = committed.rows.get(key)
        if old is None:
            print(*key, "is new")
        elif old != new:
            print(f"{key[0]} {key[1]}: {difference(old, new)}")
    keys = [(entry.name, arch(capability)) for entry in everything for capability in entry.capabilities]
    for key in committed.rows.keys() - set(keys):
        print(*key, "is gone")
    print(*(f"WORSE: {line}" for line in regressions(committed, now)), sep="\n")
    if wanted.write:
        rows = {**committed.rows, **now.rows}
        save(Table(now.tools, {key: rows[key] for key in keys if key in rows}), path_here())


if __name__ == "__main__":
    main()
