"""Each instruction in lanes, and how lanes part, meet and share memory, beside NumPy: functions written in LLVM code.

Each is run for some of the lanes; those that are not there, or do not come to a block, keep what they have.
"""

import ctypes
import itertools

import numpy as np
import pytest
from llvmlite import binding

from nagd_numba.kernels.lanes import modules
from nagd_numba.kernels.lanes.analysis import Value
from nagd_numba.kernels.lanes.failures import cut
from nagd_numba.kernels.lanes.instructions import Unfit, read
from nagd_numba.kernels.lanes.memory import Memory
from nagd_numba.kernels.lanes.vectorize import Vectorizer
from tests.helpers.backends import JIT_OFF

pytestmark = pytest.mark.skipif(JIT_OFF, reason="is about compiled functions")

W = modules.width()
PRIVATE, SHARED, UNIFORM = Memory.PRIVATE, Memory.SHARED, Value.UNIFORM
WHOLES = [0, 1, -1, 2, -3, 5, 63, 64, 65, -64, 255, 2**31, -(2**31) - 1, 2**53 + 1, 2**63 - 1, -(2**63)]
REALS = [0.0, -0.0, 1.0, -1.5, 0.5, 2.5, -2.5, 1e-310, 5e-324, 1e308, -1e308, 3.7, np.inf, -np.inf, np.nan, 1e18]
DTYPES = {"double": np.float64, "float": np.float32, "i64": np.int64, "i32": np.int32, "i16": np.int16, "i8": np.int8}


def compiled(parameters, body, declarations="", returns="i32"):
    """`call(*arrays and numbers, there)` for parameters, each `type %name` and what it is."""
    given = ", ".join(name for name, _ in parameters)
    text = f'target triple = "{binding.get_process_triple()}"\n{declarations}\n'
    text += f"define {returns} @f({given}) {{\n{body}\n}}\n"
    loaded = modules.loaded(modules.in_lanes(text, "f", [kind for _, kind in parameters], W))
    words = [ctypes.c_void_p if name.startswith("ptr") else ctypes.c_int64 for name, _ in parameters]
    function = ctypes.CFUNCTYPE(ctypes.c_int64, *words, ctypes.c_int64)(loaded.address)

    def call(*arguments):
        *arrays, there = arguments
        lanes = sum(1 << int(lane) for lane in np.flatnonzero(there))
        failed = function(*(x.ctypes.data if isinstance(x, np.ndarray) else x for x in arrays), lanes)
        assert loaded.engine is not None
        return np.array([failed >> lane & 1 for lane in range(W)], bool)

    return call


def some(seed=0):
    rng = np.random.default_rng(seed)
    return rng, rng.random(W) < 0.7, rng.integers(0, 2, W)


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


# -- memory

GATHER = """
entry:
  %k = load i64, ptr %c
  %go = icmp sge i64 %k, 0
  br i1 %go, label %some, label %end
some:
  %p = getelementptr {kind}, ptr %a, i64 %k
  %x = load {kind}, ptr %p
  %q = getelementptr {kind}, ptr %r, i64 %k
  store {kind} %x, ptr %q
  br label %end
end:
  ret i32 0
"""


@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize("memory", [PRIVATE, SHARED], ids=["private", "shared"])
def test_elements_at_places_that_differ(kind, memory):
    """Of lanes that are elsewhere, the places are nowhere."""
    call = compiled([("ptr %a", memory), ("ptr %c", PRIVATE), ("ptr %r", PRIVATE)], GATHER.format(kind=kind))
    for seed in range(10):
        rng, there, _ = some(seed)
        private, size = memory is PRIVATE, 6
        source = rng.integers(-100, 100, (size, W) if private else size).astype(DTYPES[kind])
        places, to = rng.integers(-2, size, W), np.full((size, W), 77, DTYPES[kind])
        places[places < 0], expected = -(2**40), to.copy()
        for lane in np.flatnonzero(there & (places >= 0)):
            expected[places[lane], lane] = source[(places[lane], lane) if private else places[lane]]
        places[~there] = 2**40
        call(source, places, to, there)
        np.testing.assert_array_equal(to, expected)


FILL = """
entry:
  %flag = load i64, ptr %c
  %go = icmp ne i64 %flag, 0
  br i1 %go, label %some, label %end
some:
  {code}
  %x = load {kind}, ptr %r
  store {kind} %x, ptr %r
  %y = load {kind}, ptr %a
  br label %end
end:
  ret i32 0
"""


@pytest.mark.parametrize("kind", ["double", "float", "i8"])
@pytest.mark.parametrize("memory", [PRIVATE, SHARED, None], ids=["copy", "shared", "zeros"])
def test_copies_and_zeros(kind, memory):
    """Of some lanes, as many elements as there are bytes for."""
    size, dtype = 5, np.dtype(DTYPES[kind])
    code = "call void @llvm.memset.p0.i64(ptr %r, i8 0, i64 %n, i1 false)"
    if memory is not None:
        code = "call void @llvm.memcpy.p0.p0.i64(ptr %r, ptr %a, i64 %n, i1 false)"
    declared = "declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)\n"
    declared += "declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)"
    parameters = [("ptr %a", memory or PRIVATE), ("ptr %c", PRIVATE), ("ptr %r", PRIVATE), ("i64 %n", UNIFORM)]
    call = compiled(parameters, FILL.format(kind=kind, code=code), declared)
    for count in range(size):
        rng, there, flags = some(count)
        source = rng.integers(-100, 100, (size, W)).astype(dtype)
        to = np.full((size, W), 77, dtype)
        expected = to.copy()
        for lane in np.flatnonzero(there & (flags != 0)):
            values = {PRIVATE: source[:, lane], SHARED: source.ravel()[:size], None: np.zeros(size)}[memory]
            expected[:count, lane] = values[:count]
        call(source, flags, to, count * dtype.itemsize, there)
        np.testing.assert_array_equal(to, expected)


# -- control flow

LOOP = """
entry:
  %n = load i64, ptr %c
  %first = call ptr @NRT_MemInfo_alloc_aligned(i64 %size, i32 32)
  %p = getelementptr i8, ptr %first, i64 24
  %d = load ptr, ptr %p
  store i64 0, ptr %d
  br label %head
head:
  %i = phi i64 [ 0, %entry ], [ %next, %on ]
  %last = phi ptr [ %first, %entry ], [ %made, %on ]
  %sum = phi i64 [ 0, %entry ], [ %more, %on ]
  %over = icmp sge i64 %i, %n
  br i1 %over, label %end, label %body
body:
  %made = call ptr @NRT_MemInfo_alloc_aligned(i64 %size, i32 32)
  %none = icmp eq ptr %made, null
  br i1 %none, label %failed, label %full
full:
  %place = getelementptr i8, ptr %made, i64 24
  %data = load ptr, ptr %place
  store i64 %i, ptr %data
  %before = getelementptr i8, ptr %last, i64 24
  %there = load ptr, ptr %before
  %x = load i64, ptr %there
  %y = mul i64 %x, 3
  %more = add i64 %sum, %y
  %odd = and i64 %more, 63
  %stop = icmp eq i64 %odd, 45
  call void @NRT_decref(ptr %last)
  br i1 %stop, label %left, label %on
on:
  %next = add i64 %i, 1
  br label %head
left:
  call void @NRT_decref(ptr %made)
  store i64 %more, ptr %r
  ret i32 0
end:
  store i64 %sum, ptr %r
  call void @NRT_decref(ptr %last)
  ret i32 0
failed:
  ret i32 1
"""
COUNTED = """declare ptr @NRT_MemInfo_alloc_aligned(i64, i32)
declare void @NRT_decref(ptr)
declare void @NRT_incref(ptr)"""


def looped(n):
    """What one lane of LOOP comes to."""
    total, last = 0, 0
    for i in range(n):
        total += 3 * last
        last = i
        if total & 63 == 45:
            break
    return total


def test_arrays_that_are_made_in_a_loop_that_lanes_leave_one_by_one():
    call = compiled([("ptr %c", PRIVATE), ("ptr %r", PRIVATE), ("i64 %size", UNIFORM)], LOOP, COUNTED)
    for seed in range(20):
        rng, there, _ = some(seed)
        counts, result = rng.integers(0, 300, W), np.full(W, -7)
        failed = call(counts, result, 4096, there)
        assert not failed.any()
        np.testing.assert_array_equal(result, np.where(there, [looped(n) for n in counts], -7))


SWITCH = """
entry:
  %k = load i64, ptr %c
  switch i64 %k, label %other [
    i64 0, label %zero
    i64 1, label %one
    i64 2, label %one
    i64 9, label %wrong
  ]
zero:
  br label %end
one:
  %double = mul i64 %k, 2
  br label %end
other:
  store i64 %k, ptr %r
  ret i32 0
wrong:
  ret i32 1
end:
  %x = phi i64 [ 100, %zero ], [ %double, %one ]
  store i64 %x, ptr %r
  ret i32 0
"""


def test_lanes_part_meet_and_fail():
    call = compiled([("ptr %c", PRIVATE), ("ptr %r", PRIVATE)], SWITCH)
    for seed in range(30):
        rng, there, _ = some(seed)
        given, result = rng.choice([0, 1, 2, 3, -5, 9], W), np.full(W, -7)
        failed = call(given, result, there)
        expected = np.select([given == 0, (given == 1) | (given == 2), given == 9], [100, 2 * given, -7], given)
        np.testing.assert_array_equal(result, np.where(there, expected, -7))
        np.testing.assert_array_equal(failed, there & (given == 9))


UNTAKEN = """
entry:
  %go = icmp sgt i64 %n, 5
  br i1 %go, label %inside, label %end
inside:
  %p = getelementptr double, ptr %r, i64 %n
  %v = load double, ptr %a
  %big = fcmp ogt double %v, 0.5
  br i1 %big, label %some, label %end
some:
  store double 2.0, ptr %p
  br label %end
end:
  ret i32 0
"""


def test_where_nobody_goes_nothing_is_written():
    """The place was not made, so that a block may not be run for no lanes, however small it is."""
    parameters = [("ptr %a", PRIVATE), ("ptr %r", PRIVATE), ("i64 %n", UNIFORM)]
    text = f"define i32 @f(ptr %a, ptr %r, i64 %n) {{\n{UNTAKEN}\n}}\n"
    kinds = {name.split()[-1]: kind for name, kind in parameters}
    lines = Vectorizer(cut(read(text, "f")), kinds, W).text().splitlines()
    begin = lines.index("b2:")
    assert lines[begin - 1].startswith("  br i1 ")
    call = compiled(parameters, UNTAKEN)
    a, r = np.linspace(0.0, 1.0, W), np.zeros((8, W))
    call(a, r, 0, np.ones(W, bool))
    assert not r.any()
    call(a, r, 7, np.ones(W, bool))
    np.testing.assert_array_equal(r[7], np.where(a > 0.5, 2.0, 0.0))
