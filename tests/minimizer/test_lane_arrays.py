"""Arrays that functions make in lanes, and problems that fail there."""

import sys
from pathlib import Path

import numpy as np
import pytest
from numba import njit

from nagd_numba import minimize_many
from nagd_numba.minimizer import algorithm, lane_rows, specialize
from tests.helpers.backends import JIT_OFF
from tests.helpers.lane_checks import check

pytestmark = pytest.mark.skipif(JIT_OFF, reason="is about compiled functions")


@njit
def copying(x, kind, row, limits):
    """Copies of arrays, by all problems and by some, of rows and of what is shared."""
    a, b, c, g = x.copy(), row.copy(), limits.copy(), x * 1.0
    a[1] += 1.0
    if kind > 3:
        b = a.copy()
        b[0] += 0.1
    for i in range(3):
        if kind + i == 5:
            c = limits.copy()
            c[1] = x[1]
        elif kind == i:
            break
        c[0] += a[0] + b[1]
    g[0] += 1e-2 * (c[0] + c[1] + a[1])
    g[1] += 1e-2 * b[0]
    return 0.5 * np.sum(x * x), g


@pytest.mark.ci
def test_copies_of_arrays(lanes):
    rng = np.random.default_rng(6)
    columns = np.arange(21) % 7, rng.normal(size=(21, 2))
    check(lanes, copying, True, rng.normal(size=(21, 2)), columns, (np.array([0.5, -0.5]),), maxiter=5)


@njit
def wasteful(x, kind, row):
    """In each of many rounds an array, that all problems keep for one more, and some leave early."""
    total, last = 0.0, np.zeros(1000 + x.size)
    for i in range(4000):
        if i % 1000 == kind:
            continue
        made = np.zeros(1000 + x.size)
        made[i % 1000] = row[1] * i + last[(i + 1) % 1000]
        if i > 3900 and row[0] > 0.0:
            break
        last = made
        total += made[i % 7]
    g = x * 1.0
    g[0] = 1e-9 * total + last.sum()
    return 0.5 * np.sum(x * x), g


@pytest.mark.ci
@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the most memory that was used")
def test_arrays_that_are_made_in_loops_end_there(lanes):
    def used(which):
        return int(Path("/proc/self/status").read_text().partition(f"{which}:")[2].split()[0])

    starts, columns = np.ones((9, 2)), (np.arange(9), np.random.default_rng(7).normal(size=(9, 2)))
    check(lanes, wasteful, True, starts, columns, maxiter=1)
    Path("/proc/self/clear_refs").write_text("5")  # the most that was used is what is used now
    before = used("VmRSS")
    minimize_many(wasteful, starts, columns, jac=True, maxiter=1)
    assert used("VmHWM") - before < 80_000  # kB; all the arrays take 256 MB


@njit(boundscheck=True)
def element(x, k, shared):
    t = shared[1][k] if shared[0] == "yes" else 0.0
    return 0.5 * np.sum((x - t) ** 2), x - t


@pytest.mark.filterwarnings("ignore:minimize_many")
@pytest.mark.parametrize("least", [pytest.param(1, marks=pytest.mark.ci), 100], ids=["lanes", "alone"])
def test_the_first_problem_fails_as_others_do(monkeypatch, least):
    monkeypatch.setattr(lane_rows, "LANES_FROM", least)
    found = minimize_many(element, np.ones((5, 2)), (np.array([7, 0, 2, 9, 1]),), (("yes", np.arange(3.0)),), jac=True)
    assert list(found.status == algorithm.RAISED) == [True, False, False, True, False]
    assert "problem 0: IndexError" in found.message
    np.testing.assert_allclose(found.x[[1, 2, 4], 0], [0.0, 2.0, 1.0], atol=1e-4)


@njit
def inverse(x, k):
    return 0.5 * np.sum(x * x) + 1.0 / k, x * 1.0


def claims(status, k):
    """What solves problems wrongly: it says the same of all, and of problem `k` another thing."""

    def make(*given):
        def solve(X, G, numbers, counts, statuses, settings, first, second, begin, end, columns, common):
            specialize.rows(given[0], False)(
                X, G, numbers, counts, statuses, settings, first, second, begin, end, columns, common
            )
            statuses[k] = status

        return solve

    return make


@pytest.mark.ci
@pytest.mark.filterwarnings("ignore:minimize_many. 1 of 9 raised")
@pytest.mark.parametrize(
    ("status", "k"),
    [(algorithm.GRADIENT, 2), (algorithm.RAISED, 4)],
    ids=["does not raise", "raises"],
)
def test_lanes_that_raise_where_one_alone_does_not_are_given_up(monkeypatch, status, k):
    monkeypatch.setattr(lane_rows, "LANES_FROM", 1)
    monkeypatch.setattr(lane_rows, "solver", claims(status, k))
    with pytest.warns(RuntimeWarning, match="solved in lanes differ"):
        found = minimize_many(inverse, np.ones((9, 2)), (np.arange(9) - 2,), jac=True)
    assert list(np.flatnonzero(found.status == algorithm.RAISED)) == [2]
