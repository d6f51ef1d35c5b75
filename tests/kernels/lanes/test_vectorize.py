"""How lanes part, meet and fail, and where their memory is: functions written in LLVM code, beside NumPy."""

import numpy as np
import pytest

from nagd_numba.kernels.lanes.analysis import Value
from nagd_numba.kernels.lanes.failures import cut
from nagd_numba.kernels.lanes.instructions import read
from nagd_numba.kernels.lanes.memory import Memory
from nagd_numba.kernels.lanes.vectorize import Vectorizer
from tests.helpers.backends import JIT_OFF
from tests.helpers.lane_code import DTYPES, W, compiled, some

pytestmark = pytest.mark.skipif(JIT_OFF, reason="is about compiled functions")

PRIVATE, SHARED, UNIFORM = Memory.PRIVATE, Memory.SHARED, Value.UNIFORM


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
