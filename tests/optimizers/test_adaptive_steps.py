"""The public steps of Adam, AdamW and Nadam: from Python, inside compiled code, and what they refuse."""

import numpy as np
import pytest
from numba import cuda, njit, prange
from numba.core.errors import TypingError

import nagd_numba
from nagd_numba import adam_constants, adam_step, adam_update, adamw_step, adamw_update, nadam_step, nadam_update
from nagd_numba.kernels.forms import PARALLEL_FROM
from nagd_numba.kernels.jit import SIMULATOR
from nagd_numba.optimizers.registry import RULES
from tests.helpers.backends import JIT_OFF
from tests.helpers.bits import assert_same_bits

jit = pytest.mark.skipif(JIT_OFF, reason="is about compiled callers")

SCALAR = {
    adam_step: (adam_update, nagd_numba.adam_constants),
    adamw_step: (adamw_update, nagd_numba.adamw_constants),
    nadam_step: (nadam_update, nagd_numba.nadam_constants),
}
steps = pytest.mark.parametrize("step", SCALAR, ids=lambda step: step.__name__)


def scalars(step, p, g, m, v, t, **keywords):
    """The step element by element."""
    update, constants = SCALAR[step]
    T = p.dtype.type
    made = constants(T, t, **keywords)
    rows = [update(*map(T, row), made) for row in zip(p.ravel(), g.ravel(), m.ravel(), v.ravel(), strict=True)]
    return [np.array(x, T).reshape(p.shape) for x in zip(*rows, strict=True)]


def arrays(shape=20, dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    p, g, m, v = (rng.normal(size=shape).astype(dtype) for _ in range(4))
    return p, g, m, v * v


@steps
def test_every_way_from_python_gives_the_scalar_rule(step):
    p, g, m, v = arrays((4, 6))
    want = scalars(step, p, g, m, v, 3, lr=0.1)
    for _ in range(2):  # the general way, then the ready kernel
        a = [x.copy() for x in (p, m, v)]
        assert step(a[0], g, a[1], a[2], 3, 0.1) is a[0]
        assert_same_bits(a, want)
    wide = [np.zeros((4, 12), np.float32)[:, ::2] for _ in range(3)]
    for x, y in zip(wide, (p, m, v), strict=True):
        x[...] = y
    step(wide[0], g, *wide[1:], 3, 0.1)
    assert_same_bits([x.copy() for x in wide], want)
    lists = [[x[:2].copy(), x[2:].copy()] for x in (p, g, m, v)]
    step(*lists, np.int64(3), 0.1)
    assert_same_bits([np.concatenate(lists[k]) for k in (0, 2, 3)], want)


@pytest.mark.skipif(JIT_OFF, reason="is about threads")
def test_large_vectors_take_the_parallel_way():
    p, g, m, v = arrays(PARALLEL_FROM + 3)
    parts = [x.copy() for x in (p, m, v)]
    adam_step(p, g, m, v, 5)
    for at in range(0, p.size, 10_000):
        here = slice(at, at + 10_000)
        adam_step(parts[0][here], g[here], parts[1][here], parts[2][here], 5)
    assert_same_bits(parts, (p, m, v))


@pytest.mark.parametrize(
    ("step", "changes", "error", "message"),
    [
        (adam_step, {"t": 0}, ValueError, "t is 0; a whole number >= 1 and < 9007199254740992 is needed"),
        (adam_step, {"t": -3}, ValueError, "t is -3; a whole number >= 1"),
        (adam_step, {"t": 2**60}, ValueError, "adam_step: t is 1152921504606846976; a whole number >= 1"),
        (adam_step, {"t": np.uint64(2**63)}, ValueError, "t is 9223372036854775808; a whole number >= 1"),
        (adam_step, {"t": True}, TypeError, "t is True; a whole number is needed"),
        (adam_step, {"lr": -1}, ValueError, "lr is -1; a finite number >= 0"),
        (adam_step, {"t": 1.0}, TypeError, "t is 1.0; a whole number is needed: 1 for the first step"),
        (adam_step, {"t": 10**400}, ValueError, "t is .*; a whole number >= 1 and < "),
        (adam_step, {"t": None}, TypeError, "t is None; a whole number is needed"),
        (adam_step, {"beta1": 1.0}, ValueError, "beta1 is 1.0; a finite number >= 0 and < 1 is needed"),
        (adamw_step, {"beta2": 1.5}, ValueError, "beta2 is 1.5; a finite number >= 0 and < 1"),
        (adamw_step, {"lr": -1.0}, ValueError, "lr is -1.0; a finite number >= 0 is needed"),
        (nadam_step, {"eps": np.nan}, ValueError, "eps is nan"),
        (nadam_step, {"variant": "Keras"}, ValueError, "variant is 'Keras'; one of .* did you mean 'keras'"),
        (nadam_step, {"decoupled": "no"}, TypeError, "decoupled is 'no'; True or False is needed"),
        (adam_step, {"m": np.zeros(4)}, ValueError, r"m has shape \(4,\) and params \(5,\)"),
        (adam_step, {"v": np.zeros(5, np.float32)}, TypeError, "v has dtype float32 and params float64"),
        (adam_step, {"v": [0.0] * 5}, TypeError, "v is a list; an array is needed"),
    ],
)
def test_refused_before_any_write(step, changes, error, message):
    ones = {name: np.ones(5) for name in ("params", "grads", "m", "v")}
    step(**{name: x.copy() for name, x in ones.items()}, t=1)  # the fast way exists, and must refuse too
    with pytest.raises(error, match=message):
        step(**{**ones, "t": 1, **changes})
    assert all((x == 1).all() for x in ones.values())


def test_overlap():
    p, g, m, _ = (np.ones(5) for _ in range(4))
    for wrong in ((p, g, m, m), (p, g, p, m), (p, p, m, g)):
        with pytest.raises(ValueError, match="are the same memory"):
            adam_step(*wrong, 1)
    assert (p == 1).all()


def test_constants():
    assert [type(x) for x in adam_constants(np.float32, 3)] == [np.float32] * 7
    with pytest.raises(TypeError, match=r"dtype is .*int.*; np\.float32 or np\.float64 is needed"):
        adam_constants(np.int32, 1)
    with pytest.raises(ValueError, match=r"beta1 is 1\.0"):
        adam_constants(np.float64, 1, beta1=1.0)
    assert RULES["adam"].constant_count == 7


@pytest.mark.slow
@jit
@steps
def test_inside_njit(step):
    """Plain and strided vectors, and a whole loop in a parallel region."""

    @njit
    def user(p, g, m, v, t, lr):
        step(p, g, m, v, t, lr, beta1=0.8)

    for cut in (slice(None), slice(None, None, 2)):
        p, g, m, v = arrays(40)
        want = scalars(step, p[cut], g[cut], m[cut], v[cut], 4, lr=0.1, beta1=0.8)
        user(p[cut], g[cut], m[cut], v[cut], 4, 0.1)
        assert_same_bits([x[cut].copy() for x in (p, m, v)], want)
    with pytest.raises(ValueError, match=f"{step.__name__}: t must be a whole number >= 1"):
        user(p, g, m, v, 0, 0.1)
    with pytest.raises(ValueError, match=f"{step.__name__}: params, grads, m and v must not overlap"):
        user(p, g, m, m, 1, 0.1)
    with pytest.raises(ValueError, match=f"{step.__name__}: v must have the shape of params"):
        user(p, g, m, v[:-1], 1, 0.1)
    with pytest.raises(TypingError, match="t is float64; a whole number is needed"):
        user(p, g, m, v, 1.0, 0.1)


@jit
@pytest.mark.ci
def test_inside_prange_with_mixed_layouts():
    @njit(parallel=True)
    def user(p, g, m, v, t):
        for k in prange(p.shape[0]):
            adam_step(p[k], g[k], m[k], v[:, k], t)

    p, g, m, v = arrays((6, 30))
    want = scalars(adam_step, p, g, m, v, 2)
    transposed = v.T.copy()
    user(p, g, m, transposed, 2)
    assert_same_bits([p, m, np.ascontiguousarray(transposed.T)], want)


@jit
def test_options_inside_njit():
    @njit
    def user(p, g, m, v):
        nadam_step(p, g, m, v, 7, variant="keras", weight_decay=0.1, decoupled=True, maximize=True)

    @njit
    def variable(p, g, m, v, name):
        nadam_step(p, g, m, v, 7, variant=name)

    p, g, m, v = arrays()
    a, b, c = p.copy(), m.copy(), v.copy()
    nadam_step(a, g, b, c, 7, variant="keras", weight_decay=0.1, decoupled=True, maximize=True)
    user(p, g, m, v)
    assert_same_bits((p, m, v), (a, b, c))
    with pytest.raises(TypingError, match="variant must be a constant inside compiled code"):
        variable(p, g, m, v, "keras")


@jit
def test_scalar_rules_inside_njit():
    @njit
    def user(p, g, m, v, t, lr):
        adam = adam_update(p, g, m, v, adam_constants(np.float32, t, lr))
        nadam_ = nadam_update(p, g, m, v, nagd_numba.nadam_constants(np.float32, t, lr, variant="optax"))
        return adam, nadam_

    x = [np.float32(v) for v in (1, 2, 3, 4)]
    adam, nadam_ = user(*x, 5, 0.1)
    assert adam == adam_update(*x, adam_constants(np.float32, 5, 0.1))
    assert nadam_ == nadam_update(*x, nagd_numba.nadam_constants(np.float32, 5, 0.1, variant="optax"))
    with pytest.raises(ValueError, match="adam_constants: lr must be a finite number >= 0"):
        user(*x, 5, -0.1)


@jit
@pytest.mark.skipif(not SIMULATOR, reason="runs with NUMBA_ENABLE_CUDASIM=1; tests/ptx compiles the same kernel")
def test_scalar_rule_inside_a_users_cuda_kernel():
    @cuda.jit
    def user(p, g, m, v, constants):
        i = cuda.grid(1)
        if i < p.size:
            p[i], m[i], v[i] = adam_update(p[i], g[i], m[i], v[i], constants)

    p, g, m, v = arrays()
    want = scalars(adam_step, p, g, m, v, 3)
    device = [cuda.to_device(x) for x in (p, g, m, v)]
    user[2, 32](*device, adam_constants(np.float32, 3))
    assert_same_bits([device[k].copy_to_host() for k in (0, 2, 3)], want)
