"""Products of matrices in tiles: the documented order of summation to the last bit, and nothing touched outside."""

import ctypes
import functools
import math
import mmap
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import typeof, types
from numba.np.numpy_support import from_dtype

from nagd_numba.kernels.jit import kernel
from nagd_numba.kernels.linking import linked
from nagd_numba.kernels.pointers import pointer, restorer, shifted, spill
from nagd_numba.kernels.rounding import add, fma
from nagd_numba.kernels.template import template
from nagd_numba.mlp.cpu import gemm
from nagd_numba.mlp.cpu.microkernel import ROWS, tile
from nagd_numba.mlp.cpu.vectors import transposed
from nagd_numba.mlp.sums import BLOCK
from tests.helpers import oracles
from tests.helpers.backends import JIT_OFF

pytestmark = pytest.mark.skipif(JIT_OFF, reason="is about compiled kernels")

DTYPES = ("float32", "float64")
KINDS = ("plain", "across", "transposed")  # A B, A^T B, A B^T
FILL = 7.5  # what lies around everything that is written


@template
def epilogue_with_row(restore, fetch, put, TILE, COLUMNS):
    """out = sum; and below it, a tile of one row (biases) that was fetched."""

    def epilogue_with_row(buffer, i, j, height, width, context):
        row, row_start, out, start, pitch, below = restore(context)
        for e in range(TILE):  # the rest of the buffer has no meaning
            if e // COLUMNS >= height or e % COLUMNS >= width:
                buffer[e] = math.inf
        put(buffer, out, start + i * pitch + j, pitch, height, width)
        fetch(row, row_start + j, 0, height, width, shifted(buffer, TILE))
        put(shifted(buffer, TILE), out, start + below + i * pitch + j, pitch, height, width)

    return epilogue_with_row


@template
def multiply(product, function):
    def multiply(a, b, row, out, numbers, strides, buffer, panels):
        a_start, b_start, first, last, columns, inner, row_start, start, pitch, below = numbers
        a_row, a_inner, b_inner, b_column = strides
        product(
            *(shifted(pointer(a), a_start), a_row, a_inner, shifted(pointer(b), b_start), b_inner, b_column),
            *(first, last, columns, inner, pointer(buffer), pointer(panels), function()),
            spill((pointer(row), row_start, pointer(out), start, pitch, below)),
        )

    return multiply


def in_order(a, b, out):
    """The definition: chains of fma, in blocks whose sums are added in order."""
    T = a.dtype.type
    for i in range(a.shape[0]):
        for j in range(b.shape[1]):
            for first in range(0, a.shape[1], BLOCK):
                total = T(0)
                for k in range(first, min(a.shape[1], first + BLOCK)):
                    total = fma(a[i, k], b[k, j], total)
                out[i, j] = total if first == 0 else add(out[i, j], total)


# Of the panels of A together, and of those of a group of B, in terms; 0: as many as the cache has room for.
LENGTHS = (0, 200)


@functools.cache
def product_kernel(dtype, length=0):
    made, x, n = tile(dtype), types.CPointer(from_dtype(np.dtype(dtype))), types.int64
    epilogue = linked(
        epilogue_with_row.bind(
            restore=restorer(types.Tuple((x, n, x, n, n, n))),
            fetch=made.fetch,
            put=made.put,
            TILE=ROWS * made.columns,
            COLUMNS=made.columns,
        ),
        gemm.epilogue_interface(dtype),
    )
    product = gemm.product_of(dtype, length)
    vector = np.zeros(1, dtype)
    signature = tuple(map(typeof, (*[vector] * 4, (0,) * 10, (0,) * 4, vector, vector)))
    return kernel(multiply.bind(product=product.call, function=epilogue.locate), signature)


def memory_sizes(dtype, rows, widest, length=0):
    """Elements of the buffer and of the panels of one thread."""
    return 2 * ROWS * tile(dtype).columns, gemm.panels_size_of(dtype, length)(rows, widest)


def strides(kind, a_pitch, b_pitch):
    """Of A from row to row and from k to k; of B from k to k and from column to column."""
    return (
        *((1, a_pitch) if kind == "across" else (a_pitch, 1)),
        *((1, b_pitch) if kind == "transposed" else (b_pitch, 1)),
    )


@functools.cache
def reference_kernel(dtype):
    matrix = np.zeros((1, 1), dtype)
    return kernel(in_order, (typeof(matrix),) * 3)


def reference(a, b):
    a, b = np.ascontiguousarray(a), np.ascontiguousarray(b)
    out = np.empty((len(a), b.shape[1]), a.dtype)
    reference_kernel(a.dtype.name)(a, b, out)
    return out


class Zone:
    """A matrix of a pitch inside a vector, with `fill` everywhere else."""

    def __init__(self, shape, dtype, fill, pad=0, start=0, end=0):
        self.pitch, self.start = shape[1] + pad, start
        self.vector = np.full(start + (shape[0] - 1) * self.pitch + shape[1] + end, fill, dtype)
        self.matrix = self.of(self.vector, shape)

    def of(self, vector, shape):
        size = vector.itemsize
        return np.lib.stride_tricks.as_strided(vector[self.start :], shape, (self.pitch * size, size))

    def outside(self):
        """The vector, with 0 in place of the matrix."""
        rest = self.vector.copy()
        self.of(rest, self.matrix.shape)[...] = 0
        return rest


def check(
    kind, dtype, rows, columns, inner, seed=0, pads=(0, 0, 0), starts=(0, 0, 0), ends=9, part=None, length=0, wider=0
):
    """One product, between guards: NaN around what is read, numbers around what is written."""
    random = np.random.default_rng(seed)
    a_shape = (inner, rows) if kind == "across" else (rows, inner)
    b_shape = (columns, inner) if kind == "transposed" else (inner, columns)
    a = Zone(a_shape, dtype, np.nan, pads[0], starts[0], ends)
    b = Zone(b_shape, dtype, np.nan, pads[1], starts[1], ends)
    row = Zone((1, columns), dtype, np.nan, 0, starts[2], ends)
    for zone in (a, b, row):
        zone.matrix[...] = random.normal(size=zone.matrix.shape)
    out = Zone((2 * rows, columns), dtype, FILL, pads[2], starts[2], ends)
    buffer, panel = (
        Zone((1, size), dtype, FILL, start=5, end=5) for size in memory_sizes(dtype, rows, inner + wider, length)
    )
    first, last = part or (0, rows)
    before = [zone.outside() for zone in (out, buffer, panel)]
    out.matrix[...] = FILL
    product_kernel(dtype, length)(
        *(a.vector, b.vector, row.vector, out.vector),
        (a.start, b.start, first, last, columns, inner, row.start, out.start, out.pitch, rows * out.pitch),
        strides(kind, a.pitch, b.pitch),
        *(zone.vector[5:-5] for zone in (buffer, panel)),
    )
    expected = np.full((2 * rows, columns), FILL, dtype)
    A, B = a.matrix.T if kind == "across" else a.matrix, b.matrix.T if kind == "transposed" else b.matrix
    expected[first:last] = reference(A[first:last], B)
    expected[rows + first : rows + last] = row.matrix
    assert out.matrix.tobytes() == expected.tobytes(), (kind, dtype, rows, columns, inner)
    for zone, was in zip((out, buffer, panel), before, strict=True):
        assert zone.outside().tobytes() == was.tobytes(), (kind, dtype, rows, columns, inner)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "columns", "inner"), [(1, 1, 1), (2, 3, 2), (2, 1, BLOCK), (1, 2, 2 * BLOCK + 1)])
def test_the_reference_is_the_documented_order(dtype, rows, columns, inner):
    """In rationals, each operation rounded once."""
    random = np.random.default_rng(inner)
    a, b = (random.normal(size=shape).astype(dtype) for shape in ((rows, inner), (inner, columns)))
    expected = np.zeros((rows, columns), dtype)
    for i, j in np.ndindex(rows, columns):
        sums = []
        for first in range(0, inner, BLOCK):
            total = 0.0
            for k in range(first, min(inner, first + BLOCK)):
                total = oracles.fma(a[i, k], b[k, j], total, dtype)
            sums.append(total)
        total = sums[0]
        for other in sums[1:]:
            total = oracles.round_to(Fraction(total) + Fraction(other), dtype)
        expected[i, j] = total
    assert reference(a, b).tobytes() == expected.tobytes()


@pytest.mark.parametrize("itemsize", [4, 8])
@pytest.mark.parametrize("width", [16, 32, 64])
def test_a_block_is_turned(width, itemsize):
    lanes = width // itemsize
    block = np.arange(lanes * lanes).reshape(lanes, lanes)
    columns = transposed(list(block), itemsize, lambda a, b, places: np.concatenate([a, b])[places])
    assert np.array_equal(columns, block.T)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_shape_around_the_edges_of_a_tile(kind, dtype):
    width = tile(dtype).columns
    edges = sorted({1, 2, *range(width // 2 - 1, width // 2 + 2), *range(width - 1, width + 2), 2 * width + 1})
    for rows in range(1, 2 * ROWS + 2):
        for columns in edges:
            check(kind, dtype, rows, columns, 1 + (rows + columns) % 19)
    for inner in (*range(1, 20), BLOCK - 1, BLOCK, BLOCK + 1):
        check(kind, dtype, ROWS + 1, width + 3, inner)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", LENGTHS)
def test_every_shape_around_the_edges_of_a_panel(kind, dtype, length):
    """Rows far apart, and enough of them: A and B are packed, with `length` A in several blocks."""
    width = tile(dtype).columns
    for more in range(ROWS):
        columns = gemm.OFTEN * width + more * width // ROWS
        check(
            kind,
            dtype,
            gemm.OFTEN * ROWS + more,
            columns,
            60 + more,
            pads=(gemm.FAR, gemm.FAR, 1),
            length=length,
            wider=100,
        )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_group_of_short_panels_has_room_where_the_widest_layer_is_wide(kind, dtype):
    """Three panels of 64 terms are more than one of 160."""
    check(kind, dtype, 100, gemm.OFTEN * tile(dtype).columns, 60, pads=(gemm.FAR,) * 3, length=200, wider=100)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
@given(
    rows=st.integers(1, 70),
    columns=st.integers(1, 130),
    inner=st.integers(1, 300),
    seed=st.integers(0, 99),
    pads=st.tuples(*[st.sampled_from([0, 0, 1, 3, 700])] * 3),  # a large pitch goes through panels
    starts=st.tuples(*[st.integers(0, 20)] * 3),
    length=st.sampled_from(LENGTHS),
    wider=st.sampled_from([0, 0, 90]),
    data=st.data(),
)
def test_any_shape(kind, dtype, rows, columns, inner, seed, pads, starts, length, wider, data):
    first = data.draw(st.integers(0, rows), "first")
    last = data.draw(st.integers(first, rows), "last")
    part = data.draw(st.sampled_from([None, (first, last)]))
    check(kind, dtype, rows, columns, inner, seed, pads, starts, part=part, length=length, wider=wider)


def test_the_order_of_the_terms_matters():
    """Large terms that cancel: another order, or a product that is rounded, gives another sum."""
    a = np.ones((1, 3 * BLOCK), np.float32)
    a[0, 0], a[0, BLOCK] = 2**24, -(2**24)
    b = np.ones((3 * BLOCK, 1), np.float32)
    # 2^24 + 1 + ... stays 2^24; -2^24 + 1 + ... counts; the last block counts.
    assert reference(a, b)[0, 0] == BLOCK - 1 + BLOCK
    check("plain", "float32", 1, 1, 3 * BLOCK)
    one = np.float32(1 + 2**-12)
    a, b = np.array([[one * one, -one]]), np.array([[1], [one]], np.float32)  # fma keeps the product's last bits
    assert reference(a, b)[0, 0] == np.float32(np.float64(one * one) - np.float64(one) ** 2) != 0


def digest():
    """The bits of some products, and the width of a tile; for other processes."""
    import hashlib

    found = hashlib.sha256()
    for dtype in DTYPES:
        for kind in KINDS:
            check(kind, dtype, 2 * ROWS + 3, 37, 150, seed=3, pads=(1, 2, 3))
        random = np.random.default_rng(0)
        a, b = random.normal(size=(19, 150)).astype(dtype), random.normal(size=(150, 37)).astype(dtype)
        found.update(reference(a, b).tobytes())
    return f"{found.hexdigest()} {tile('float32').columns}"


HERE = "from tests.mlp.cpu import test_microkernel as here"


def in_another_process(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(Path(__file__).parents[3])!r})\n{code}"],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )


@pytest.mark.parametrize(("features", "width"), [("", 8), pytest.param("+avx,+avx2,+fma", 16, marks=pytest.mark.ci)])
def test_narrower_vectors_give_the_same_bits(features, width):
    from llvmlite import binding

    host = binding.get_host_cpu_features()
    needed = [feature.removeprefix("+") for feature in features.split(",") if feature]
    if not sys.platform.startswith(("linux", "darwin")) or not all(host.get(feature) for feature in needed):
        pytest.skip("this processor lacks them")
    if "sse2" not in host:
        pytest.skip("is about x86")
    done = in_another_process(f"{HERE}; print(here.digest())", NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES=features)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == [digest().split()[0], str(width)]


def guarded(dtype, size, at_end):
    """A vector that ends (or begins) where memory that cannot be touched begins (or ends)."""
    page, itemsize = mmap.PAGESIZE, np.dtype(dtype).itemsize
    inside = -(-size * itemsize // page) * page
    area = mmap.mmap(-1, inside + 2 * page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(area))
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    for place in (start, start + page + inside):
        assert protect(place, page, 0) == 0  # PROT_NONE
    offset = page + (inside - size * itemsize if at_end else 0)
    return np.frombuffer(area, dtype, size, offset)


def multiply_between_guards():
    """Products whose matrices, buffer and panel all lie against forbidden memory."""
    shapes = [(1, 1, 1), (ROWS - 1, 5, 3), (ROWS + 1, 7, ROWS + 1), (2 * ROWS + 1, 33, BLOCK + 2), (3 * ROWS, 101, 20)]
    for dtype in DTYPES:
        width = tile(dtype).columns
        for kind in KINDS:
            for at_end in (False, True):
                for rows, columns, inner in [*shapes, (ROWS, width, 4), (3 * ROWS, width // 2, 9)]:
                    for pad in (0, 600):
                        b_rows, b_columns = (columns, inner) if kind == "transposed" else (inner, columns)
                        a_rows, a_columns = (inner, rows) if kind == "across" else (rows, inner)
                        sizes = (
                            *(
                                (a_rows - 1) * (a_columns + pad) + a_columns,
                                (b_rows - 1) * (b_columns + pad) + b_columns,
                            ),
                            *(columns, 2 * rows * columns, *memory_sizes(dtype, rows, inner)),
                        )
                        a, b, row, out, buffer, panel = (guarded(dtype, size, at_end) for size in sizes)
                        product_kernel(dtype)(
                            *(a, b, row, out),
                            (0, 0, 0, rows, columns, inner, 0, 0, columns, rows * columns),
                            strides(kind, a_columns + pad, b_columns + pad),
                            *(buffer, panel),
                        )
    print("untouched")


@pytest.mark.skipif(os.name == "nt", reason="memory protection of POSIX")
def test_nothing_outside_is_read_or_written():
    """In a process of its own, which an access outside ends."""
    done = in_another_process(f"{HERE}; here.multiply_between_guards()")
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "untouched"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="how the process ends is the system's")
def test_the_guards_guard():
    done = in_another_process(
        f"{HERE}; here.guarded('float32', 3, True).strides; import numpy as np\n"
        "x = here.guarded('float32', 3, True)\n"
        "np.lib.stride_tricks.as_strided(x, (4,), (4,)).sum()"
    )
    assert done.returncode < 0


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_error_of_a_product(dtype):
    """Against the exact product: a chain of n rounded terms errs by less than n units of the sum of their sizes."""
    random = np.random.default_rng(0)
    a, b = random.normal(size=(9, 1000)).astype(dtype), random.normal(size=(1000, 5)).astype(dtype)
    got = reference(a, b).astype(np.longdouble)
    exact = a.astype(np.longdouble) @ b.astype(np.longdouble)
    terms = BLOCK + 1000 // BLOCK + 1  # a block, and the sums of the blocks
    assert (abs(got - exact) <= terms * np.finfo(dtype).eps / 2 * (abs(a) @ abs(b))).all()
