"""The machine code of the kernels against the committed tables (`tables`), and that a change for the worse fails."""

import ast
import functools
import re
from pathlib import Path

import pytest
from numba import types

import nagd_numba
from nagd_numba.gpu import elementwise
from nagd_numba.gpu.compiler import Kernel
from nagd_numba.gpu.toolchain import Tool
from nagd_numba.optimizers.registry import RULES
from tests.ptx import code_table, machine_code, shipped_kernels
from tests.ptx.code_table import Table
from tests.ptx.machine_code import Code

pytestmark = pytest.mark.usefixtures("compiler")

PACKAGE = Path(nagd_numba.__file__).parent
OLD = Code(40, 1024, 0, 6, 4, 1, 16, 100, 1000)
KEY = "kernel", "sm_90"


@functools.cache
def network():
    """The entries of the network's kernels, and of all others but those of plain steps, by name."""
    found = *shipped_kernels.network_entries(), *shipped_kernels.composed_entries(), *shipped_kernels.other_entries()
    return {entry.name: entry for entry in found}


def committed_names():
    """The names of the newest table, which can be listed where kernels cannot be made; one architecture is the rest."""
    rows = code_table.load(code_table.NEWEST).rows
    composed = "_(prox|averaged|by|masked)_"
    names = sorted({name for name, _ in rows if re.search(composed, name) or not re.search("_(one|lists)_", name)})
    quick = re.compile("mlp_(losses|update|part|delta)|nesterov_masked_.*_one_")
    return [
        pytest.param(name, marks=() if (name, "sm_80") in rows and quick.match(name) else pytest.mark.slow)
        for name in names
    ]


@pytest.mark.parametrize("name", committed_names())
def test_networks_kernels_are_not_worse_than_the_table(name):
    code_table.check(code_table.measure([network()[name]]))


def test_a_network_can_be_trained_on_the_oldest_architecture():
    entry = next(entry for name, entry in network().items() if name.startswith("mlp_persistent"))
    assert machine_code.read(entry.make().image(shipped_kernels.OLDEST)).spills == 0


def test_each_table_has_every_kernel_and_no_other():
    wanted = {(entry.name, machine_code.arch(x)) for entry in shipped_kernels.entries() for x in entry.capabilities}
    for path in code_table.TABLES.glob("*.csv"):
        assert wanted == set(code_table.load(path).rows), f"{path.name}: {code_table.WRITE}"


def test_no_kernel_of_any_table_spills():
    for path in code_table.TABLES.glob("*.csv"):
        spilling = [key for key, code in code_table.load(path).rows.items() if code.spills]
        assert spilling == [], path.name


def test_there_is_a_table_for_what_is_installed():
    if (reason := code_table.no_table()) is not None:
        pytest.skip(reason)
    assert code_table.here().rows


def test_without_a_table_kernels_must_only_not_spill(monkeypatch):
    monkeypatch.setattr(code_table.toolchain, "found", lambda: {"nvvm": Tool("13.3.1"), "nvJitLink": Tool("13.4.2")})
    assert code_table.path_here().name == "nvvm-13.3-nvjitlink-13.4.csv"
    reason = code_table.no_table()
    assert reason is not None
    assert reason.startswith(
        "no table for nvvm-13.3-nvjitlink-13.4, so that kernels must only not spill (there are nvvm"
    )
    code_table.check(Table("tools", {KEY: OLD}))
    with pytest.raises(AssertionError, match="kernel sm_90: worse in spills: spills 8"):
        code_table.check(Table("tools", {KEY: OLD._replace(spills=8)}))


def test_every_maker_of_kernels_is_in_the_table():
    """The functions of the package that make kernels, but for users' code, are those whose kernels are looked at."""
    makers = set()
    for file in PACKAGE.rglob("*.py"):
        for function in ast.walk(ast.parse(file.read_text())):
            calls = [x for x in ast.walk(function) if isinstance(x, ast.Call)] if _is_function(function) else []
            if any(_makes_kernel(call) for call in calls):
                makers.add((".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts), function.name))
    looked_at = {(entry.make.func.__module__, entry.make.func.__name__) for entry in shipped_kernels.entries()}
    assert looked_at == makers


def _makes_kernel(call):
    named = isinstance(call.func, ast.Name) and call.func.id == "Kernel"
    return named and not any(ast.unparse(keyword) == "users=True" for keyword in call.keywords)


def _is_function(node):
    return isinstance(node, ast.FunctionDef)


# A change for the worse fails.


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"registers": 41}, "worse in registers: registers 40 -> 41"),
        ({"shared": 1025}, "worse in shared: shared 1024 -> 1025"),
        ({"spills": 8}, "worse in spills: spills 0 -> 8"),
        ({"wide_loads": 5}, "worse in wide loads: wide loads 6 -> 5"),
        ({"wide_stores": 3, "fma": 90}, "worse in wide stores: wide stores 4 -> 3, fma 100 -> 90"),
        ({"generic": 2}, "worse in generic: generic 1 -> 2"),
        ({"wide_shared": 15, "registers": 39}, "worse in wide shared: registers 40 -> 39, wide shared 16 -> 15"),
        ({"instructions": 1101}, "worse in instructions: instructions 1000 -> 1101"),
    ],
    ids=lambda x: "-".join(x) if isinstance(x, dict) else "",
)
def test_each_change_for_the_worse_is_found_and_printed(change, said):
    now = Table("tools", {KEY: OLD._replace(**change)})
    with pytest.raises(AssertionError, match=said):
        code_table.check(now, Table("tools", {KEY: OLD}))


@pytest.mark.parametrize(
    "change", [{"registers": 38}, {"wide_loads": 7}, {"instructions": 1100}, {"fma": 120}, {}], ids="-".join
)
def test_other_changes_are_allowed(change):
    code_table.check(Table("tools", {KEY: OLD._replace(**change)}), Table("tools", {KEY: OLD}))


def test_another_compiler_may_take_a_few_more_registers_but_not_spill():
    committed = Table("tools", {KEY: OLD})

    def found(**change):
        return code_table.regressions(committed, Table("newer", {KEY: OLD._replace(**change)}))

    assert not found(registers=44)
    assert found(registers=45)[-1] == "the table was made by tools; these are newer"
    for change in ({"spills": 4}, {"wide_loads": 5}, {"wide_stores": 3}, {"wide_shared": 15}):
        assert len(found(**change)) == 2


def test_a_kernel_that_is_not_in_the_table_must_not_spill():
    code_table.check(Table("tools", {KEY: OLD}), Table("tools", {}))
    with pytest.raises(AssertionError, match="kernel sm_90: worse in spills: spills 8"):
        code_table.check(Table("tools", {KEY: OLD._replace(spills=8)}), Table("tools", {}))


def test_a_step_without_wide_accesses_is_found(monkeypatch):
    """The real kernel of the table, made worse: elements move one by one."""
    rule = RULES["nesterov"]
    entry = shipped_kernels.default_step(rule, "float32")
    monkeypatch.setattr(elementwise, "wide_width", lambda storage: 1)
    worse = entry._replace(make=lambda: elementwise.kernel.__wrapped__(rule, rule.defaults(), "float32", False, False))
    monkeypatch.setenv("NAGD_NUMBA_CACHE", "0")  # it has the name of the good one
    with pytest.raises(
        AssertionError, match=r"float32 sm_90: worse in .*wide loads and wide stores.*wide loads 3 -> 0"
    ):
        code_table.check(code_table.measure([entry._replace(make=worse.make)], [(9, 0)]))


def test_spills_are_seen():
    """A hundred numbers at once in the registers of a block of 1024 threads, which has 64 for each."""

    from numba import cuda

    def greedy(x, n):
        many = cuda.local.array(100, types.float64)
        for i in range(100):
            many[i] = elementwise.load(x, i)
        for _ in range(n):
            for i in range(100):
                many[i] = many[i] * many[(i + 1) % 100] + 1.0
        for i in range(100):
            elementwise.store(x, i, many[i])

    kernel = Kernel(greedy, "greedy", (types.CPointer(types.float64), types.int64), threads=1024)
    assert machine_code.read(kernel.image((9, 0))).spills > 0
