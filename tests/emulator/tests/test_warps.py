"""The emulator of CUDA kernels : what threads do together, inline PTX, half precision."""

import numpy as np
import pytest
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .. import BadAccess, Divergence, compile

try:
    from numba import cuda
except ImportError:  # the tests say that they are skipped
    cuda = None

pytestmark = pytest.mark.usefixtures("compiler")

F32, F64, I32, I64, U64 = types.float32, types.float64, types.int32, types.int64, types.uint64
P32, P64, PI32, PU64 = (types.CPointer(t) for t in (F32, F64, I32, U64))
ORDERS = ("forward", "reverse", "random")


def block_sum(p, out, n):
    s = cuda.shared.array(128, F32)
    t, i = cuda.threadIdx.x, cuda.grid(1)
    s[t] = p[i] if i < n else F32(0)
    cuda.syncthreads()
    half = 64
    while half > 0:
        if t < half:
            s[t] += s[t + half]
        cuda.syncthreads()
        half //= 2
    if t == 0:
        out[cuda.blockIdx.x] = s[0]


@pytest.mark.parametrize("order", ORDERS)
def test_shared_memory_and_barriers(memory, order):
    x = np.arange(1000, dtype=np.float32)
    p, out = memory.array(x), memory.array((8,), np.float32)
    compile(block_sum, (P32, P32, I64))(8, 128, p, out, 1000, order=order)
    assert out.array.tolist() == [x[128 * i : 128 * i + 128].sum() for i in range(8)]


@intrinsic
def sync_half(typingctx, number, count):
    def build(context, builder, signature, operands):
        kind = ir.FunctionType(ir.VoidType(), [ir.IntType(32)] * 2)
        builder.call(ir.InlineAsm(kind, "bar.sync $0, $1;", "r,r", side_effect=True), operands)
        return context.get_dummy_value()

    return types.void(number, count), build


def turn_around(p):
    s = cuda.shared.array(0, F32)
    t, n = cuda.threadIdx.x, cuda.blockDim.x
    s[t] = p[t]
    cuda.syncthreads()
    p[t] = s[n - 1 - t]


def test_dynamic_shared_memory(memory):
    kernel, x = compile(turn_around, (P32,)), np.arange(50, dtype=np.float32)
    p = memory.array(x)
    kernel(1, 50, p, shared_bytes=200)
    assert (p.array == x[::-1]).all()
    with pytest.raises(BadAccess, match="store of 4 bytes at byte 196 of the shared array"):
        kernel(1, 50, p, shared_bytes=196)


def past_shared(p, k):
    s = cuda.shared.array(32, F32)
    s[cuda.threadIdx.x + k] = F32(1)
    p[cuda.threadIdx.x] = s[0]


def test_static_shared_memory_has_bounds_and_holds_garbage(memory):
    p, kernel = memory.array((32,), np.float32), compile(past_shared, (P32, I64))
    kernel(1, 31, p, 1)
    assert np.isnan(p.array).all()  # s[0] was never written
    with pytest.raises(BadAccess, match="store of 4 bytes at byte 128 of the shared array"):
        kernel(1, 32, p, 1)


def kept_over_a_barrier(p):
    a = cuda.local.array(8, I32)
    s = cuda.shared.array(64, I32)
    t = cuda.threadIdx.x
    for j in range(8):
        a[j] = j * t
    s[t] = t
    cuda.syncthreads()
    p[t] = a[s[63 - t] % 8]


def test_a_thread_keeps_its_array_over_a_barrier(memory):
    p, t = memory.array((64,), np.int32), np.arange(64)
    compile(kept_over_a_barrier, (PI32,))(1, 64, p)
    assert (p.array == (63 - t) % 8 * t).all()


def racy(p):
    s = cuda.shared.array(64, F32)
    t = cuda.threadIdx.x
    s[t] = p[t]
    p[t] = s[63 - t]  # a barrier is missing


def test_results_of_a_race_differ_between_orders(memory):
    kernel, x = compile(racy, (P32,)), np.arange(64, dtype=np.float32)
    results = []
    for order in ORDERS:
        p = memory.array(x)
        kernel(1, 64, p, order=order, races=False)
        results.append(p.array)
    assert not np.array_equal(results[0], results[1], equal_nan=True)
    assert not np.array_equal(results[0], results[2], equal_nan=True)
    with pytest.raises(ValueError, match="order"):
        kernel(1, 64, p, order="backward")


def two_places(p):
    if p[cuda.threadIdx.x] > 0:
        cuda.syncthreads()
        p[0] = 1
    else:
        cuda.syncthreads()


def early_exit(p):
    if p[cuda.threadIdx.x] > 0:
        return
    cuda.syncthreads()
    p[cuda.threadIdx.x] = 5


def syncs_its_warp(p):
    if cuda.threadIdx.x < 16:
        cuda.syncwarp(0xFFFFFFFF)
    else:
        cuda.syncthreads()


def test_divergence(memory):
    p = memory.array(np.arange(64, dtype=np.float32) % 2)
    with pytest.raises(Divergence, match=r"thread \(0, 0, 0\).*py:\d+, and thread \(1, 0, 0\).*different barriers"):
        compile(two_places, (P32,))(1, 64, p)
    with pytest.raises(Divergence, match=r"no thread can go on: 16 at a syncwarp.*48 at a barrier"):
        compile(syncs_its_warp, (P32,))(1, 64, p)
    compile(early_exit, (P32,))(1, 64, p)  # threads that have ended are not waited for
    assert p.array.tolist() == [5, 1] * 32


def waits_for_another(flag):
    if cuda.threadIdx.x == 0:
        while cuda.atomic.add(flag, 0, 0) == 0:
            pass
    else:
        flag[0] = 1


def test_waiting_in_a_loop_ends():
    kernel = compile(waits_for_another, (I32[::1],))
    kernel(1, 2, np.zeros(1, np.int32), order="reverse", races=False)
    with pytest.raises(Divergence, match=r"thread \(0, 0, 0\) .* seems to wait in a loop"):
        kernel(1, 2, np.zeros(1, np.int32), races=False)


def named_barriers(p):
    s = cuda.shared.array(128, F32)
    t = cuda.threadIdx.x
    s[t] = p[t]
    sync_half(I32(1 + t // 64), I32(64))
    p[t] = s[t ^ 63]


def test_barriers_of_some_threads(memory):
    x = np.arange(128, dtype=np.float32)
    p = memory.array(x)
    compile(named_barriers, (P32,))(1, 128, p, order="random")
    assert (p.array == x[np.arange(128) ^ 63]).all()


def warp_words(p, out):
    lane = cuda.laneid
    x = p[lane]
    everyone = 0xFFFFFFFF
    out[lane] = cuda.shfl_xor_sync(everyone, x, 5)
    out[32 + lane] = cuda.shfl_up_sync(everyone, x, 3)
    out[64 + lane] = cuda.shfl_down_sync(everyone, x, 3)
    out[96 + lane] = cuda.shfl_sync(everyone, x, 7)
    out[128 + lane] = cuda.ballot_sync(everyone, x % 3 == 0)
    out[160 + lane] = cuda.all_sync(everyone, x < 100)
    out[192 + lane] = cuda.any_sync(everyone, x == 50)
    out[224 + lane] = cuda.match_any_sync(everyone, I32(x % 4))
    out[256 + lane] = cuda.syncthreads_count(I32(x % 4 == 1))
    if lane < 16:
        out[288 + lane] = cuda.shfl_xor_sync(0xFFFF, x, 1)


@pytest.mark.parametrize("order", ORDERS)
def test_warps(memory, order):
    lane, x = np.arange(32), np.arange(32, dtype=np.int32) * 2 + 1
    p, out = memory.array(x), memory.array(np.zeros(320, np.int32))
    compile(warp_words, (PI32, PI32))(1, 32, p, out, order=order)
    rows = out.array.reshape(10, 32)
    assert (rows[0] == x[lane ^ 5]).all()
    assert (rows[1] == x[np.where(lane < 3, lane, lane - 3)]).all()
    assert (rows[2] == x[np.where(lane > 28, lane, lane + 3)]).all()
    assert (rows[3] == x[7]).all()
    ballot = sum(1 << int(i) for i in lane[x % 3 == 0])
    assert (rows[4].view(np.uint32) == ballot).all()
    assert rows[5:7].tolist() == [[1] * 32, [0] * 32]
    groups = [sum(1 << int(i) for i in lane[x % 4 == v % 4]) for v in x]
    assert (rows[7].view(np.uint32) == groups).all()
    assert (rows[8] == 16).all()
    assert (rows[9][:16] == x[lane[:16] ^ 1]).all()


def shuffled_sum(p, out):
    total = p[cuda.grid(1)]
    for step in (16, 8, 4, 2, 1):
        total += cuda.shfl_down_sync(0xFFFFFFFF, total, step)
    if cuda.laneid == 0:
        cuda.atomic.add(out, 0, total)


def test_shuffled_sums_and_atomics(memory):
    x = np.arange(512, dtype=np.float64)
    p, out = memory.array(x), np.zeros(1)
    compile(shuffled_sum, (P64, types.float64[::1]))(2, 256, p, out)
    assert out[0] == x.sum()


PTX_MMA = (
    "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {$0, $1, $2, $3}, {$4, $5, $6, $7}, {$8, $9}, "
    "{$10, $11, $12, $13};"
)


@intrinsic
def mma(typingctx, a, b, c):
    """`c + a b` of a warp: four, two and four registers a lane."""

    def build(context, builder, signature, operands):
        f, word = ir.FloatType(), ir.IntType(32)
        inputs = [
            builder.bitcast(builder.extract_value(x, i), word)
            for x, n in zip(operands[:2], (4, 2), strict=True)
            for i in range(n)
        ]
        sums = [builder.extract_value(operands[2], i) for i in range(4)]
        kind = ir.FunctionType(ir.LiteralStructType([f] * 4), [word] * 6 + [f] * 4)
        asm = ir.InlineAsm(kind, PTX_MMA, "=f,=f,=f,=f,r,r,r,r,r,r,f,f,f,f", side_effect=True)
        result = builder.call(asm, inputs + sums)
        return context.make_tuple(builder, signature.return_type, [builder.extract_value(result, i) for i in range(4)])

    return c(a, b, c), build


def multiply_matrices(a, b, c):
    group, member = cuda.laneid // 4, cuda.laneid % 4
    upper, lower = group * 8 + member, (group + 8) * 8 + member
    fa = (a[upper], a[lower], a[upper + 4], a[lower + 4])
    fb = (b[member * 8 + group], b[(member + 4) * 8 + group])
    place, below = group * 8 + 2 * member, (group + 8) * 8 + 2 * member
    d = mma(fa, fb, (c[place], c[place + 1], c[below], c[below + 1]))
    c[place], c[place + 1], c[below], c[below + 1] = d


@pytest.mark.parametrize("order", ORDERS)
def test_tensor_cores(memory, order):
    rng = np.random.default_rng(0)
    a, b, c = (rng.normal(size=s).astype(np.float32) for s in ((16, 8), (8, 8), (16, 8)))
    there = [memory.array(x) for x in (a, b, c)]
    compile(multiply_matrices, (P32, P32, P32))(1, 32, *there, order=order)
    a, b = ((x.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32).astype(np.float64) for x in (a, b))
    assert (there[2].array == (a @ b + c).astype(np.float32)).all()


def asm_of(text, constraints, result, *kinds):
    @intrinsic
    def call(typingctx, x):
        def build(context, builder, signature, operands):
            return builder.call(ir.InlineAsm(ir.FunctionType(result, kinds), text, constraints), operands)

        return x(x), build

    return call


to_tf32 = asm_of("cvt.rna.tf32.f32 $0, $1;", "=f,f", ir.FloatType(), ir.FloatType())
unknown_ptx = asm_of("frobnicate.f32 $0, $1;", "=f,f", ir.FloatType(), ir.FloatType())


def round_to_tf32(p):
    p[cuda.grid(1)] = to_tf32(p[cuda.grid(1)])


def frobnicate(p):
    p[cuda.grid(1)] = unknown_ptx(p[cuda.grid(1)])


def test_inline_ptx(memory):
    x = np.array([1, 1 + 2**-11, -1 - 2**-11, 1 + 2**-11 - 2**-20, np.inf], np.float32)
    p = memory.array(x)
    compile(round_to_tf32, (P32,))(1, 5, p)
    assert p.array.tolist() == [1, 1 + 2**-10, -1 - 2**-10, 1, np.inf]
    with pytest.raises(NotImplementedError, match=r"frobnicate\.f32"):
        compile(frobnicate, (P32,))


def halves(p):
    i = cuda.grid(1)
    p[i] = p[i] + types.float16(1)


@intrinsic
def widen(typingctx, bits):
    def build(context, builder, signature, operands):
        return builder.fpext(builder.bitcast(operands[0], ir.HalfType()), ir.FloatType())

    return F32(bits), build


@intrinsic
def narrow(typingctx, x):
    def build(context, builder, signature, operands):
        return builder.bitcast(builder.fptrunc(operands[0], ir.HalfType()), ir.IntType(16))

    return types.int16(x), build


def third(p):
    i = cuda.grid(1)
    p[i] = narrow(widen(p[i]) / F32(3))


def test_half_precision(memory):
    x = np.linspace(-100, 100, 64).astype(np.float16)
    p = memory.array(x.view(np.int16))
    compile(third, (types.CPointer(types.int16),))(1, 64, p)
    assert (p.array.view(np.float16) == (x.astype(np.float32) / np.float32(3)).astype(np.float16)).all()


def test_numbas_float16(memory):
    x = np.linspace(-100, 100, 64).astype(np.float16)
    p = memory.array(x)
    compile(halves, (types.CPointer(types.float16),))(1, 64, p)
    assert (p.array == x + np.float16(1)).all()
