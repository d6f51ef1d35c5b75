"""Steps of the rows that have a gradient, as if all had been stepped."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit
from numba.core.errors import TypingError

from nagd_numba import finish_rows, row_history, step, step_rows
from nagd_numba.kernels.jit import SIMULATOR, plain
from nagd_numba.optimizers import conventions, nesterov
from nagd_numba.optimizers.idle import idle_step
from tests.helpers.backends import JIT_OFF
from tests.helpers.device_arrays import OnDevice

jit = pytest.mark.skipif(JIT_OFF, reason="is about compiled callers")

PLAIN = {"lr": 0.05, "momentum": 0.9}
DECAYED = {"lr": 0.05, "momentum": 0.9, "momentum_next": 0.95, "weight_decay": 1e-4}
KINDS = [
    pytest.param(np.float32, PLAIN, id="float32"),
    pytest.param(np.float64, DECAYED, id="float64 with decay", marks=pytest.mark.ci),
]


def start(rows, width, dtype, seed=0):
    """Parameters, velocity, and up to which step each row is done."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, width)).astype(dtype), np.zeros((rows, width), dtype), np.zeros(rows, np.int64)


def exact(x):
    """An array of rationals."""
    return np.array([Fraction(float(y)) for y in np.ravel(x)], object).reshape(np.shape(x))


def matrix(dtype, options=(0, True, nesterov.NO_DECAY, False), **numbers):
    """The four entries of the map of a step without a gradient, as rationals."""
    hyper = {**nesterov.RULE.hyper, "momentum_next": numbers.get("momentum", 0.9), **numbers}
    constants = nesterov.RULE.scalars(tuple(map(float, hyper.values())), np.dtype(dtype), options)
    made = [Fraction(float(x)) for x in plain(idle_step)(tuple(map(dtype, constants)), options)]
    return [made[k] + made[k + 4] for k in range(4)]


def many(map_, p, v, steps, bits=600):
    """A map over and over, in numbers of a fixed point with so many bits behind it."""
    A, B, C, D = (int(x * 2**bits) for x in map_)
    p, v = (int(Fraction(float(x)) * 2**bits) for x in (p, v))
    for _ in range(steps):
        p, v = (A * p + B * v) >> bits, (C * p + D * v) >> bits
    return Fraction(p, 2**bits), Fraction(v, 2**bits)


def ulps(found, wanted):
    """How far a number is from the exact one, in units in the last place."""
    return float(abs(Fraction(float(found)) - wanted) / Fraction(float(np.spacing(abs(type(found)(float(wanted)))))))


@pytest.mark.parametrize("options", list(nesterov.RULE.variants()), ids=str)
def test_a_step_without_a_gradient_is_this_map(options, monkeypatch):
    for name, function in {
        "mul": lambda a, b: a * b,
        "add": lambda a, b: a + b,
        "fma": lambda a, b, c: a * b + c,
    }.items():
        for module in (nesterov, conventions):
            monkeypatch.setattr(module, name, function, raising=False)  # the rule, in rationals
    for name in ("nesterov_update", "keras_update", "caffe_update", "bengio_update", "_decayed"):
        monkeypatch.setattr(nesterov, name, plain(getattr(nesterov, name)))
    constants = 0.25, 0.75, 0.875, 0.96875 if options[2] == nesterov.DECOUPLED else 0.125
    made = plain(idle_step)(constants, options)
    for column, (p, v) in enumerate([(1, 0), (0, 1)]):
        rational = tuple(map(Fraction, constants))
        wanted = plain(nesterov._update)(Fraction(p), Fraction(0), (Fraction(v),), rational, options)
        assert Fraction(made[column]) + Fraction(made[column + 4]) == wanted[0]
        assert Fraction(made[column + 2]) + Fraction(made[column + 6]) == wanted[1][0]


@pytest.mark.parametrize(("dtype", "numbers"), KINDS)
def test_every_row_in_each_step_is_the_step(dtype, numbers):
    p, v, last = start(7, 5, dtype)
    dense, velocity = p.copy(), v.copy()
    rng = np.random.default_rng(1)
    for t in range(1, 20):
        grads, rows = rng.normal(size=p.shape).astype(dtype), rng.permutation(7)
        step(dense, grads, velocity, **numbers)
        assert step_rows(p, rows.astype(np.int32), grads[rows], v, last, t, **numbers) is p
    np.testing.assert_array_equal(p, dense)
    np.testing.assert_array_equal(v, velocity)
    assert (last == 19).all()


@pytest.mark.parametrize(("dtype", "numbers"), KINDS)
@pytest.mark.parametrize("steps", [1, 2, 15, 16, 1000, pytest.param(100_000, marks=pytest.mark.ci)])
def test_many_steps_are_rounded_once(dtype, numbers, steps):
    """Every element is the exact one, rounded: half a unit, and what cancels (nothing does here)."""
    options = 0, True, nesterov.L2 if "weight_decay" in numbers else nesterov.NO_DECAY, False
    map_ = matrix(dtype, options, **numbers)
    p, v = np.array([[1.5, -2.25, 0.7]], dtype), np.array([[0.3, 4.0, -1e-3]], dtype)
    wanted = [many(map_, *pair, steps) for pair in zip(p[0], v[0], strict=True)]
    finish_rows(p, v, np.zeros(1, np.int64), steps, **numbers)
    tiny = float(np.finfo(dtype).smallest_normal)
    for k, (a, b) in enumerate(wanted):
        assert ulps(p[0, k], a) <= 0.5 + 2**-20
        assert ulps(v[0, k], b) <= 0.5 + 2**-20 or abs(b) < tiny


@pytest.mark.parametrize(("dtype", "numbers"), KINDS)
@pytest.mark.slow
def test_a_run_of_100_000_steps_is_within_four_units(dtype, numbers):
    """A few gradients among many steps, against the same run of all steps, exact."""
    options = 0, True, nesterov.L2 if "weight_decay" in numbers else nesterov.NO_DECAY, False
    map_ = matrix(dtype, options, **numbers)
    p, v, last = np.array([[1.5]], dtype), np.zeros((1, 1), dtype), np.zeros(1, np.int64)
    lr, mu_next = (Fraction(float(dtype(x))) for x in (numbers["lr"], numbers.get("momentum_next", 0.9)))
    x, y, done = p[0, 0], v[0, 0], 0
    for t, gradient in [(3, 0.5), (40_000, -0.25), (99_000, 0.125)]:
        x, y = many(map_, x, y, t - done)
        x, y = x - lr * (1 + mu_next) * Fraction(gradient), y + Fraction(gradient)
        step_rows(p, np.array([0]), np.full((1, 1), gradient, dtype), v, last, t, **numbers)
        done = t
    wanted, _ = many(map_, x, y, 100_000 - done)
    finish_rows(p, v, last, 100_000, **numbers)
    assert ulps(p[0, 0], wanted) <= 4


def bound(dtype, numbers, touched, largest, velocity):
    """How far a row that was touched so many times can be from the exact run: see docs/howto/sparse_rows.md."""
    unit, mu = np.finfo(dtype).eps / 2, max(numbers["momentum"], numbers.get("momentum_next", 0))
    reach = numbers["lr"] * (1 + mu) / (1 - mu)  # of a change of the velocity, in the parameter
    return 1.01 * unit * (touched + 1) * (3 * largest + 4 * reach * velocity)


@pytest.mark.parametrize("scheduled", [False, True])
@settings(max_examples=30, deadline=None)
@given(pattern=st.lists(st.sets(st.integers(0, 3)), min_size=1, max_size=70), seed=st.integers(0, 99))
def test_any_pattern_is_near_all_steps(scheduled, pattern, seed):
    p, v, last = start(4, 3, np.float32, seed)
    dense, velocity = p.astype(np.float64), v.astype(np.float64)
    history = row_history(len(pattern)) if scheduled else None
    rng = np.random.default_rng(seed)
    largest = fastest = 0.0
    numbers = {"lr": 0.0625, "momentum": 0.875}  # the same in both dtypes
    for t, touched in enumerate(pattern, 1):
        now = {"lr": 0.0625 / (1 + t % 5), "momentum": 0.875 - t % 3 / 16} if scheduled else numbers
        now["lr"] = float(np.float32(now["lr"]))
        rows = rng.permutation(sorted(touched)).astype(np.int64)
        grads = np.zeros((4, 3), np.float32)
        grads[rows] = rng.normal(size=(len(rows), 3))
        step(dense, grads.astype(np.float64), velocity, **now)
        step_rows(p, rows, grads[rows], v, last, t, history=history, **now)
        largest = max(largest, abs(dense).max())
        fastest = max(fastest, abs(velocity).max() + abs(grads).max())
    finish_rows(p, v, last, len(pattern), history=history, **numbers)
    assert (last == len(pattern)).all()
    for row in range(4):
        touches = sum(row in x for x in pattern)
        assert abs(p[row] - dense[row]).max() <= bound(np.float32, numbers, touches, largest, fastest)


def test_a_history_of_equal_steps_is_the_power():
    p, v, last = start(5, 3, np.float32)
    v[:] = 1
    q, w, done, history = p.copy(), v.copy(), last.copy(), row_history(300)
    none = np.empty(0, np.int64), np.empty((0, 3), np.float32)
    for t in range(1, 301):
        step_rows(q, *none, w, done, t, history=history, **DECAYED)
    for matrices in (p, v, last), (q, w, done):
        finish_rows(*matrices, 137, rows=np.array([4, 0]), history=None if matrices[0] is p else history, **DECAYED)
        finish_rows(*matrices, 300, history=None if matrices[0] is p else history, **DECAYED)
    np.testing.assert_array_equal(p, q)
    np.testing.assert_array_equal(v, w)


def test_a_history_serves_several_matrices_and_goes_on():
    history = row_history(4, start=10)
    p, v, last = start(3, 2, np.float32)
    last[:] = 10
    q, w, done = p.copy(), v.copy(), last.copy()
    for t in range(11, 15):
        for x, y, z in (p, v, last), (q, w, done):
            step_rows(x, np.array([1]), np.ones((1, 2), np.float32), y, z, t, history=history, **DECAYED)
    np.testing.assert_array_equal(p, q)
    rows = np.array([0]), np.ones((1, 2), np.float32)
    with pytest.raises(ValueError, match=r"^step_rows: history has room for steps up to 14: finish_rows\(..., t=14\)"):
        step_rows(p, *rows, v, last, 15, history=history, **DECAYED)
    with pytest.raises(ValueError, match=r"^step_rows: history has step t with other settings"):
        step_rows(p, *rows, v, last, 14, history=history, **{**DECAYED, "lr": 0.06})
    with pytest.raises(ValueError, match=r"^finish_rows: history ends with step 14, and step 15 is not written down"):
        finish_rows(p, v, last, 15, history=history, **DECAYED)
    with pytest.raises(ValueError, match=r"^step_rows: history begins with step 11, which is after t"):
        step_rows(p, *rows, v, last, 10, history=history, **DECAYED)
    last[0] = 9
    with pytest.raises(ValueError, match=r"last\[0\] is 9; a number >= 10 is needed, as history begins with step 11"):
        finish_rows(p, v, last, 14, history=history, **DECAYED)


def test_threads_do_not_change_bits(monkeypatch):
    from nagd_numba.kernels.forms import ALWAYS_PARALLEL
    from nagd_numba.optimizers import rows as module

    p, v, last = start(30_000, 3, np.float32)
    v[:], last[:] = 1, np.arange(30_000) % 50
    others = p.copy(), v.copy(), last.copy()
    rows, grads = np.random.default_rng(0).permutation(30_000)[:20_000], np.ones((20_000, 3), np.float32)
    for matrices in (p, v, last), others:
        step_rows(matrices[0], rows, grads, *matrices[1:], 60, **PLAIN)
        finish_rows(*matrices, 70, **PLAIN)
        module._known.cache_clear()
        monkeypatch.setattr(module, "_forms_of", lambda kernel: ALWAYS_PARALLEL)
    module._known.cache_clear()
    for x, y in zip((p, v, last), others, strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("dtype", [np.float32, pytest.param(np.float64, marks=pytest.mark.ci)])
def test_what_is_not_finite_stays_where_it_is(dtype):
    p, v, last = start(4, 2, dtype)
    p[0], v[1, 0], p[2, 1] = np.inf, np.nan, np.nan
    finish_rows(p, v, last, 9, lr=0.1)
    assert np.isposinf(p[0]).all()
    assert (v[0] == 0).all()
    assert np.isnan(p[1, 0])
    assert np.isfinite([p[1, 1], p[2, 0]]).all()
    v[3] = np.inf
    finish_rows(p, v, last, 10, lr=0.1, momentum=0.0)  # forgotten, as in `step`
    assert np.isfinite(p[3]).all()
    assert (v[3] == 0).all()


READ_ONLY = np.zeros((6, 2), np.float32)
READ_ONLY.flags.writeable = False
AHEAD, BEHIND = np.array([0, 0, 5, 0, 0, 0]), np.array([0, 0, -1, 0, 0, 0])


@pytest.mark.parametrize(
    ("name", "bad", "error", "message"),
    [
        (
            "params",
            np.zeros(12, np.float32),
            ValueError,
            r"params has shape \(12,\); \(rows, width\) is needed: .*reshape",
        ),
        ("params", READ_ONLY, ValueError, r"params is read-only and would be updated in place"),
        ("params", np.zeros((6, 2), np.int32), TypeError, r"params has dtype int32"),
        ("params", np.zeros((2, 6), np.float32).T, ValueError, r"params is strided .* np\.ascontiguousarray\(params\)"),
        ("rows", [1, 2, 4], TypeError, r"rows is a list; an array is needed: np\.asarray\(rows, dtype=np\.int64\)"),
        ("rows", np.zeros(6, bool), TypeError, r"rows has dtype bool; .* np\.flatnonzero\(rows\)"),
        ("rows", np.zeros(3), TypeError, r"rows has dtype float64; int64 or int32 .*rows\.astype\(np\.int64\)"),
        ("rows", np.zeros((3, 1), np.int64), ValueError, r"rows has shape \(3, 1\); one dimension"),
        ("rows", np.array([1, 6, 2]), ValueError, r"rows\[1\] is 6; a row from 0 to 5 is needed, as params has 6"),
        ("rows", np.array([1, 2, -1]), ValueError, r"rows\[2\] is -1; a row from 0 to 5"),
        ("rows", np.array([4, 2, 4]), ValueError, r"rows\[2\] is 4, which is there before; .*np\.add\.at\(sums, place"),
        (
            "grads",
            np.ones((3, 2)),
            TypeError,
            r"grads has dtype float64 and params float32; .*grads\.astype\(np\.float32\)",
        ),
        ("grads", np.ones((6, 2), np.float32), ValueError, r"grads has shape \(6, 2\); \(3, 2\) is needed, a gradient"),
        ("vel", np.zeros((6, 3), np.float32), ValueError, r"vel has shape \(6, 3\) and params \(6, 2\)"),
        ("last", np.zeros(6, np.int32), TypeError, r"last has dtype int32; int64 .*last\.astype\(np\.int64\)"),
        ("last", np.zeros(5, np.int64), ValueError, r"last has shape \(5,\); \(6,\) is needed, a number for each row"),
        ("last", AHEAD, ValueError, r"last\[2\] is 5, and this call takes rows that are done up to step 4 or before"),
        ("last", BEHIND, ValueError, r"last\[2\] is -1; a number >= 0 is needed"),
        ("t", 0, ValueError, r"t is 0; a whole number from 1 on is needed"),
        ("t", 1.5, TypeError, r"t is 1\.5; a whole number is needed"),
        ("lr", np.nan, ValueError, r"lr is nan; a finite number >= 0 is needed \(in float32\)"),
        ("momentum", "0.9", TypeError, r"momentum is '0\.9'; a number is needed"),
        ("convention", "tensor", ValueError, r"convention is 'tensor'.*did you mean 'torch'"),
        ("history", np.zeros((6, 8)), ValueError, r"history has shape \(6, 8\): make it with nagd_numba\.row_history"),
        ("history", row_history(2), ValueError, r"history .*room for steps up to 2"),
        ("stream", 0, ValueError, r"stream needs CUDA arrays"),
    ],
)
def test_refused_before_any_write(name, bad, error, message):
    if name == "stream" and SIMULATOR:
        pytest.skip("arrays of the simulator lie on the host, and a stream is not looked at")
    arguments = {
        "params": np.ones((6, 2), np.float32),
        "rows": np.array([5, 2, 1]),
        "grads": np.ones((3, 2), np.float32),
        "vel": np.ones((6, 2), np.float32),
        "last": np.zeros(6, np.int64),
        "t": 5,
    }
    arguments[name] = bad
    before = {key: np.array(x, copy=True) for key, x in arguments.items() if isinstance(x, np.ndarray)}
    with pytest.raises(error, match=f"^step_rows: {message}"):
        step_rows(**arguments)
    for key, x in before.items():
        np.testing.assert_array_equal(arguments[key], x)


def test_overlap_and_places():
    p, v, last = start(6, 2, np.float32)
    with pytest.raises(ValueError, match=r"^step_rows: params and grads overlap in memory"):
        step_rows(p, np.array([0, 1]), p[2:4], v, last, 1)
    with pytest.raises(ValueError, match=r"^finish_rows: params and vel are the same memory"):
        finish_rows(p, p, last, 1)
    with pytest.raises(ValueError, match=r"^finish_rows: last and rows are the same memory"):
        finish_rows(p, v, last, 1, rows=last)
    with pytest.raises(ValueError, match=r"^finish_rows: vel lives on a CUDA device and params and last on the host"):
        finish_rows(p, OnDevice(v), last, 1)


def test_repeated_rows_are_found_however_they_lie():
    p, v, last = start(5000, 1, np.float32)
    rows = np.random.default_rng(0).permutation(5000)[:2000].astype(np.int64)
    step_rows(p, rows, np.ones((2000, 1), np.float32), v, last, 1, **DECAYED)
    rows[1999] = rows[3]
    with pytest.raises(ValueError, match=rf"rows\[1999\] is {rows[3]}, which is there before"):
        step_rows(p, rows, np.ones((2000, 1), np.float32), v, last, 2, **DECAYED)


@jit
@pytest.mark.slow
def test_schedules_inside_njit():
    @njit
    def user(p, rows, grads, v, last, history, steps, lr, decay):
        for t in range(1, steps + 1):
            now = lr / t
            finish_rows(p, v, last, t - 1, history=history, rows=rows)
            step_rows(p, rows, grads, v, last, t, now, weight_decay=decay, history=history)
        return finish_rows(p, v, last, steps, history=history)

    rows, grads = np.array([3, 1], np.int32), np.ones((2, 2))
    for decay in (0.0, 0.1):
        p, v, last = start(5, 2, np.float64)
        q, w, done = p.copy(), v.copy(), last.copy()
        history = row_history(10)
        for t in range(1, 11):
            step_rows(p, rows, grads, v, last, t, 0.1 / t, weight_decay=decay, history=history)
        finish_rows(p, v, last, 10, history=history)
        user(q, rows, grads, w, done, row_history(10), 10, 0.1, decay)
        np.testing.assert_array_equal(last, done)
        np.testing.assert_allclose(q, p, rtol=1e-15)


@jit
@pytest.mark.ci
def test_inside_njit():
    rows, grads = np.array([3, 1], np.int32), np.ones((2, 2))

    @njit
    def alone(p, rows, grads, v, last, t):
        return step_rows(p, rows, grads, v, last, t)

    p, v, last = start(5, 2, np.float32)
    q, w, done, grads = p.copy(), v.copy(), last.copy(), grads.astype(np.float32)
    for t in (1, 30):
        step_rows(p, rows, grads, v, last, t)
        alone(q, rows, grads, w, done, t)
    np.testing.assert_array_equal(p, q)
    np.testing.assert_array_equal(v, w)
    with pytest.raises(ValueError, match=r"^step_rows: rows must be distinct: add up"):
        alone(q, np.array([3, 3], np.int32), grads, w, done, 31)
    with pytest.raises(ValueError, match=r"^step_rows: last must be below t"):
        alone(q, rows, grads, w, done, 30)
    np.testing.assert_array_equal(p, q)
    with pytest.raises(TypingError, match=r"step_rows: rows is array.*int32 or int64 with 1 dimension"):
        alone(q, rows.astype(np.float64), grads, w, done, 31)
