"""The kernels of guarded steps and of hyper-parameters in device memory, compiled without a driver."""

import re

import pytest

from nagd_numba.gpu import elementwise, guard_kernels, hyper_kernels
from nagd_numba.optimizers.registry import RULES
from tests.helpers import driverless
from tests.ptx import machine_code, shipped_kernels

pytestmark = pytest.mark.usefixtures("compiler")

HOPPER = (9, 0)
ci = pytest.mark.ci


def check(kernel, capability=HOPPER, spills=0):
    found = machine_code.read(kernel.image(capability))
    assert found.spills <= spills
    assert found.generic == 0
    return found


@pytest.mark.parametrize("storage", ["float32", *(pytest.param(x, marks=ci) for x in ("float64", "bfloat16"))])
def test_a_guarded_step_keeps_its_accesses_apart_and_in_flight(storage):
    """No spills; 64 resident warps of an H100 have registers enough; every access is to memory that is named."""
    rule, master = RULES["nesterov"], storage == "bfloat16"
    found = check(guard_kernels.step_kernel(rule, rule.defaults(), storage, master, False))
    assert found.registers <= 64
    check(guard_kernels.sums_kernel(storage, 1))


@pytest.mark.parametrize("storage", ["float32", pytest.param("float64", marks=ci)])
@pytest.mark.parametrize("before", [True, False])
def test_the_decision_compiles(storage, before):
    # One block, once a step: it may keep three float64 in memory while the subroutine of a division runs.
    check(guard_kernels.judge_kernel(storage, 1, before), spills=0 if before or storage == "float32" else 24)


@ci
@pytest.mark.parametrize("capability", shipped_kernels.CAPABILITIES, ids=machine_code.arch)
def test_on_every_architecture(capability):
    rule = RULES["adam"]
    check(guard_kernels.step_kernel(rule, rule.defaults(), "float32", False, True), capability)
    check(elementwise.kernel(rule, rule.defaults(), "float32", False, True, in_memory=True), capability)


@pytest.mark.parametrize("name", RULES)
def test_nothing_is_contracted_in_the_constants(name):
    """A product that feeds a sum must stay rounded, as on the host: all that is fused is in powers and sums of them."""
    rule = RULES[name]
    powers = {"adam": 2, "adamw": 2, "nadam": 4, "schedule_free_adamw": 1}.get(name, 0)
    # `kernels.power_sums` names 35: 14 in `exp`, 9 in `log`, and 4 in each of three places of `_euler`.
    sums = 35 if name in ("schedule_free_sgd", "schedule_free_adamw") else 0
    for options in list(rule.variants())[:: max(1, len(list(rule.variants())) // 3)]:
        code = driverless.instructions(hyper_kernels.prepare_kernel(rule, options, "float32").code("ptx", HOPPER))
        fused = [x for x in code if re.match(r"(fma|mad)\.[^s]*f(32|64)", x)]
        assert set(fused) <= {"fma.rn.f64"}
        assert bool(fused) == bool(powers or sums)
        # Of a power three in each of the two products, which may be there twice.
        assert len(fused) <= 6 * powers * 2 + sums
        assert not [x for x in code if x.startswith("call")]
        # Products that are not said to be rounded would be fused later, by what makes machine code.
        assert not [x for x in code if re.fullmatch(r"mul\.f(32|64)", x)]
