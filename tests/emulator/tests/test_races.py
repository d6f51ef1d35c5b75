"""The emulator of CUDA kernels : races within a launch, and the memory that it touched."""

import re

import numpy as np
import pytest
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .. import Race, compile

try:
    from numba import cuda
except ImportError:  # the tests say that they are skipped
    cuda = None

pytestmark = pytest.mark.usefixtures("compiler")

F32, F64, I32, I64 = types.float32, types.float64, types.int32, types.int64
P8, P32, P64, PI32 = (types.CPointer(t) for t in (types.uint8, F32, F64, I32))
ORDERS = ("forward", "reverse", "random")


def neighbours(p):
    s = cuda.shared.array(64, F32)
    t = cuda.threadIdx.x
    s[t] = p[t]
    p[t] = s[63 - t]  # a barrier is missing


def test_both_places_are_named(memory):
    p = memory.array(np.zeros(64, np.float32))
    with pytest.raises(Race) as found:
        compile(neighbours, (P32,))(1, 64, p)
    line = neighbours.__code__.co_firstlineno + 3
    assert re.sub(r"smem_\d+", "smem_1", str(found.value)) == (
        "at byte 128 of the shared array _cudapy_smem_1 (256 bytes): "
        f"store of 4 bytes by thread (32, 0, 0) of block (0, 0, 0), at test_races.py:{line}, and before it "
        f"load of 4 bytes by thread (31, 0, 0) of block (0, 0, 0), at test_races.py:{line + 1}; nothing orders them"
    )


def exchange(p, first, second, third):
    """Threads write their own elements, read the others', write again: each barrier can be left out."""
    s = cuda.shared.array(64, F32)
    t = cuda.threadIdx.x
    s[t] = p[t]
    if first:
        cuda.syncthreads()
    x = s[63 - t]
    if second:
        cuda.syncthreads()
    s[t] = x
    if third:
        cuda.syncthreads()
    p[t] = s[(t + 1) % 64]


@pytest.mark.parametrize("order", ORDERS)
def test_each_missing_barrier_is_found(memory, order):
    x = np.arange(64, dtype=np.float32)
    kernel, p = compile(exchange, (P32, *[types.boolean] * 3)), memory.array(x)
    kernel(1, 64, p, True, True, True, order=order)
    assert (p.array == np.roll(x[::-1], -1)).all()
    for missing in range(3):
        with pytest.raises(Race, match="the shared array"):
            kernel(1, 64, p, *(k != missing for k in range(3)), order=order)


def sum_up(p, out, step):
    i = cuda.grid(1)
    out[i // step] += p[i]


@pytest.mark.parametrize("order", ORDERS)
def test_blocks_are_not_ordered(memory, order):
    kernel, p, out = compile(sum_up, (P32, P32, I64)), memory.array((128,), np.float32), memory.array((128,))
    kernel(4, 32, p, out, 1, order=order)
    with pytest.raises(Race, match=r"array 1 \(512 bytes\): load of .* of block \((.), 0, 0\).* of block \(\1"):
        kernel(4, 32, p, out, 32, order="forward")  # threads of the first block
    kernel(32, 1, p, out, 1, order=order)  # what earlier launches did is no concern
    with pytest.raises(Race, match=r"of block \((\d+), 0, 0\).* of block \((?!\1,)\d+"):
        kernel(32, 1, p, out, 2, order=order)


def blocks_read_then_one_writes(p, out):
    b = cuda.blockIdx.x
    if cuda.threadIdx.x == 0:
        out[b] = p[0]
    cuda.syncthreads()
    if b == 3 and cuda.threadIdx.x == 0:
        p[0] = F32(1)


@pytest.mark.parametrize("order", ORDERS)
def test_a_store_to_what_other_blocks_read(memory, order):
    kernel = compile(blocks_read_then_one_writes, (P32, P32))
    p, out = memory.array(np.zeros(1, np.float32)), memory.array(np.zeros(4, np.float32))
    kernel(3, 32, p, out, order=order)
    with pytest.raises(Race, match="array 0"):
        kernel(4, 32, p, out, order=order)


def through_the_warp(p, synced, shuffled):
    s = cuda.shared.array(64, F32)
    t = cuda.threadIdx.x
    s[t] = p[t]
    if synced:
        cuda.syncwarp()
    if shuffled:
        cuda.shfl_xor_sync(0xFFFFFFFF, t, 1)
    p[t] = s[t ^ 1]


@pytest.mark.parametrize("order", ORDERS)
def test_lanes_are_not_in_step(memory, order):
    x = np.arange(64, dtype=np.float32)
    kernel, p = compile(through_the_warp, (P32, types.boolean, types.boolean)), memory.array(x)
    kernel(1, 64, p, True, False, order=order)
    assert (p.array == x[np.arange(64) ^ 1]).all()
    with pytest.raises(Race, match="shared array"):
        kernel(1, 64, p, False, False, order=order)
    with pytest.raises(Race, match="shared array"):  # a shuffle waits, but orders no memory
        kernel(1, 64, p, False, True, order=order)


def part_of_a_warp(p, mask):
    s = cuda.shared.array(32, F32)
    t = cuda.threadIdx.x
    s[t] = p[t]
    if t < 16:
        cuda.syncwarp(0xFFFF)
        p[t] = s[t ^ mask]


def test_a_mask_orders_its_own_lanes_only(memory):
    kernel, p = compile(part_of_a_warp, (P32, I32)), memory.array(np.zeros(32, np.float32))
    kernel(1, 32, p, 15)
    with pytest.raises(Race, match=r"thread \((1?\d), 0, 0\).* thread \((1[6-9]|[23]\d), 0, 0\)"):
        kernel(1, 32, p, 16, order="reverse")


def many_read(p, q):
    """All read, the first warp waits for itself, its first lane writes: the others' loads are not ordered."""
    s = cuda.shared.array(1, F32)
    t = cuda.threadIdx.x
    if t == 0:
        s[0] = F32(1)
    cuda.syncthreads()
    if t < q:
        p[t] = s[0]
    if t < 32:
        cuda.syncwarp()
    if t == 0:
        s[0] = F32(2)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("readers", [32, 33, 96])
def test_all_loads_are_remembered(memory, order, readers):
    kernel, p = compile(many_read, (P32, I64)), memory.array(np.zeros(96, np.float32))
    if readers == 32:
        kernel(1, 96, p, readers, order=order)
        return
    with pytest.raises(Race, match=r"store .* thread \(0, 0, 0\).* load .* thread \((3[2-9]|[4-9]\d), 0, 0\)"):
        kernel(1, 96, p, readers, order=order)


@intrinsic
def sync_some(typingctx, number, count):
    def build(context, builder, signature, operands):
        kind = ir.FunctionType(ir.VoidType(), [ir.IntType(32)] * 2)
        builder.call(ir.InlineAsm(kind, "bar.sync $0, $1;", "r,r", side_effect=True), operands)
        return context.get_dummy_value()

    return types.void(number, count), build


def halves(p, flip):
    s = cuda.shared.array(128, F32)
    t = cuda.threadIdx.x
    s[t] = p[t]
    sync_some(I32(1 + t // 64), I32(64))
    p[t] = s[t ^ flip]


@pytest.mark.parametrize("order", ORDERS)
def test_barriers_of_some_threads_order_those(memory, order):
    kernel, p = compile(halves, (P32, I32)), memory.array(np.zeros(128, np.float32))
    kernel(1, 128, p, 63, order=order)
    with pytest.raises(Race):
        kernel(1, 128, p, 64, order=order)


def by_a_third(p, n):
    """What the first warp wrote reaches the third through the second: order is passed on."""
    s = cuda.shared.array(1, F32)
    t = cuda.threadIdx.x
    if t == 0:
        s[0] = p[0]
    if t < 64:
        sync_some(I32(1), I32(64))
    if t >= n:
        sync_some(I32(2), I32(96 - n))
    if t == 64:
        p[1] = s[0]


def test_order_is_passed_on(memory):
    kernel, p = compile(by_a_third, (P32, I32)), memory.array(np.zeros(2, np.float32))
    kernel(1, 96, p, 32)
    with pytest.raises(Race):
        kernel(1, 96, p, 64)


def parts_of_words(p, wide, n, overlap):
    """Bytes that lie beside each other, and then words over them."""
    t = cuda.threadIdx.x
    if t < n:
        p[t] = t
    if t == n:
        wide[1 - overlap] = F64(0)


def test_bytes_beside_each_other_are_no_race(memory):
    kernel, p = compile(parts_of_words, (P8, P64, I64, I64)), memory.array(np.zeros(16, np.uint8))
    kernel(1, 9, p, p, 8, 0)
    assert p.array[:8].tolist() == list(range(8))
    with pytest.raises(Race, match="store of 8 bytes"):
        kernel(1, 9, p, p, 8, 1)


def count(p, out, plain):
    cuda.atomic.add(p, 0, 1)
    if plain and cuda.grid(1) == 40:
        out[0] = p[0]


def test_atomics_do_not_race_with_each_other():
    kernel, p, out = compile(count, (I64[::1], I64[::1], types.boolean)), np.zeros(1, np.int64), np.zeros(1, np.int64)
    kernel(4, 32, p, out, False)
    assert p[0] == 128
    with pytest.raises(Race, match=r"load of .*atomic of|atomic of .*load of"):
        kernel(4, 32, p, out, True)
    kernel(4, 32, p, out, True, races=False)


def two_views(p, q):
    t = cuda.threadIdx.x
    q[t] = p[t]


def test_views_that_overlap():
    kernel, x = compile(two_views, (F32[::1], F32[::1])), np.zeros(65, np.float32)
    kernel(1, 64, x[:64], x[:64])
    with pytest.raises(Race):
        kernel(1, 64, x[:64], x[1:])


def atomic_part(p, n):
    i = cuda.grid(1)
    if i < n:
        cuda.atomic.add(p, 1, 1)


def test_footprint(memory):
    p, q = (memory.array(np.zeros(64, np.float32)) for _ in range(2))
    kernel = compile(sum_up, (P32, P32, I64))
    kernel(2, 32, p, q, 1)  # of an earlier launch nothing is left
    read, written, _ = kernel(1, 10, p + 12, q + 4, 1, footprint=True)
    assert read == sorted([(p + 12, p + 52), (q + 4, q + 44)])
    assert written == [(q + 4, q + 44)]
    assert kernel(1, 10, p, q, 1) is None
    x = np.zeros(4, np.int64)
    found = compile(atomic_part, (I64[::1], I64))(2, 4, x, 5, footprint=True)
    assert found == ([], [], [(x.ctypes.data + 8, x.ctypes.data + 16)])
    with pytest.raises(ValueError, match="footprint=True needs races=True"):
        kernel(1, 10, p, q, 1, footprint=True, races=False)


def every_other(p, q):
    t = cuda.threadIdx.x
    q[2 * t] = p[t]


def test_a_footprint_has_gaps(memory):
    p, q = memory.array(np.zeros(3)), memory.array(np.zeros(6))
    read, written, atomic = compile(every_other, (P64, P64))(1, 3, p, q, footprint=True)
    assert read == [(p, p + 24)]
    assert written == [(q + 16 * i, q + 16 * i + 8) for i in range(3)]
    assert atomic == []


def test_barriers_that_are_needed(memory):
    kernel, p = compile(exchange, (P32, *[types.boolean] * 3)), memory.array(np.zeros(64, np.float32))
    first = exchange.__code__.co_firstlineno
    assert sorted(kernel.barriers.values()) == [f"test_races.py:{first + line}" for line in (6, 9, 12)]
    for site in kernel.barriers:
        with pytest.raises(Race):
            kernel(1, 64, p, True, True, True, ignore=(site,))
    kernel, x = compile(through_the_warp, (P32, types.boolean, types.boolean)), memory.array(np.zeros(64, np.float32))
    (site,) = kernel.barriers  # the shuffle is none
    with pytest.raises(Race):
        kernel(1, 64, x, True, True, ignore=(site,))


def synced_twice(p):
    s = cuda.shared.array(64, F32)
    t = cuda.threadIdx.x
    s[t] = p[t]
    cuda.syncthreads()
    cuda.syncthreads()
    p[t] = s[63 - t]


def test_barriers_that_are_not_needed(memory):
    kernel, p = compile(synced_twice, (P32,)), memory.array(np.zeros(64, np.float32))
    for site in kernel.barriers:
        kernel(1, 64, p, ignore=(site,))
    with pytest.raises(Race):
        kernel(1, 64, p, ignore=tuple(kernel.barriers))


LOAD, STORE, ATOMIC = 1, 2, 3
NONE, BLOCK, WARP, TWO_WARPS = range(4)  # who waits at the end of a step
THREADS, STEPS, PLACES = 96, 6, 4


def perform(p, doing, where, syncs, out):
    """In each step each thread does one thing, or nothing, in one place; then some wait."""
    t, b, total = cuda.threadIdx.x, cuda.blockIdx.x, I32(0)
    for k in range(STEPS):
        at = (b * STEPS + k) * THREADS + t
        what, place = doing[at], where[at]
        if what == LOAD:
            total += p[place]
        elif what == STORE:
            p[place] = t
        elif what == ATOMIC:
            cuda.atomic.add(p, place, 1)
        if syncs[k] == BLOCK:
            cuda.syncthreads()
        elif syncs[k] == WARP:
            cuda.syncwarp()
        elif syncs[k] == TWO_WARPS and t < 64:
            sync_some(I32(1), I32(64))
    out[b * THREADS + t] = total


def races_of(doing, where, syncs):
    """Whether any two accesses conflict and are not ordered: by comparing all pairs."""
    groups = {
        BLOCK: [range(THREADS)],
        WARP: [range(w, w + 32) for w in range(0, THREADS, 32)],
        TWO_WARPS: [range(64)],
    }
    events = []
    for block in range(len(doing)):
        known = np.full((THREADS, THREADS), -1)  # the last step of each other thread that a thread has waited for
        for k in range(STEPS):
            for t in np.flatnonzero(doing[block, k]):
                events.append((block, k, t, doing[block, k, t], where[block, k, t], known[t].copy()))
            for group in groups.get(syncs[k], []):
                row = known[list(group)].max(axis=0)
                row[list(group)] = k
                known[list(group)] = row
    for i, (b1, k1, t1, what1, place1, known1) in enumerate(events):
        for b2, k2, t2, what2, place2, known2 in events[:i]:
            harmless = what1 == what2 and what1 != STORE
            ordered = b1 == b2 and (t1 == t2 or known1[t2] >= k2 or known2[t1] >= k1)
            if place1 == place2 and not harmless and not ordered:
                return True
    return False


def test_drawn_programs_race_where_two_of_their_accesses_do():
    kernel, answers = compile(perform, (I32[::1],) * 5), []
    for seed in range(120):
        rng = np.random.default_rng(seed)
        shape, blocks = (STEPS, THREADS), rng.integers(1, 3)
        doing = rng.choice([0, LOAD, STORE, ATOMIC], (blocks, *shape), p=[0.988, 0.01, 0.001, 0.001])
        where = rng.integers(0, PLACES, doing.shape) + rng.integers(0, 2) * PLACES * np.arange(blocks)[:, None, None]
        syncs = rng.choice([NONE, BLOCK, WARP, TWO_WARPS], STEPS, p=[0.1, 0.4, 0.25, 0.25])
        p, out = np.zeros(2 * PLACES, np.int32), np.zeros(blocks * THREADS, np.int32)
        program = [x.astype(np.int32).reshape(-1) for x in (doing, where, syncs)]
        expected = races_of(doing, where, syncs)
        try:
            kernel(int(blocks), THREADS, p, *program, out, order=ORDERS[seed % 3], seed=seed)
            found = False
        except Race:
            found = True
        assert found == expected, seed
        answers.append(found)
    assert 20 < sum(answers) < 100
