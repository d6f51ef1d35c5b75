"""The committed tables of the kernels' machine code in numbers, and what is worse than they say.

There is a table for each pair of NVVM and nvJitLink that users have: the newest, those of CUDA 13.0, and NVVM 13.0
with the newest nvJitLink, which is what PyTorch 2.13 brings.  The one of what is installed is read and written.

    python -m tests.ptx.code_table            what differs from the table
    python -m tests.ptx.code_table --write    rewrite the table: `git diff` then shows what changed
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from nagd_numba.gpu import toolchain
from tests.ptx.machine_code import Capability, Code, arch, read
from tests.ptx.shipped_kernels import Entry, entries

TABLES = Path(__file__).with_name("tables")
NEWEST = TABLES / "nvvm-13.5-nvjitlink-13.5.csv"
LINKED = ("nvvm", "nvJitLink")  # what decides the code
WRITE = "python -m tests.ptx.code_table --write"
REGISTERS = 10  # per cent more that another compiler may take
INSTRUCTIONS = 10  # per cent more in any case


class Table(NamedTuple):
    """The numbers of kernels, by (name, architecture), and the compilers that made them."""

    tools: str
    rows: Mapping[tuple[str, str], Code]


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
