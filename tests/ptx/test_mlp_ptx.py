"""The network's CUDA kernels, compiled without a driver: what is in them, and that they fit."""

import re

import pytest

from nagd_numba.mlp.gpu import gemm, losses, reductions
from nagd_numba.mlp.gpu.gemm import DELTA, GRADIENT, HIDDEN, OUTPUT, UPDATE, Kind
from nagd_numba.optimizers.registry import RULES
from tests.helpers import driverless
from tests.helpers.backends import JIT_OFF
from tests.ptx import machine_code

RULE = RULES["nesterov"]
A_FEW = 64  # bytes: ptxas prefers another block on a multiprocessor to the last register

capabilities = pytest.mark.parametrize(
    "capability",
    [
        pytest.param(x, id=machine_code.arch(x), marks=() if x == (9, 0) else pytest.mark.slow)
        for x in driverless.CAPABILITIES
    ],
)
dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])
tiles = pytest.mark.parametrize("tile", [64, pytest.param(32, marks=pytest.mark.slow)])
purposes = pytest.mark.parametrize("purpose", [HIDDEN, OUTPUT, DELTA, GRADIENT, UPDATE])


@pytest.fixture(autouse=True)
def compiler():
    if JIT_OFF:
        pytest.skip("nothing is compiled with the JIT off")
    driverless.require()


def product(purpose, dtype, tile, source=None, tf32=False):
    inner = purpose in (HIDDEN, DELTA)
    kind = Kind(dtype, "tanh" if inner else "identity", inner, source, tf32=tf32)
    if purpose == UPDATE:
        kind = kind._replace(rule=RULE, options=RULE.defaults())
    return gemm.kernel(purpose, kind, tile)


def ptx(kernel, capability=(9, 0)):
    text = kernel.code("ptx", capability)
    return text if isinstance(text, str) else text.decode()


def only_pinned(text, dtype):
    """Every rounding has been named, and float32 stays float32."""
    code = driverless.instructions(text)
    assert not [x for x in code if re.match(r"(atom|red|call)\b", x)]
    suffix = "f32" if dtype == "float32" else "f64"
    arithmetic = {x for x in code if re.match(r"(add|sub|mul|fma|mad|div|sqrt|rcp|ex2|lg2|tanh)\.", x)}
    floating = {x for x in arithmetic if x.endswith(("f32", "f64"))}
    assert floating <= {f"{op}.rn.{suffix}" for op in ("add", "mul", "fma", "div", "rcp")}
    if dtype == "float32":
        assert not [x for x in code if x.endswith("f64")]
    return code


@purposes
@dtypes
@tiles
def test_products_keep_their_sums_in_registers_and_read_shared_memory_widely(purpose, dtype, tile):
    text = ptx(product(purpose, dtype, tile, "uint8" if purpose in (HIDDEN, GRADIENT) else None))
    code = only_pinned(text, dtype)
    assert ".local" not in text
    terms, suffix, wide = (16, "f32", "v4") if dtype == "float32" else (8, "f64", "v2")
    assert code.count(f"ld.shared.{wide}.{suffix}") == terms * 2 * (1 if wide == "v4" else 2)
    assert code.count(f"fma.rn.{suffix}") >= terms * gemm.RESULTS


@purposes
@dtypes
@tiles
@capabilities
def test_products_fit(purpose, dtype, tile, capability, tmp_path):
    numbers = driverless.resources(ptx(product(purpose, dtype, tile), capability), capability, tmp_path)
    assert numbers["spill stores"] <= A_FEW
    assert numbers["spill loads"] <= A_FEW
    # At least two blocks of large tiles on a multiprocessor, whose registers are 65536.
    assert numbers["registers"] * gemm.threads(tile) <= 65536 // (2 if dtype == "float32" else 1)


@purposes
def test_tensor_cores_multiply_what_was_rounded_once(purpose):
    """A warp's products of 32 x 16 x 16, of factors that were rounded on their way to shared memory."""
    tile = 64
    text = ptx(product(purpose, "float32", tile, tf32=True))
    code = only_pinned(text, "float32")
    assert ".local" not in text
    terms = gemm.DEPTHS["float32"]
    assert sum(x.startswith("mma.sync.aligned.m16n8k8") for x in code) == terms // 8 * 4
    # A lane takes a quarter of the terms.
    assert code.count("ld.shared.v4.u32") == code.count("ld.shared.v2.u32") == terms // 4
    loads = tile * terms // gemm.threads(tile)
    assert code.count("cvt.rna.tf32.f32") == 2 * 2 * loads  # of both factors, at the beginning and in the loop
    if purpose == OUTPUT:
        assert not [x for x in code if x.startswith("fma")]


@capabilities
def test_tensor_cores_are_in_the_machine_code(capability):
    if (absent := machine_code.missing()) is not None:
        pytest.skip(absent)
    code = machine_code.instructions(product(OUTPUT, "float32", 64, tf32=True).image(capability))
    assert sum(x.startswith("HMMA.1688.F32.TF32") for x in code) == 8
    assert not [x for x in code if x.startswith("FFMA")]


def others(dtype):
    labels = dtype == "float32"
    yield losses.losses_kernel(dtype, "cross_entropy" if labels else "mse", True, True)
    yield losses.losses_kernel(dtype, "binary_cross_entropy", False, False)
    yield losses.targets_kernel(dtype, "int32", losses.LABELS)
    yield losses.targets_kernel(dtype, dtype, losses.BINARY)
    yield losses.probabilities_kernel(dtype, labels)
    yield losses.classes_kernel(dtype, labels)
    yield reductions.squares_kernel(dtype, norm=False)
    yield reductions.squares_kernel(dtype, norm=True)
    yield reductions.apply_kernel(dtype, RULE, RULE.defaults(), True)


@dtypes
@capabilities
def test_the_other_kernels_fit_without_spills(dtype, capability, tmp_path):
    for kernel in others(dtype):
        numbers = driverless.resources(ptx(kernel, capability), capability, tmp_path)
        assert numbers["spill stores"] == numbers["spill loads"] == 0, kernel.name
        assert numbers["registers"] <= 64, kernel.name


@dtypes
def test_what_is_returned_is_computed_in_the_networks_dtype(dtype):
    for kernel in (
        losses.probabilities_kernel(dtype, True),
        losses.probabilities_kernel(dtype, False),
        losses.classes_kernel(dtype, True),
        reductions.apply_kernel(dtype, RULE, RULE.defaults(), True),
    ):
        only_pinned(ptx(kernel), dtype)
