"""The CUDA kernels of every rule, compiled without a driver: what is in them, and what is not."""

import re

import pytest
from numba import types

from nagd_numba import adam_update, nesterov_update
from nagd_numba.gpu.elementwise import THREADS, kernel
from nagd_numba.optimizers.registry import RULES
from tests.helpers import driverless
from tests.ptx import code_table, machine_code, shipped_kernels

pytestmark = pytest.mark.usefixtures("compiler")

HOPPER = (9, 0)
REGISTERS = 65536  # of a multiprocessor
EXACT = ("float32", "float64")

# Every variant of every rule once, and with each kind of arrays (dtype, master copy, one or lists) a few of them.
KINDS = [
    (storage, master, lists)
    for storage, masters in shipped_kernels.STORED.items()
    for master in masters
    for lists in (False, True)
]


def kernel_id(rule, options, storage, master, lists):
    return f"{'lists' if lists else 'one'}-{storage}{'-master' if master else ''}-{rule.kernel_name(options)}"


VARIANTS = [
    pytest.param(
        *(rule, options, *kind),
        id=kernel_id(rule, options, *kind),
        marks=() if at % 3 == 0 else pytest.mark.slow,
    )
    for rule in RULES.values()
    for at, options in enumerate(rule.variants())
    for kind in [KINDS[(at + at // len(KINDS)) % len(KINDS)]]
]
# The architectures of one kernel one after the other: they have much of the compiler's work in common.
EVERYWHERE = [
    pytest.param(
        *(rule, storage, capability),
        id=f"{machine_code.arch(capability)}-{storage}-{name}",
        # Two of the three are the usual.
        marks=() if (name == "nesterov") + (storage == "float32") + (capability == (9, 0)) > 1 else pytest.mark.slow,
    )
    for name, rule in RULES.items()
    for storage in shipped_kernels.STORED
    for capability in (shipped_kernels.OLDEST, *shipped_kernels.CAPABILITIES)
    if any(capability in kind.capabilities for kind in shipped_kernels.step_kinds(rule, storage))
    or (capability == shipped_kernels.OLDEST and (name == "nesterov" or storage == "float32"))
]


def step_ptx(rule, options, storage="float32", master=False, lists=False, capability=HOPPER):
    return kernel(rule, options, storage, master, lists).code("ptx", capability)


@pytest.mark.parametrize(("rule", "options", "storage", "master", "lists"), VARIANTS)
def test_every_variant_is_machine_code_of_only_pinned_arithmetic(rule, options, storage, master, lists):
    """Every rounding is one that the rule names: nothing is left for a compiler to contract."""
    code = driverless.instructions(step_ptx(rule, options, storage, master, lists))
    own, other = ("f64", "f32") if storage == "float64" else ("f32", "f64")
    named = r"(add|sub|mul|fma|mad|div|sqrt|rsqrt|rcp|ex2|lg2)\."
    arithmetic = {x for x in code if re.match(named, x) and re.search(r"\.b?f\d+", x)}
    assert arithmetic <= {f"{op}.rn.{own}" for op in ("add", "mul", "fma", "div", "sqrt")}
    assert arithmetic
    roots = {"div", "sqrt"} if "v" in rule.states else set()  # of the moments
    assert {op for op in ("div", "sqrt") if f"{op}.rn.{own}" in arithmetic} == roots
    assert not [x for x in code if x.startswith("call") or other in x]
    found = machine_code.read(kernel(rule, options, storage, master, lists).image(HOPPER))
    assert found.spills == 0
    assert found.wide_loads > 0
    assert found.wide_stores > 0


@pytest.mark.parametrize(("rule", "storage", "capability"), EVERYWHERE)
def test_compiles_for_every_architecture_without_spills(rule, storage, capability):
    """And is not worse than in the table."""
    chosen = [x for x in shipped_kernels.step_entries(rule, storage) if capability in x.capabilities]
    if capability == shipped_kernels.OLDEST:
        chosen = [shipped_kernels.default_step(rule, storage)]
    now = code_table.measure(chosen, [capability])
    assert len(now.rows) == len(chosen) > 0
    for (name, _), found in now.rows.items():
        assert found.spills == 0, name
        blocks = REGISTERS // (-(-found.registers // 8) * 8 * THREADS)
        assert blocks * found.wide_loads >= 12, name  # loads on the way: those of four blocks with three arrays
    code_table.check(now)


@pytest.mark.parametrize("storage", shipped_kernels.STORED)
@pytest.mark.parametrize("lists", [False, True], ids=["one", "lists"])
def test_groups_of_elements_move_16_bytes_at_a_time(storage, lists):
    """In PTX for sm_100: each access is there once in each of the copies that the compiler makes of the loop."""
    rule = RULES["nesterov"]
    for master in shipped_kernels.STORED[storage]:
        code = driverless.instructions(step_ptx(rule, rule.defaults(), storage, master, lists, (10, 0)))
        accesses = [x for x in code if re.match(r"(ld|st)\.", x) and ".param" not in x]
        vectors = [x for x in accesses if re.search(r"\.v\d\.", x)]
        assert {bytes_of(x) for x in vectors} == {16}
        assert {bytes_of(x) for x in accesses if x not in vectors} <= {2, 4, 8}
        # Eight halves are a group, and their velocities and their master copy are two accesses each.
        expected = {"ld": 3, "st": 2} if storage in EXACT else {"ld": 5, "st": 5} if master else {"ld": 4, "st": 3}
        found = {kind: sum(x.startswith(kind) for x in vectors) for kind in expected}
        copies = max(1, found["ld"] // expected["ld"])
        assert found == {kind: copies * count for kind, count in expected.items()}


def bytes_of(opcode):
    """How much a load or a store of PTX moves."""
    vector, bits = re.search(r"(?:\.v(\d))?\.\w(\d+)$", opcode).groups()
    return int(vector or 1) * int(bits) // 8


def test_default_step_is_torchs_arithmetic_in_five_wide_accesses():
    """The product and the sum of the velocity stay apart; the two steps of the parameters are fused."""
    rule = RULES["nesterov"]
    code = driverless.instructions(step_ptx(rule, rule.defaults()))
    assert sum(x.startswith("ld.global") and x.endswith(".v4.f32") for x in code) == 3
    assert sum(x.startswith("st.global") and x.endswith(".v4.f32") for x in code) == 2
    # The loop stands there for a momentum of 0 as well, which needs neither the velocity nor its product.
    assert 0 < code.count("mul.rn.f32") == code.count("add.rn.f32") < code.count("fma.rn.f32")


def test_a_users_kernel_inlines_the_scalar_rule():
    from numba import cuda

    def user(p, g, v):
        i = cuda.grid(1)
        if i < p.size:
            p[i], v[i] = nesterov_update(p[i], g[i], v[i], 0.01, 0.9, 0.9)

    array = types.float32[::1]
    code = driverless.instructions(driverless.ptx(user, (array, array, array), HOPPER))
    assert code.count("fma.rn.f32") == 2
    assert code.count("mul.rn.f32") == code.count("add.rn.f32") == 1
    assert not [x for x in code if "f64" in x or x.startswith("call")]


def test_a_users_kernel_inlines_the_scalar_rule_of_adam():
    from numba import cuda

    def user(p, g, m, v, constants):
        i = cuda.grid(1)
        if i < p.size:
            p[i], m[i], v[i] = adam_update(p[i], g[i], m[i], v[i], constants)

    array = types.float32[::1]
    arguments = (array, array, array, array, types.UniTuple(types.float32, 7))
    code = driverless.instructions(driverless.ptx(user, arguments, HOPPER))
    assert code.count("div.rn.f32") == 2
    assert code.count("sqrt.rn.f32") == 1
    assert not [x for x in code if "f64" in x or ".approx" in x or x.startswith("call")]
