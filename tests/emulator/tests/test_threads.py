"""The emulator of CUDA kernels : what it computes, and what it refuses."""

import math

import numpy as np
import pytest
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .. import BadAccess, compile, register, unregister

try:
    from numba import cuda
except ImportError:  # the tests say that they are skipped
    cuda = None

pytestmark = pytest.mark.usefixtures("compiler")

F32, F64, I32, I64, U64 = types.float32, types.float64, types.int32, types.int64, types.uint64
P32, P64, PI32, PU64 = (types.CPointer(t) for t in (F32, F64, I32, U64))
ORDERS = ("forward", "reverse", "random")


def add(p, q, n):
    i = cuda.grid(1)
    if i < n:
        p[i] += q[i]


def test_a_tail_is_left_alone(memory):
    p, q = memory.array(np.arange(100, dtype=np.float32)), memory.array(np.ones(128, np.float32))
    compile(add, (P32, P32, I64))(4, 32, p, q, 99)
    assert p.array.tolist() == [*range(1, 100), 99]


@pytest.mark.parametrize("offset", [0, 4])
def test_out_of_bounds_is_refused(memory, offset):
    p, q = memory.array((100,), np.float32, name="p"), memory.array((128,), np.float32, offset=offset)
    kernel = compile(add, (P32, P32, I64))
    with pytest.raises(BadAccess) as refusal:
        kernel(4, 32, p, q, 101)
    expected = "out of bounds: load of 4 bytes at byte 400 of p (400 bytes), by thread (4, 0, 0) of block (3, 0, 0)"
    line = add.__code__.co_firstlineno + 3
    assert str(refusal.value) == f"{expected}, at test_threads.py:{line}"
    kernel(4, 32, p, q, 100)  # nothing stays behind


def fill(p, n, value):
    i = cuda.grid(1)
    p[n - i] = value


def test_a_store_before_the_start_is_refused(memory):
    p = memory.array((8,), np.float64)
    with pytest.raises(BadAccess, match=r"store of 8 bytes at byte -8 of .*thread \(6, 0, 0\)"):
        compile(fill, (P64, I64, F64))(1, 32, p, 5, 1.0)
    assert p.array[:6].tolist() == [1] * 6


def test_read_only_memory_is_refused(memory):
    p = memory.array(np.zeros(32), writable=False)
    with pytest.raises(BadAccess, match="read-only: store"):
        compile(fill, (P64, I64, F64))(1, 32, p, 31, 1.0)
    assert not p.array.any()


def test_memory_that_is_given_back_is_refused(memory):
    p, q = memory.array(np.zeros(32, np.float32)), memory.array(np.ones(32, np.float32))
    kernel = compile(add, (P32, P32, I64))
    kernel(1, 32, p, q, 32)
    memory.free(q)
    with pytest.raises(BadAccess):
        kernel(1, 32, p, q, 32)


def test_registered_memory():
    x, ones = np.zeros(8, np.float32), np.ones(8, np.float32)
    for a in (x, ones):
        register(a.ctypes.data, a.nbytes)
    try:
        compile(add, (P32, P32, I64))(1, 8, x.ctypes.data, ones.ctypes.data, 8)
    finally:
        for a in (x, ones):
            unregister(a.ctypes.data)
    assert x.tolist() == [1] * 8


@intrinsic
def wide_copy(typingctx, to, source, at):
    """Four elements, in one access of 16 bytes each way."""

    def build(context, builder, signature, operands):
        kind = ir.VectorType(ir.FloatType(), 4).as_pointer()
        there, here = (builder.bitcast(builder.gep(p, [operands[2]]), kind) for p in operands[:2])
        builder.store(builder.load(here, align=16), there, align=16)
        return context.get_dummy_value()

    return types.void(to, source, at), build


def copy_wide(p, q, n):
    i = 4 * cuda.grid(1)
    if i < n:
        wide_copy(p, q, i)


def test_wide_accesses(memory):
    kernel, x = compile(copy_wide, (P32, P32, I64)), np.arange(64, dtype=np.float32)
    p, q = memory.array((64,), np.float32), memory.array(x)
    kernel(2, 16, p, q, 64)
    assert (p.array == x).all()
    with pytest.raises(BadAccess, match=r"misaligned: 0x\w+ is no multiple of 16: load of 16 bytes at byte 0"):
        kernel(2, 16, p, memory.array(x, offset=4), 64)
    with pytest.raises(BadAccess, match=r"misaligned: .*store of 16 bytes"):
        kernel(2, 16, memory.array(x, offset=8), q, 64)
    with pytest.raises(BadAccess, match=r"out of bounds: load of 16 bytes at byte 240 of .* \(248 bytes\)"):
        kernel(2, 16, p, memory.array(x[:62]), 64)


def mathematics(p, out, n):
    i = cuda.grid(1)
    if i < n:
        x = p[i]
        out[i] = math.exp(x)
        out[n + i] = math.log(abs(x) + type(x)(1))
        out[2 * n + i] = math.tanh(x)
        out[3 * n + i] = math.sqrt(abs(x))
        out[4 * n + i] = math.sin(x)
        out[5 * n + i] = math.floor(x)
        out[6 * n + i] = max(x, type(x)(0.5))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_mathematics(memory, dtype):
    x = np.linspace(-8, 8, 200).astype(dtype)
    kind = types.CPointer(getattr(types, dtype))
    p, out = memory.array(x), memory.array((7, 200), dtype)
    compile(mathematics, (kind, kind, I64))(2, 128, p, out, 200)
    wide = x.astype(np.float64)
    expected = [np.exp(wide), np.log(abs(wide) + 1), np.tanh(wide), np.sqrt(abs(wide)), np.sin(wide)]
    for row, value in zip(out.array, expected, strict=False):
        np.testing.assert_allclose(row, value, rtol=4 * np.finfo(dtype).eps, atol=np.finfo(dtype).eps)
    assert (out.array[5] == np.floor(x)).all()
    assert (out.array[6] == np.maximum(x, x.dtype.type(0.5))).all()


def multiply_add(p, a, b):
    i = cuda.grid(1)
    p[i] = p[i] * a + b


def test_products_and_sums_are_not_fused(memory):
    x = np.random.default_rng(0).normal(size=256).astype(np.float32)
    p, a, b = memory.array(x), np.float32(1.1), np.float32(-0.3)
    compile(multiply_add, (P32, F32, F32))(2, 128, p, a, b)
    assert (p.array == x * a + b).all()


def grid_words(p, rows, columns):
    x, y = cuda.grid(2)
    if x < rows and y < columns:
        p[x * columns + y] = cuda.blockIdx.y * 1000 + cuda.threadIdx.y * 100 + cuda.gridDim.x * 10 + cuda.blockDim.x


@pytest.mark.parametrize("order", ORDERS)
def test_two_dimensions(memory, order):
    p = memory.array((10, 7), np.int32)
    compile(grid_words, (PI32, I64, I64))((3, 2), (4, 4), p, 10, 7, order=order)
    y = np.arange(7)
    assert (p.array == y // 4 * 1000 + y % 4 * 100 + 34).all()


def mix(p, key):
    i = cuda.grid(1)
    z = U64(key) + U64(i) * U64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> U64(30))) * U64(0xBF58476D1CE4E5B9)
    p[i] = z ^ (z >> U64(31))


def test_unsigned_words(memory):
    p = memory.array((64,), np.uint64)
    compile(mix, (PU64, U64))(1, 64, p, 2**64 - 5)
    with np.errstate(over="ignore"):
        z = np.uint64(2**64 - 5) + np.arange(64, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        assert (p.array == z ^ (z >> np.uint64(31))).all()


TABLE = np.arange(10, dtype=np.float32) * 2


def look_up(p, k):
    table = cuda.const.array_like(TABLE)
    p[cuda.threadIdx.x] = table[cuda.threadIdx.x + k]


def test_constants(memory):
    p, kernel = memory.array((10,), np.float32), compile(look_up, (P32, I64))
    kernel(1, 10, p, 0)
    assert (p.array == TABLE).all()
    with pytest.raises(BadAccess, match="load of 4 bytes at byte 40 of the constant"):
        kernel(1, 10, p, 1)


def test_generated_kernels():
    made = {"cuda": cuda}
    exec("def kernel(p):\n    p[cuda.grid(1)] = 7", made)
    x = np.zeros(5)
    compile(made["kernel"], (F64[::1],))(1, 5, x)
    assert x.tolist() == [7] * 5


def test_kernels_are_compiled_once():
    assert compile(add, (P32, P32, I64)) is compile(add, (P32, P32, I64))
    with pytest.raises(TypeError, match="2 arguments for 3"):
        compile(add, (P32, P32, I64))(1, 1, 0, 0)


def local_arrays(p, k):
    a = cuda.local.array(4, F32)
    for j in range(4):
        a[j] = j
    p[cuda.threadIdx.x] = a[k]


def test_local_arrays_have_bounds(memory):
    p, kernel = memory.array((4,), np.float32), compile(local_arrays, (P32, U64))
    kernel(1, 4, p, 2)
    assert p.array.tolist() == [2] * 4
    with pytest.raises(BadAccess, match="load of 4 bytes at byte 16 of the thread's own array of 16 bytes"):
        kernel(1, 4, p, 4)


def atomics(a, b, n):
    i = cuda.grid(1)
    cuda.atomic.add(a, 0, F32(1))
    cuda.atomic.max(a, 1, F32(i))
    cuda.atomic.min(a, 2, F32(-i))
    cuda.atomic.add(b, 0, i)
    cuda.atomic.cas(b, (i % 2) + 1, 0, i + 1)


def test_atomics():
    a, b = np.zeros(3, np.float32), np.zeros(3, np.int64)
    compile(atomics, (F32[::1], I64[::1], I64))(4, 64, a, b, 256)
    assert a.tolist() == [256, 255, -255]
    assert b.tolist() == [255 * 128, 1, 2]
    with pytest.raises(BadAccess, match="atomic of 8 bytes"):
        compile(atomics, (F32[::1], I64[::1], I64))(4, 64, a, b[:2], 256)
