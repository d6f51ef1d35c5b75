"""The CUDA kernels of every rule, compiled without a driver: what is in them, and what is not."""

import re

import numpy as np
import pytest
from numba import types
from numba.np.numpy_support import from_dtype

import driverless
from nagd_numba import nesterov_update
from nagd_numba.launch import device_kernel
from nagd_numba.rules import RULES

pytestmark = pytest.mark.usefixtures("compiler")

capabilities = pytest.mark.parametrize("capability", driverless.CAPABILITIES, ids=lambda c: f"sm_{c[0]}{c[1]}")
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])


@pytest.fixture
def compiler():
    driverless.require()


variants = [
    pytest.param(rule, options, id=rule.kernel_name(options)) for rule in RULES.values() for options in rule.variants()
]


def signature(rule, dtype):
    kind = from_dtype(np.dtype(dtype))
    array = kind[::1]
    constants = types.UniTuple(kind, len(rule.hyper))
    return array, array, types.UniTuple(array, len(rule.states)), constants


def step_ptx(rule, options, dtype, capability):
    return driverless.ptx(device_kernel(rule, options, np.dtype(dtype)).py_func, signature(rule, dtype), capability)


@pytest.mark.parametrize(("rule", "options"), variants)
@dtypes
def test_only_pinned_arithmetic(rule, options, dtype):
    """Every rounding is one that the rule names: nothing is left for a compiler to contract."""
    code = driverless.instructions(step_ptx(rule, options, dtype, (9, 0)))
    suffix = "f32" if dtype is np.float32 else "f64"
    arithmetic = {x for x in code if re.match(r"(add|sub|mul|fma|mad|div|sqrt|rcp)\.", x) and x.endswith(suffix)}
    assert arithmetic <= {f"{op}.rn.{suffix}" for op in ("add", "mul", "fma")}
    assert arithmetic
    assert not [x for x in code if x.startswith("call")]
    if dtype is np.float32:
        assert not [x for x in code if "f64" in x]


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@dtypes
@capabilities
def test_compiles_for_every_architecture_without_spills(rule, dtype, capability, tmp_path):
    text = step_ptx(rule, rule.defaults(), dtype, capability)
    numbers = driverless.resources(text, capability, tmp_path)
    assert numbers["spill stores"] == numbers["spill loads"] == 0
    assert numbers["registers"] <= 64  # full occupancy at 256 threads on every architecture named here


def test_default_step_is_torchs_arithmetic():
    """The product and the sum of the velocity stay apart; the two steps of the parameters are fused."""
    rule = RULES["nesterov"]
    code = driverless.instructions(step_ptx(rule, rule.defaults(), np.float32, (9, 0)))
    loads, stores = (sum(x.startswith(f"{kind}.global") for x in code) for kind in ("ld", "st"))
    # The loop stands there for a momentum of 0 as well, which needs neither the velocity nor its product.
    assert 0 < code.count("mul.rn.f32") == code.count("add.rn.f32") < code.count("fma.rn.f32")
    assert stores % 2 == 0
    assert stores <= loads <= 3 * stores / 2


def test_a_users_kernel_inlines_the_scalar_rule():
    from numba import cuda

    def user(p, g, v):
        i = cuda.grid(1)
        if i < p.size:
            p[i], v[i] = nesterov_update(p[i], g[i], v[i], 0.01, 0.9, 0.9)

    array = types.float32[::1]
    code = driverless.instructions(driverless.ptx(user, (array, array, array), (9, 0)))
    assert code.count("fma.rn.f32") == 2
    assert code.count("mul.rn.f32") == code.count("add.rn.f32") == 1
    assert not [x for x in code if "f64" in x or x.startswith("call")]
