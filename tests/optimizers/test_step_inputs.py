"""What `step` accepts from Python."""

import os
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nagd_numba import FlatParams, nesterov_update, step
from nagd_numba.kernels.forms import PARALLEL_FROM
from tests.helpers.backends import JIT_OFF


def arrays(n=20, dtype=np.float32, shape=None, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape or n).astype(dtype) for _ in range(3)]


def expected(p, g, v, lr=0.01, momentum=0.9):
    """The step element by element, through the scalar rule."""
    T = p.dtype.type
    pairs = [
        nesterov_update(T(a), T(b), T(c), T(lr), T(momentum), T(momentum))
        for a, b, c in zip(p.ravel(), g.ravel(), v.ravel(), strict=True)
    ]
    new_p, new_v = (np.array(x, p.dtype).reshape(p.shape) for x in zip(*pairs, strict=True))
    return new_p, new_v


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(7,), (3, 5), (2, 3, 4), ()])
@pytest.mark.parametrize("order", ["C", "F"])
def test_any_contiguous_shape(dtype, shape, order):
    p, g, v = (np.asarray(x, order=order) for x in arrays(dtype=dtype, shape=shape))
    p, v = (np.require(x, requirements="W") for x in (p, v))
    want = expected(p, g, v)
    for _ in range(2):  # the general way, then the ready kernel
        a, b = p.copy(order), v.copy(order)
        assert step(a, g, b) is a
        np.testing.assert_array_equal(a, want[0])
        np.testing.assert_array_equal(b, want[1])


@given(data=st.data())
def test_any_strides(data):
    """Slices, reversals and transposes; the memory between the elements is left alone."""
    shape = tuple(data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)))
    views, buffers = [], []
    for x in arrays(shape=shape):
        steps = [data.draw(st.sampled_from([1, 2, -1, -2])) for _ in shape]
        buffer = np.full([abs(s) * n for s, n in zip(steps, shape, strict=True)], 7.0, np.float32)
        view = buffer[tuple(slice(None, None, s) for s in steps)]
        view[...] = x
        views.append(view)
        buffers.append(buffer)
    p, g, v = views
    if data.draw(st.booleans()):
        p, g, v = p.T, g.T, v.T
    want = expected(p, g, v)
    untouched = sum((b == 7.0).sum() for b in buffers)
    step(p, g, v)
    np.testing.assert_array_equal(p, want[0])
    np.testing.assert_array_equal(v, want[1])
    assert sum((b == 7.0).sum() for b in buffers) == untouched


def test_columns_of_one_table():
    table = np.arange(60, dtype=np.float64).reshape(20, 3)
    p, g, v = table.T
    want = expected(p.copy(), g.copy(), v.copy())
    step(p, g, v)
    np.testing.assert_array_equal(table[:, 0], want[0])
    np.testing.assert_array_equal(table[:, 2], want[1])


def test_adjacent_slices_are_apart():
    buffer = np.ones(30, np.float32)
    step(buffer[:10], buffer[10:20], buffer[20:])
    assert (buffer[10:20] == 1).all()


def test_read_only_gradient_and_unaligned_memory():
    p, g, v = arrays()
    g.flags.writeable = False
    want = expected(p, g, v)
    raw = [np.zeros(x.nbytes + 1, np.uint8)[1:].view(np.float32) for x in (p, v)]
    for x, y in zip(raw, (p, v), strict=True):
        x[...] = y
    assert not raw[0].flags.aligned
    step(raw[0], g, raw[1])
    step(p, g, v)
    for a, b, c in zip(raw, (p, v), want, strict=True):
        np.testing.assert_array_equal(a, c)
        np.testing.assert_array_equal(b, c)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0, 2)])
def test_no_elements_in_several_dimensions(shape):
    p, g, v = arrays(shape=shape)
    assert step(p, g, v) is p


def test_matrices_of_numpys_old_kind():
    p, g, v = arrays(shape=(4, 5))
    want = expected(p, g, v)
    step(np.asmatrix(p), np.asmatrix(g), v)
    np.testing.assert_array_equal(p, want[0])


def test_length_zero_and_one():
    for n in (0, 1):
        p, g, v = arrays(n)
        assert step(p, g, v) is p


def test_large_vectors_take_the_parallel_way():
    p, g, v = arrays(PARALLEL_FROM + 3)
    a, b = p.copy(), v.copy()
    for _ in range(2):
        step(a, g, b)
        for part in range(0, p.size, 10_000):
            step(p[part : part + 10_000], g[part : part + 10_000], v[part : part + 10_000])
        np.testing.assert_array_equal(a, p)
        np.testing.assert_array_equal(b, v)


def test_memory_map(tmp_path):
    p, g, v = arrays()
    want = expected(p, g, v)
    mapped = np.memmap(tmp_path / "params", dtype=np.float32, mode="w+", shape=p.shape)
    mapped[...] = p
    step(mapped, g, v)
    np.testing.assert_array_equal(np.asarray(mapped), want[0])


def test_numbers_of_any_kind():
    p, g, v = arrays()
    want = expected(p, g, v, lr=1.0, momentum=0.5)
    for lr in (1, np.float32(1), np.array(1.0), np.int8(1)):
        a, b = p.copy(), v.copy()
        step(a, g, b, lr=lr, momentum=np.float64(0.5), nesterov=np.True_, maximize=0)
        np.testing.assert_array_equal(a, want[0])


def test_torch_tensors_share_memory_and_autograd_notices():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    p, g, v = arrays()
    want = expected(p, g, v)
    tensors = [torch.from_numpy(x) for x in (p, g, v)]
    parameter = torch.nn.Parameter(tensors[0])
    loss = (parameter * parameter).sum()
    assert step(parameter, tensors[1], tensors[2]) is parameter
    np.testing.assert_array_equal(p, want[0])  # the same memory
    np.testing.assert_array_equal(v, want[1])
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    negated = torch.complex(torch.zeros(20), torch.ones(20)).conj().imag
    with pytest.raises(TypeError, match=r"grads is a negated view of other memory; pass grads\.resolve_neg\(\)"):
        step(tensors[0], negated, tensors[2])
    with pytest.raises(TypeError, match=r"params .*cannot be used without a copy"):
        step(torch.zeros(20, device="meta"), tensors[1], tensors[2])
    strided = torch.zeros(20, 2)[:, 0]
    step(strided, tensors[1], tensors[2])
    with pytest.raises(TypeError, match="vel has dtype float16; float32 is needed beside params"):
        step(torch.zeros(3, dtype=torch.float16), *(torch.zeros(3, dtype=torch.float16),) * 2)
    with pytest.raises(TypeError, match="grads has dtype float32; bfloat16 is needed"):
        step(torch.zeros(3, dtype=torch.bfloat16), tensors[1][:3], tensors[2][:3])


def test_jax_gradients():
    jnp = pytest.importorskip("jax.numpy", reason="jax is not installed")
    p, g, v = arrays()
    want = expected(p, g, v)
    step(p, jnp.asarray(g), v)
    np.testing.assert_array_equal(p, want[0])
    with pytest.raises(ValueError, match="params is an array of JAX, which is immutable"):
        step(jnp.zeros(20), g, v)


@pytest.mark.skipif(JIT_OFF, reason="half a million elements need the JIT")
def test_nothing_of_the_arrays_size_is_allocated():
    import tracemalloc

    p, g, v = arrays(500_000)
    step(p, g, v)
    strided = [np.zeros(2 * x.size, x.dtype)[::2] for x in (p, g, v)]
    step(*strided)
    tracemalloc.start()
    try:
        step(p, g, v)
        step(*strided)
        assert tracemalloc.get_traced_memory()[1] < p.nbytes / 100
    finally:
        tracemalloc.stop()


def test_flat_params():
    p = FlatParams([("W", (2, 3)), ("b", (3,)), ("scale", ())], dtype=np.float64)
    assert p.flat.size == 10
    assert list(p) == ["W", "b", "scale"]
    p["W"][1, 2] = 5
    p["scale"][...] = 2
    assert p.flat[5] == 5
    assert p.flat[9] == 2
    g, v = p.like(), p.like()
    g["b"][...] = 1
    step(p.flat, g.flat, v.flat, lr=0.5, momentum=0.0)
    np.testing.assert_array_equal(p["b"], -0.5)
    with pytest.raises(ValueError, match="names 'W' twice"):
        FlatParams([("W", (2,)), ("W", (3,))])
    with pytest.raises(ValueError, match="dimensions must be >= 0"):
        FlatParams([("W", (2, -1))])
    with pytest.raises(ValueError, match=r"flat has shape \(9,\); this layout needs a vector of 10 elements"):
        p.like(np.zeros(9))
    with pytest.raises(TypeError, match=r"gives 'W' the shape \(2\.7, 3\); a tuple of whole numbers"):
        FlatParams([("W", (2.7, 3))])
    with pytest.raises(TypeError, match="flat is list; an array is needed"):
        p.like([0.0] * 10)
    assert FlatParams([("b", 3)])["b"].shape == (3,)
    with pytest.raises(ValueError, match="flat is strided"):
        p.like(np.zeros(20)[::2])


def test_importing_is_light():
    """No CUDA, no compilation, no framework at import (the time itself is measured in benchmarks/)."""
    import subprocess

    code = (
        "import sys, nagd_numba, numba\n"
        "heavy = [m for m in ('torch', 'jax', 'rich', 'matplotlib', 'numba.cuda', 'nagd_numba.mlp', 'scipy.optimize')"
        " if m in sys.modules]\n"
        "assert not heavy, heavy\n"
        "assert not nagd_numba.nesterov_update.signatures\n"
        "numba.np.ufunc.parallel._is_initialized and sys.exit('threads were started')\n"
    )
    environment = {k: v for k, v in os.environ.items() if k not in ("NUMBA_ENABLE_CUDASIM", "NUMBA_DISABLE_JIT")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr


def test_no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step(*arrays(dtype=np.float64, shape=(3, 4)), convention="caffe")
