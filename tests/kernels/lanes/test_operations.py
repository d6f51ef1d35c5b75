"""Each operation in lanes beside NumPy, of values at the edges.

They are done by some of the lanes; those that are not there, or do not come to the block, keep what they have.
"""

import itertools

import numpy as np
import pytest

from nagd_numba.kernels.lanes.instructions import Unfit
from nagd_numba.kernels.lanes.memory import Memory
from tests.helpers.backends import JIT_OFF
from tests.helpers.lane_code import DTYPES, W, compiled, some

pytestmark = pytest.mark.skipif(JIT_OFF, reason="is about compiled functions")

PRIVATE = Memory.PRIVATE
WHOLES = [0, 1, -1, 2, -3, 5, 63, 64, 65, -64, 255, 2**31, -(2**31) - 1, 2**53 + 1, 2**63 - 1, -(2**63)]
REALS = [0.0, -0.0, 1.0, -1.5, 0.5, 2.5, -2.5, 1e-310, 5e-324, 1e308, -1e308, 3.7, np.inf, -np.inf, np.nan, 1e18]


MASKED = """
entry:
  %flag = load i64, ptr %c
  %go = icmp ne i64 %flag, 0
  br i1 %go, label %some, label %end
some:
  %x = load {kind}, ptr %a
  %y = load {kind}, ptr %b
  {code}
  store {to} %z, ptr %r
  br label %end
end:
  ret i32 0
"""


def check(kind, to, code, values, expected, declarations=""):
    parameters = [(f"ptr %{name}", PRIVATE) for name in "abcr"]
    call = compiled(parameters, MASKED.format(kind=kind, code=code, to=to), declarations)
    with np.errstate(all="ignore"):
        pairs = np.array(list(itertools.product(values, values))).astype(DTYPES[kind])
        wanted = expected(pairs[:, 0], pairs[:, 1]).astype(DTYPES[to])
    for begin in range(0, len(pairs) - W + 1, W):
        _, there, flags = some(begin)
        a, b = (np.ascontiguousarray(pairs[begin : begin + W, k]) for k in (0, 1))
        result = np.full(W, 77, DTYPES[to])
        call(a, b, flags, result, there)
        here = there & (flags != 0)
        np.testing.assert_array_equal(result, np.where(here, wanted[begin : begin + W], DTYPES[to](77)))
        zero = here & (result == 0)
        assert np.array_equal(np.signbit(result)[zero], np.signbit(wanted[begin : begin + W])[zero])


def unsigned(function):
    return lambda a, b: function(a.view(np.uint64), b.view(np.uint64)).view(np.int64)


def quotient(a, b):
    return np.array(
        [abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    )


def remainder(a, b):
    return np.array([abs(x) % abs(y) * (-1 if x < 0 else 1) for x, y in zip(a.tolist(), b.tolist(), strict=True)])


WHOLE = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "shl": lambda a, b: a << (b & 63),  # what LLVM leaves open is as the processor does it
    "lshr": lambda a, b: (a.view(np.uint64) >> (b & 63).view(np.uint64)).view(np.int64),
    "ashr": lambda a, b: a >> (b & 63),
}


@pytest.mark.parametrize("op", WHOLE)
def test_whole_numbers(op):
    check("i64", "i64", f"%z = {op} i64 %x, %y", WHOLES, WHOLE[op])


RATIOS = {"sdiv": quotient, "srem": remainder, "udiv": unsigned(np.floor_divide), "urem": unsigned(np.remainder)}


@pytest.mark.parametrize("op", RATIOS)
def test_ratios_of_whole_numbers(op):
    """No lane that is elsewhere divides, even by 0."""
    parameters = [(f"ptr %{name}", PRIVATE) for name in "abcr"]
    call = compiled(parameters, MASKED.format(kind="i64", code=f"%z = {op} i64 %x, %y", to="i64"))
    for seed in range(40):
        rng, there, flags = some(seed)
        a, b = rng.choice(WHOLES, W), rng.choice(WHOLES[1:-1], W)
        b[(b == -1) & (a == -(2**63))] = 3
        here = there & (flags != 0)
        b[~here], result = 0, np.full(W, 77)
        call(a, b, flags, result, there)
        np.testing.assert_array_equal(result[here], RATIOS[op](a[here], b[here]))
        assert (result[~here] == 77).all()


REAL = {"fadd": np.add, "fsub": np.subtract, "fmul": np.multiply, "fdiv": np.divide, "frem": np.fmod}


@pytest.mark.parametrize("op", REAL)
@pytest.mark.parametrize("kind", ["double", "float"])
def test_real_numbers(op, kind):
    check(kind, kind, f"%z = {op} {kind} %x, %y", REALS, REAL[op])


ORDER = {"eq": np.equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal}
WHOLE_ORDER = {"eq": np.equal, "ne": np.not_equal, **{f"s{k}": f for k, f in ORDER.items() if k != "eq"}}
NATURAL_ORDER = {f"u{k}": f for k, f in ORDER.items() if k != "eq"}
REAL_ORDER = {**ORDER, "ne": lambda a, b: (a < b) | (a > b)}


def nans(a, b):
    return np.isnan(a) | np.isnan(b)


@pytest.mark.parametrize("name", [*WHOLE_ORDER, *NATURAL_ORDER])
def test_comparisons_of_whole_numbers(name):
    expected = WHOLE_ORDER.get(name) or NATURAL_ORDER[name]
    given = (lambda x: x.view(np.uint64)) if name in NATURAL_ORDER else (lambda x: x)
    code = f"%s = icmp {name} i64 %x, %y\n  %z = zext i1 %s to i64"
    check("i64", "i64", code, WHOLES, lambda a, b: expected(given(a), given(b)))


@pytest.mark.parametrize("name", [f"{o}{k}" for k in REAL_ORDER for o in "ou"] + ["ord", "uno"])
def test_comparisons_of_real_numbers(name):
    def expected(a, b):
        if name in ("ord", "uno"):
            return nans(a, b) == (name == "uno")
        found = REAL_ORDER[name[1:]](a, b) & ~nans(a, b)
        return found | nans(a, b) if name[0] == "u" else found

    check("double", "i64", f"%s = fcmp {name} double %x, %y\n  %z = zext i1 %s to i64", REALS, expected)


INTRINSICS = {
    "fabs": np.abs,
    "sqrt": np.sqrt,
    "floor": np.floor,
    "ceil": np.ceil,
    "trunc": np.trunc,
    "rint": np.rint,
    "roundeven": np.rint,
}


@pytest.mark.parametrize("name", INTRINSICS)
def test_functions_of_a_real_number(name):
    declared = f"declare double @llvm.{name}.f64(double)"
    code = f"%z = call double @llvm.{name}.f64(double %x)"
    check("double", "double", code, REALS, lambda a, b: INTRINSICS[name](a), declared)


@pytest.mark.parametrize(("name", "expected"), [("copysign", np.copysign), ("pow", np.power), ("atan2", np.arctan2)])
def test_functions_of_two_real_numbers(name, expected):
    """Those of C are called for each lane."""
    intrinsic = "" if name == "atan2" else f"llvm.{name}.f64"
    called = intrinsic or name
    values = REALS if name != "pow" else [0.0, 1.0, 2.0, 0.5, -2.0, 3.0, np.inf]
    if name == "atan2":
        values = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan]
    code = f"%z = call double @{called}(double %x, double %y)"
    check("double", "double", code, values, expected, f"declare double @{called}(double, double)")


WHOLE_PAIRS = {"smax": np.maximum, "smin": np.minimum, "umax": unsigned(np.maximum), "umin": unsigned(np.minimum)}


@pytest.mark.parametrize("name", WHOLE_PAIRS)
def test_functions_of_two_whole_numbers(name):
    declared = f"declare i64 @llvm.{name}.i64(i64, i64)"
    code = f"%z = call i64 @llvm.{name}.i64(i64 %x, i64 %y)"
    check("i64", "i64", code, WHOLES, WHOLE_PAIRS[name], declared)


CASTS = [
    ("i64", "i32", "trunc", WHOLES, lambda a: a.astype(np.int32)),
    ("i64", "i8", "trunc", WHOLES, lambda a: a.astype(np.int8)),
    ("i8", "i64", "sext", [0, 1, -1, 127, -128], lambda a: a),
    ("i8", "i64", "zext", [0, 1, -1, 127, -128], lambda a: a.view(np.uint8)),
    ("i64", "double", "sitofp", WHOLES, lambda a: a),
    ("i64", "double", "uitofp", WHOLES, lambda a: a.view(np.uint64)),
    ("double", "i64", "fptosi", [0.0, -0.9, 1.5, -7.5, 2.0**62, 5e-324], np.trunc),
    ("double", "float", "fptrunc", REALS, lambda a: a),
    ("float", "double", "fpext", REALS, lambda a: a),
    ("double", "i64", "bitcast", REALS[:-2], lambda a: a.view(np.int64)),
]


@pytest.mark.parametrize(
    ("kind", "to", "op", "values", "expected"), CASTS, ids=lambda x: x if isinstance(x, str) else ""
)
def test_casts(kind, to, op, values, expected):
    check(kind, to, f"%z = {op} {kind} %x to {to}", values, lambda a, b: expected(a))


def test_choices():
    code = "%s = fcmp olt double %x, %y\n  %t = fneg double %x\n  %z = select i1 %s, double %t, double %y"
    check("double", "double", code, REALS, lambda a, b: np.where(a < b, -a, b))


@pytest.mark.parametrize("op", ["fptoui double %x to i64", "shl i8 %y, %y", "fptosi double %x to i8"])
def test_what_has_no_lanes(op):
    body = f"entry:\n  %x = load double, ptr %a\n  %y = load i8, ptr %b\n  %z = {op}\n  ret i32 0"
    with pytest.raises(Unfit):
        compiled([("ptr %a", PRIVATE), ("ptr %b", PRIVATE)], body)
