"""`exp`, `tanh`, `sigmoid`, `log`, `log1p`: errors, special values, and one result in every form."""

import math

import numpy as np
import pytest
from numba import config, njit
from numba.core.errors import TypingError

from nagd_numba.kernels import mathfuncs
from nagd_numba.kernels.jit import plain

JIT = not config.DISABLE_JIT
POINTS = 300_000 if JIT else 400
TYPES = (np.float32, np.float64)


def _sigmoid(x):
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


# name: (reference in extended precision, largest error in ulp that the module states)
FUNCTIONS = {
    "exp": (np.exp, 1.1),
    "tanh": (np.tanh, 2.6),
    "sigmoid": (_sigmoid, 2.4),
    "log": (np.log, 0.9),
    "log1p": (np.log1p, 1.3),
}


def loop(name):
    function = getattr(mathfuncs, name)

    @njit
    def vectorised(x, out):
        for i in range(x.size):
            out[i] = function(x[i])

    return vectorised


LOOPS = {name: loop(name) for name in FUNCTIONS}


def evaluate(name, x):
    out = np.empty_like(x)
    LOOPS[name](x, out)
    return out


def arguments(name, dtype):
    """Dense over the range in which the result is neither constant nor out of range, and around the hard places."""
    random = np.random.default_rng(0)
    single = dtype is np.float32
    tiny = np.exp(random.uniform(-80 if single else -700, 0, POINTS))  # down to the least arguments
    if name in ("log", "log1p"):
        wide = np.exp(random.uniform(-103, 88, POINTS) if single else random.uniform(-744, 709, POINTS))
        near_one = 1 + np.where(random.random(POINTS) < 0.5, -0.5, 1) * np.exp(random.uniform(-30, 0, POINTS))
        x = (
            (wide, random.uniform(0.4, 3, POINTS), near_one)
            if name == "log"
            else (tiny, random.uniform(-0.9, 9, POINTS))
        )
    else:
        low = {"exp": -104 if single else -746, "tanh": -20, "sigmoid": -104 if single else -745}[name]
        high = {"exp": 89 if single else 710, "tanh": 20, "sigmoid": 40}[name]
        x = (random.uniform(low, high, POINTS), random.uniform(-2, 2, POINTS), tiny, -tiny)
    x = np.concatenate(x).astype(dtype)
    return x[x > 0] if name == "log" else x


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_error_in_ulp(name, dtype):
    if np.finfo(np.longdouble).nmant <= np.finfo(dtype).nmant + 8:
        pytest.skip("no wider type to compare with on this platform")
    reference, bound = FUNCTIONS[name]
    x = arguments(name, dtype)
    with np.errstate(all="ignore"):
        exact = reference(x.astype(np.longdouble))
        rounded = exact.astype(dtype)
        got = evaluate(name, x)
        finite = np.isfinite(rounded)
        assert np.array_equal(got[~finite], rounded[~finite])  # overflow at the same arguments
        error = np.abs(got[finite] - exact[finite]) / np.spacing(np.abs(rounded[finite])).astype(np.longdouble)
    worst = int(error.argmax())
    assert error[worst] <= bound, (float(error[worst]), x[finite][worst])
    if JIT:
        assert error[worst] > 0.5  # dense enough to be no accident


@pytest.mark.parametrize("dtype", TYPES)
def test_special_values(dtype):
    inf, nan = math.inf, math.nan
    least = np.finfo(dtype).smallest_subnormal
    cases = {
        "exp": [(inf, inf), (-inf, 0), (nan, nan), (0, 1), (-0.0, 1), (1e4, inf), (-1e4, 0), (least, 1)],
        "tanh": [(inf, 1), (-inf, -1), (nan, nan), (0, 0), (1e4, 1), (-1e4, -1), (least, least), (-least, -least)],
        "sigmoid": [(inf, 1), (-inf, 0), (nan, nan), (0, 0.5), (1e4, 1), (-1e4, 0)],
        "log": [(inf, inf), (-inf, nan), (nan, nan), (0, -inf), (-0.0, -inf), (1, 0), (-1, nan), (-least, nan)],
        "log1p": [(0, 0), (nan, nan), (least, least), (1, dtype(np.log(dtype(2))))],
    }
    for name, pairs in cases.items():
        x = np.array([a for a, _ in pairs], dtype)
        np.testing.assert_array_equal(evaluate(name, x), np.array([b for _, b in pairs], dtype), err_msg=name)
    assert math.copysign(1, evaluate("tanh", np.array([-0.0], dtype))[0]) == -1


@pytest.mark.parametrize("dtype", TYPES)
def test_subnormal_results_are_not_flushed(dtype):
    x = (np.log(np.float64(np.finfo(dtype).tiny)) - np.array([1.0, 5.0, 10.0])).astype(dtype)
    for name in ("exp", "sigmoid"):
        got = evaluate(name, x)
        assert (got > 0).all()
        assert (got < np.finfo(dtype).tiny).all()


@pytest.mark.parametrize("dtype", TYPES)
def test_tanh_is_odd_and_bounded(dtype):
    x = np.linspace(0, 25, POINTS, dtype=dtype)
    y = evaluate("tanh", x)
    assert np.array_equal(evaluate("tanh", -x), -y)
    assert y.max() == 1
    assert evaluate("sigmoid", np.linspace(-30, 60, POINTS, dtype=dtype)).max() == 1


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_python_and_vectorised_forms_have_equal_bits(name, dtype):
    """A vector loop, its scalar remainder, a compiled scalar, and the Python form that the simulator may run."""
    x = arguments(name, dtype)[:: POINTS // 40]
    special = [0.0, 1.0, 1e-30, 88.8, math.inf, math.nan] + [-0.0, -1.5, -103.5] * (name[:3] != "log")
    x = np.concatenate([x, np.array(special[: 4 if name == "log1p" else None], dtype)])
    expected = evaluate(name, x)
    one_by_one = np.array([evaluate(name, x[i : i + 1])[0] for i in range(x.size)])
    assert one_by_one.tobytes() == expected.tobytes()
    function = getattr(mathfuncs, name)
    if not JIT or name not in ("sigmoid", "log1p"):  # these call a compiled function, which forgets the type
        function = plain(function)
    python = np.array([function(v) for v in x], dtype)
    assert np.array_equal(python, expected, equal_nan=True)


@pytest.mark.parametrize(
    "operation", ["div", "copysign", "exponent", "mantissa", "half_power", "_expm1_tail", "_magic"]
)
@pytest.mark.parametrize("dtype", TYPES)
def test_each_operation_is_the_same_in_python_and_compiled(operation, dtype):
    function = getattr(mathfuncs, operation)
    if operation in ("div", "copysign", "half_power"):
        compiled = njit(lambda a, b: function(a, b))
    else:
        compiled = njit(lambda a: function(a))
    magic = mathfuncs._magic(dtype(0))
    for a in (0.7, 1.0, 1.5, 3e10, 7e-20, 0.70710677, 0.70710678118654752):
        for b in (1.0, -3.0):
            operands = [dtype(a), dtype(b)] if operation in ("div", "copysign") else [dtype(a)]
            if operation == "half_power":
                operands = [dtype(magic + dtype(round(10 * b))), dtype(b > 0)]
            python, machine = function(*operands), compiled(*operands)
            assert type(python) is dtype
            assert python == machine, (a, b)
    x = dtype(5e-7)
    assert mathfuncs.mantissa(x) * dtype(2) ** mathfuncs.exponent(x) == x
    halves = mathfuncs.half_power(magic + dtype(7), dtype(0)) * mathfuncs.half_power(magic + dtype(7), dtype(1))
    assert halves == 128


@pytest.mark.skipif(not JIT, reason="types are checked where there is a compiler")
def test_mixed_types_are_refused():
    @njit
    def mixed(a, b):
        return mathfuncs.copysign(a, b)

    with pytest.raises(TypingError, match="one floating type"):
        mixed(np.float32(1), np.float64(1))
