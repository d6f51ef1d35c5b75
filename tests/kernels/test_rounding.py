"""`fma`, `mul`, `add`, `div`, `sqrt`: exact roundings in Python and in compiled code, and no fusing of neighbours."""

import math
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit
from numba.core.errors import TypingError

import nagd_numba
from nagd_numba.kernels.rounding import add, div, fma, mul, sqrt
from tests.helpers import oracles


@njit
def compiled_fma(a, b, c):
    return fma(a, b, c)


@njit
def compiled_mul_add(a, b, c):
    return add(mul(a, b), c)


@njit
def compiled_div(a, b):
    return div(a, b)


@njit
def compiled_sqrt(a):
    return sqrt(a)


def scalars(dtype):
    width = np.dtype(dtype).itemsize * 8
    return st.floats(width=width, allow_nan=False, allow_infinity=False).map(np.dtype(dtype).type)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(data=st.data())
def test_fma_rounds_once(dtype, data):
    a, b, c = (data.draw(scalars(dtype)) for _ in range(3))
    exact = oracles.fma(a, b, c, dtype)
    python, compiled = fma(a, b, c), compiled_fma(a, b, c)
    assert type(python) is dtype
    assert python == exact
    assert compiled == exact
    assert math.copysign(1, python) == math.copysign(1, compiled)  # signed zeros


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_fma_near_a_tie(dtype):
    """Sums that a second rounding would get wrong: a tie of `dtype` broken by a bit far below."""
    eps = np.finfo(dtype).eps
    tiny = dtype(eps) * dtype(eps) * dtype(0.5)
    for sign in (1, -1):
        # 1 + eps/2 is a tie; the product adds or takes away very little
        a, b, c = dtype(1) + dtype(eps), dtype(eps) * dtype(0.5), dtype(1)
        assert fma(a, dtype(sign) * b, c) == oracles.fma(a, sign * float(b), c, dtype)
        assert fma(dtype(sign), tiny, dtype(1)) == 1
        assert compiled_fma(a, dtype(sign) * b, c) == fma(a, dtype(sign) * b, c)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(data=st.data())
def test_product_and_sum_are_not_fused(dtype, data):
    a, b, c = (data.draw(scalars(dtype)) for _ in range(3))
    with np.errstate(all="ignore"):
        twice = a * b + c
    np.testing.assert_equal(compiled_mul_add(a, b, c), twice)
    np.testing.assert_equal(add(mul(a, b), c), twice)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_infinities_and_nan(dtype):
    inf, nan, one, zero = (dtype(x) for x in (np.inf, np.nan, 1, 0))
    for operation in (fma, compiled_fma):
        assert operation(inf, one, one) == np.inf
        assert np.isnan(operation(inf, zero, one))
        assert np.isnan(operation(inf, one, -inf))
        assert np.isnan(operation(one, one, nan))
        assert operation(np.finfo(dtype).max, dtype(2), zero) == np.inf


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(data=st.data())
def test_quotients_and_roots_are_rounded(dtype, data):
    """The quotient is the nearest to the rational one; the root is no further from the true one than its neighbours."""
    a, b = data.draw(scalars(dtype)), data.draw(scalars(dtype).filter(bool))
    exact = oracles.round_to(Fraction(float(a)) / Fraction(float(b)), dtype)
    for quotient in (div(a, b), compiled_div(a, b)):
        assert quotient == exact
    root = compiled_sqrt(abs(a))
    assert type(sqrt(abs(a))) is dtype
    assert root == sqrt(abs(a))
    if a != 0:
        below, above = (Fraction(float(np.nextafter(dtype(root), dtype(to)))) for to in (-np.inf, np.inf))
        here = Fraction(float(root))
        assert ((below + here) / 2) ** 2 <= Fraction(float(abs(a))) <= ((here + above) / 2) ** 2


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_division_by_zero_and_roots_below_zero(dtype):
    zero, one = dtype(0), dtype(1)
    for quotient, root in ((div, sqrt), (compiled_div, compiled_sqrt)):
        assert quotient(one, zero) == np.inf
        assert quotient(-one, zero) == -np.inf
        assert np.isnan(quotient(zero, zero))
        assert np.isnan(root(-one))
        assert root(dtype(np.inf)) == np.inf


@pytest.mark.skipif(not hasattr(compiled_fma, "signatures"), reason="typing errors need the JIT")
def test_mixed_types_are_refused():
    with pytest.raises(
        TypingError, match=r"fma needs operands of one floating type, got \(float32, float64, float32\)"
    ):
        compiled_fma(np.float32(1), 1.0, np.float32(1))


def test_jit_flags_stand_in_one_place():
    """`fastmath` would undo the pinned roundings; jit flags are kernels/jit.py's alone."""
    flags = re.compile(r"fastmath\s*=|nogil\s*=|cache\s*=\s*True|parallel\s*=\s*True,|error_model|boundscheck\s*=")
    for file in Path(nagd_numba.__file__).parent.rglob("*.py"):
        code = re.sub(r'""".*?"""|#[^\n]*', "", file.read_text(), flags=re.DOTALL)
        assert "fastmath" not in code.replace("fastmath=False", ""), file
        alone = file.name in ("jit.py", "parallel.py")  # flags, and the one parallel loop
        assert alone or not flags.search(code), f"{file}: {flags.search(code)}"
