"""Problems in the lanes of vectors: each has the bits that it has alone, whatever its neighbours do."""

import math

import numpy as np
import pytest
from numba import float32, njit, typeof

from nagd_numba import minimize, minimize_many
from nagd_numba.kernels.lanes.instructions import Unfit
from nagd_numba.minimizer import algorithm, lane_rows, settings, specialize
from tests.helpers.backends import JIT_OFF

pytestmark = pytest.mark.skipif(JIT_OFF, reason="is about compiled functions")

TIMES = np.linspace(0.0, 3.0, 20)
COUNT = 37  # no multiple of any number of lanes


@njit
def part(x, kind, signal, times, picks, scale):
    """A residual with branches, loops and exceptions that are different for every problem."""
    total, g = 0.0, np.zeros(3)
    if kind == 5:
        raise ArithmeticError("no such kind")
    if kind == 6:
        return 0.5 * np.sum(x * x), x / scale  # the scale of this kind may be 0
    for i in range(times.size):
        if kind == 1 and i > 7:
            break
        e = math.exp(-x[1] * times[i])
        r = x[0] * e - signal[i]
        if kind == 2 and abs(r) > 0.02:  # Huber
            total += 0.02 * (abs(r) - 0.01)
            r = 0.02 if r > 0 else -0.02
        else:
            total += 0.5 * r * r
        g[0] += r * e
        g[1] -= r * x[0] * times[i] * e
    root, rounds = 1.0 + abs(x[2]), 0
    while kind >= 3 and abs(root * root - 1.0 - x[2] * x[2]) > 1e-13 and rounds < 50:
        root = 0.5 * (root + (1.0 + x[2] * x[2]) / root)  # sqrt(1 + x^2), by Newton
        rounds += 1
    r = (root if kind >= 3 else math.log(1.0 + x[2] * x[2])) + 0.01 * math.sin(x[2]) - 1.1
    slope = x[2] / root if kind >= 3 else 2.0 * x[2] / (1.0 + x[2] * x[2])
    total += 0.5 * r * r
    g[2] += r * (slope + 0.01 * math.cos(x[2]))
    for k in picks:
        total += 0.005 * x[k] ** 2
        g[k] += 0.01 * x[k]
    return total, g


@njit
def in_place(x, g, kind, signal, times, picks, scale):
    f, gradient = part(x, kind, signal, times, picks, scale)
    for i in range(x.size):
        g[i] = gradient[i]
    return f


@njit
def value(x, kind, signal, times, picks, scale):
    return part(x, kind, signal, times, picks, scale)[0]


@njit
def gradient(x, kind, signal, times, picks, scale):
    return part(x, kind, signal, times, picks, scale)[1]


def problems(count=COUNT):
    rng = np.random.default_rng(0)
    truth = rng.uniform(0.5, 1.5, size=(count, 2))
    signals = truth[:, :1] * np.exp(-truth[:, 1:] * TIMES) + 0.01 * rng.normal(size=(count, 20))
    kinds = rng.integers(0, 7, size=count)
    picks = rng.integers(0, 3, size=(count, 4)).astype(np.int8)
    scales = np.where(rng.random(count) < 0.5, 0.0, 1.0).astype(np.float32)
    columns = kinds, signals, np.tile(TIMES, (count, 1)), picks, scales
    return rng.uniform(0.5, 1.5, size=(count, 3)), columns


@pytest.fixture
def lanes(monkeypatch):
    """Lanes for any number of problems; the list tells, for each call, if they were taken."""
    taken, make = [], lane_rows.solver

    def solver(*given):
        taken.append(make(*given))
        return taken[-1]

    monkeypatch.setattr(lane_rows, "LANES_FROM", 1)
    monkeypatch.setattr(lane_rows, "solver", solver)
    return taken


def compare(found, alone, m):
    for name in ("x", "jac", "fun", "nit", "status", "L", "restarts"):
        np.testing.assert_array_equal(found[name][m], alone[name], err_msg=f"{name} of problem {m}")
    assert found.nfev[m] + 1 == alone.nfev


def check(lanes, fun, jac, starts, columns, shared=(), **options):
    found = minimize_many(fun, starts, columns, shared, jac=jac, **options)
    assert lanes == [lanes[0]]
    assert lanes[0] is not None
    for m in range(len(starts)):
        args = *(column[m] for column in columns), *shared
        try:
            alone = minimize(fun, starts[m], args, jac, **options)
        except (ArithmeticError, ZeroDivisionError):
            assert found.status[m] == algorithm.RAISED
            assert np.array_equal(found.x[m], starts[m])
            assert np.isnan(found.fun[m])
        else:
            compare(found, alone, m)
    return found


@pytest.mark.filterwarnings("ignore:minimize_many")
def test_bits_are_those_of_each_alone(lanes):
    found = check(lanes, part, True, *problems())
    assert set(found.status) == {algorithm.GRADIENT, algorithm.START, algorithm.RAISED}
    assert len(set(found.nit)) > 10
    assert "raised; the first, problem" in found.message


@pytest.mark.filterwarnings("ignore:minimize_many")
def test_any_number_of_problems(lanes):
    starts, columns = problems()
    whole = minimize_many(part, starts, columns, jac=True)
    for begin, end in ((3, 4), (0, 7), (1, 9), (5, 14)):
        some = minimize_many(part, starts[begin:end], tuple(column[begin:end] for column in columns), jac=True)
        for name in ("x", "jac", "fun", "nit", "nfev", "status", "L"):
            np.testing.assert_array_equal(some[name], whole[name][begin:end])
    assert None not in lanes


@pytest.mark.filterwarnings("ignore:minimize_many")
def test_starts_and_data_that_are_not_finite(lanes):
    starts, columns = problems()
    signals = columns[1]
    starts[0], starts[1] = 300.0, -300.0
    signals[2], signals[3], signals[4], signals[5, 3] = np.nan, np.inf, 1e308, 5e-324
    check(lanes, part, True, starts, columns, maxiter=300)


@pytest.mark.ci
@pytest.mark.filterwarnings("ignore:minimize_many")
@pytest.mark.parametrize(
    ("fun", "jac", "options"),
    [
        (in_place, "inplace", {}),
        (value, gradient, {"method": "momentum", "maxiter": 500}),
        (value, None, {"prox": "box", "options": {"bounds": [(0.0, 0.9), (0.8, 1.2), (None, 1.0)]}}),
    ],
    ids=["inplace", "apart", "differences"],
)
def test_each_kind_of_gradient(lanes, fun, jac, options):
    check(lanes, fun, jac, *problems(), **options)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:minimize_many")
@pytest.mark.parametrize(
    "options",
    [
        {"method": "gd", "maxiter": 500},
        {"L": 40.0},
        {"L": 1.0, "maxiter": 100},  # too small
        {"strong_convexity": 0.01, "maxiter": 500},
        {"restart": None},
        {"prox": "l1", "options": {"l1": 0.05}},
        {"prox": "nonneg", "tol": 1e-3},
    ],
    ids=str,
)
def test_each_option(lanes, options):
    check(lanes, part, True, *problems(), **options)


@njit
def least_squares(x, A, b):
    g, total = np.zeros(x.size), 0.0
    for i in range(A.shape[0]):
        r = -b[i]
        for j in range(x.size):
            r += A[i, j] * x[j]
        total += 0.5 * r * r
        step = np.empty(x.size)
        for j in range(x.size):
            step[j] = A[i, j] * r
        g += step
    return total, g


@pytest.mark.ci
@pytest.mark.parametrize("n", [3, 20])
def test_matrices_and_arrays_that_are_made_in_loops(lanes, n):
    rng = np.random.default_rng(1)
    A = rng.normal(size=(11, n + 5, n)).astype(np.float32)
    check(lanes, least_squares, True, rng.normal(size=(11, n)), (A,), (rng.normal(size=n + 5),), maxiter=60)


@njit
def halvings(x, kind, row):
    """Loops of one block, of which each problem goes through another number of rounds."""
    y, rounds, g = 1.0 + abs(x[0]), 0, np.zeros(x.size)
    while y > 1e-3 and rounds < 200:
        y *= 0.7
        rounds += 1
    g[0] = x[0] + 1e-3 * rounds + y
    return 0.5 * x[0] ** 2, g


@njit
def power(x, kind, row):
    g = x - row[:2]
    g[0] += 1e-3 * (1.0 + abs(x[0])) ** kind
    return 0.5 * np.sum((x - row[:2]) ** 2), g


@njit
def several_ends(x, kind, row):
    """A loop that problems leave in different rounds and at different places, with different numbers."""
    y, rounds, g = 1.0 + abs(x[0]), 0, np.zeros(x.size)
    while y > 1e-3 and rounds < 200:
        y *= 0.7
        rounds += 1
        if rounds % 3 == 0:
            continue
        y *= 0.99
    g[0] = x[0] + 1e-3 * rounds + y
    return 0.5 * x[0] ** 2, g


@njit
def counter_after(x, kind, row):
    """What all problems count alike in a loop, and do not have alike after it."""
    y, last, end, g = abs(x[0]), 7, 0.3, np.zeros(x.size)
    for i in range(row.size):
        last = i + 3
        if y > 2.0:
            break
        y *= 1.7
    for i in range(12):
        y += 0.1
        if y > 1.5 + 0.1 * kind:
            y -= 0.05
            if i > 3:
                end = y * i
                break
            g[1] += 0.01
    g[0] = x[0] + 1e-2 * last + 1e-2 * end
    return 0.5 * x[0] ** 2, g


@njit
def shifted(x, kind, row):
    g = x - row[:2]
    g[0] += 1e-3 * ((5 << kind) % 1000) + 1e-22 * (1 << (kind + 62))
    return 0.5 * np.sum((x - row[:2]) ** 2), g


@pytest.mark.ci
@pytest.mark.parametrize("fun", [halvings, power, several_ends, counter_after, shifted], ids=lambda f: f.__name__)
def test_loops_that_problems_leave_at_different_times(lanes, fun):
    rng = np.random.default_rng(2)
    check(lanes, fun, True, 3.0 * rng.normal(size=(21, 2)), (np.arange(21) - 8, rng.normal(size=(21, 9))), maxiter=5)


def counting(x, target, calls):
    calls[0] += 1.0
    return 0.5 * np.sum((x - target) ** 2), x - target


def reckless(x, target, calls):
    total, g = 0.0, np.zeros_like(x)
    for i in range(x.size):
        g[i] = x[i] - target
        total += 0.5 * g[i] * g[i]
    return total, g


def longer(x, target, calls):
    return 0.5 * np.sum((x - target) ** 2), x[: int(target) + 1] - target


def marking(x, target, calls):
    target[0] += 1.0
    return 0.5 * np.sum(x * x), x * 1.0


def rounding(x, target, calls):
    return 0.5 * np.sum(x * x), x + 1e-3 * np.uint8(x[0])


REFUSED = [
    (njit(counting), "a store to what all problems have in common"),
    (njit(fastmath=True)(reckless), "need not be exact"),
    (njit(longer), "arrays of different lengths"),
    (njit(rounding), "a real number as i8"),
]


@pytest.mark.parametrize(
    ("fun", "reason"), [REFUSED[0], *(pytest.param(*case, marks=pytest.mark.ci) for case in REFUSED[1:])]
)
def test_functions_that_have_no_lanes(fun, reason):
    functions = specialize.Functions(fun, None, specialize.TOGETHER)
    with pytest.raises(Unfit, match=reason):
        lane_rows.compiled_evaluation(functions, typeof((np.ones(9),)), typeof((np.zeros(1),)), 4)


@njit
def swapped(x, kind):
    """Where it fails, it does so for all, from places that are reached by some: nobody does."""
    a, b = np.zeros(2), np.ones(2)
    for _ in range(abs(kind)):
        b[0] = a[0] * 0.5 + x[0]
        a, b = b, a
    g = x * 1.0
    g[0] += 1e-2 * a[0]
    return 0.5 * np.sum(x * x), g


@njit
def whole_value(x, kind):
    return 1, x - kind


@njit
def single_value(x, kind):
    return np.float32(0.5 * np.sum((x - kind) ** 2)), (x - kind).astype(np.float32)


@pytest.mark.ci
@pytest.mark.parametrize("fun", [swapped, whole_value, single_value], ids=lambda f: f.__name__)
def test_values_of_other_types_and_exceptions_of_nobody(lanes, fun):
    check(lanes, fun, True, np.random.default_rng(4).normal(size=(9, 2)), (np.arange(9) - 4,), maxiter=5)


@njit("int64(int64)")
def whole(x):
    return 3 * x


@njit(locals={"y": float32})
def single(x):
    y = x * 1.1
    return y


@njit
def converting(x, kind):
    return 0.5 * np.sum(x * x), x + 1e-3 * whole(x[0]) + 1e-3 * single(x[1] + kind)


@pytest.mark.ci
def test_types_that_the_user_chose(lanes):
    starts, kinds = np.random.default_rng(3).normal(size=(9, 2)), np.arange(9)
    found = check(lanes, converting, True, starts, (kinds,), maxiter=3)
    for m in range(9):
        np.testing.assert_array_equal(found.jac[m], converting(found.x[m], kinds[m])[1])


@pytest.mark.ci
def test_what_is_written_to_rows_is_kept(lanes):
    rows = np.zeros((9, 1))
    found = minimize_many(njit(marking), np.ones((9, 2)), (rows,), (np.zeros(1),), jac=True)
    assert lanes == [None]
    assert (rows[:, 0] >= found.nfev).all()


@pytest.mark.ci
def test_they_are_solved_all_the_same(lanes):
    calls = np.zeros(1)
    found = minimize_many(REFUSED[0][0], np.zeros((9, 2)), (np.ones(9),), (calls,), jac=True)
    assert lanes == [None]
    assert found.success.all()
    assert calls[0] >= found.nfev.min()


def test_where_values_are_tracked_there_are_no_lanes():
    functions = specialize.Functions(part, None, specialize.TOGETHER)
    _, columns = problems(9)
    for options in ({"ftol": 1e-9}, {"monotone": True}):
        wanted = settings.choices(3, "nag", None, None, "gradient", None, 1e-5, 100, options)
        assert lane_rows.solver(functions, wanted, 3, columns, ()) is None
