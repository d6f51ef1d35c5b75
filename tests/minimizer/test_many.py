"""`minimize_many`: each problem as if solved alone, however many there are and wherever it stands."""

import numpy as np
import pytest
from numba import njit, objmode

from nagd_numba import minimize, minimize_many
from nagd_numba.minimizer import algorithm, lane_rows, many
from tests.helpers.backends import JIT_OFF

TIMES = np.linspace(0.0, 3.0, 16)


@njit
def decay(x, signal, weight, times):
    """Half the weighted squared misfit of `x_1 exp(-x_2 t)`."""
    total, g = 0.0, np.zeros(2)
    for i in range(times.size):
        e = np.exp(-x[1] * times[i])
        r = x[0] * e - signal[i]
        total += 0.5 * weight * r * r
        g[0] += weight * r * e
        g[1] -= weight * r * x[0] * times[i] * e
    return total, g


def pixels(count, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0.5, 1.5, size=(count, 2))
    signals = truth[:, :1] * np.exp(-truth[:, 1:] * TIMES) + 0.001 * rng.normal(size=(count, 16))
    return truth, signals, rng.uniform(0.5, 2.0, size=count)


def fit(signals, weights, fun=decay, **options):
    return minimize_many(fun, np.ones((len(signals), 2)), (signals, weights), (TIMES,), jac=True, **options)


@pytest.mark.parametrize(
    "options", [{}, {"options": {"monotone": True}, "maxiter": 7}, {"L": 20.0, "restart": None}], ids=str
)
def test_each_as_if_solved_alone(options):
    truth, signals, weights = pixels(40)
    together = fit(signals, weights, **options)
    for m in range(40):
        alone = minimize(decay, np.ones(2), (signals[m], weights[m], TIMES), True, **options)
        assert np.array_equal(together.x[m], alone.x)
        assert np.array_equal(together.jac[m], alone.jac)
        for name in ("fun", "nit", "status", "success", "L", "restarts"):
            assert together[name][m] == alone[name], name
    if not options:
        assert together.success.all()
        np.testing.assert_allclose(together.x, truth, atol=0.02)
        assert "40 of 40" in together.message


@pytest.mark.skipif(JIT_OFF, reason="is about compiled functions")
def test_threads_calls_and_places_do_not_matter(monkeypatch):
    _, signals, weights = pixels(300)
    expected = fit(signals, weights).x
    order = np.random.default_rng(1).permutation(300)
    assert np.array_equal(fit(signals[order], weights[order]).x, expected[order])
    monkeypatch.setattr(many, "parallel_allowed", lambda: False)
    assert np.array_equal(fit(signals, weights).x, expected)
    monkeypatch.setattr(many, "CALL_SECONDS", 1e9)  # one problem in each call
    assert np.array_equal(fit(signals[:20], weights[:20]).x, expected[:20])


@pytest.mark.skipif(JIT_OFF, reason="is about compiled functions")
def test_lanes_that_differ_are_not_trusted(monkeypatch):
    """Some problems are solved alone, too: where those differ, all are solved anew."""
    _, signals, weights = pixels(lane_rows.LANES_FROM)
    expected = fit(signals, weights).x
    usual = lane_rows.solver

    def solver(*given):
        run = usual(*given)

        def solve(X, *others):
            run(X, *others)
            X *= 1 + 2.0**-52

        return solve

    monkeypatch.setattr(lane_rows, "solver", solver)
    with pytest.warns(RuntimeWarning, match="differ from the same solved alone.*please report"):
        found = fit(signals, weights)
    assert np.array_equal(found.x, expected)


def test_python_functions():
    _, signals, weights = pixels(5)
    python = getattr(decay, "py_func", decay)
    with_args = fit(signals, weights, fun=python)
    assert with_args.success.all()
    np.testing.assert_allclose(with_args.x, fit(signals, weights).x, rtol=1e-9)


def test_those_that_fail_are_told_from_those_that_do_not():
    _, signals, weights = pixels(4)
    signals[1] = np.nan
    found = fit(signals, weights)
    assert found.success.tolist() == [True, False, True, True]
    assert found.status.tolist() == [0, 5, 0, 0]
    assert "3 of 4 converged" in found.message
    assert "1: fun or its gradient is not finite at x0" in found.message
    assert found.x[1].tolist() == [1.0, 1.0]


def test_starts_are_not_modified():
    start = np.ones((3, 2))
    kept = start.copy()
    _, signals, weights = pixels(3)
    minimize_many(decay, start, (signals, weights), (TIMES,), jac=True)
    assert np.array_equal(start, kept)


def raising(x, target):
    if target < 0:
        raise ArithmeticError("no negative targets")
    return 0.5 * np.sum((x - target) ** 2), x - target


compiled_raising = njit(raising)


@pytest.mark.parametrize("fun", [raising, compiled_raising], ids=["python", "compiled"])
@pytest.mark.parametrize("bad", [[0], [3], [0, 1, 5], list(range(6))], ids=str)
def test_problems_that_raise(fun, bad):
    targets, start = np.arange(1.0, 7.0), np.full((6, 2), 0.5)
    targets[bad] *= -1
    first = f"{len(bad)} of 6 raised; the first, problem {bad[0]}: ArithmeticError: no negative targets"
    with pytest.warns(RuntimeWarning, match=first) as warned:
        found = minimize_many(fun, start, (targets,), jac=True)
    assert warned[0].filename == __file__
    assert first in found.message
    raised = np.isin(np.arange(6), bad)
    assert np.array_equal(found.status == algorithm.RAISED, raised)
    assert np.array_equal(found.success, ~raised)
    assert (found.x[raised] == 0.5).all()
    for name in ("fun", "jac", "L"):
        assert np.isnan(found[name][raised]).all()
        assert np.isfinite(found[name][~raised]).all()
    np.testing.assert_allclose(found.x[~raised], np.repeat(targets[~raised, None], 2, 1), atol=1e-4)


def in_python(x):
    if x == 0:
        raise LookupError("of Python")
    return 0.5 * x * x


@pytest.mark.skipif(JIT_OFF, reason="is about compiled functions")
def test_exceptions_of_python_code_in_compiled_functions():
    @njit
    def fun(x, start):
        with objmode(value="float64"):
            value = in_python(start)
        return value + 0.5 * x[0] ** 2, x * 1.0

    start = np.ones(50)
    start[[7, 40]] = 0
    with pytest.warns(RuntimeWarning, match="2 of 50 raised; the first, problem 7: LookupError: of Python"):
        found = minimize_many(fun, np.ones((50, 1)), (start,), jac=True)
    assert np.flatnonzero(~found.success).tolist() == [7, 40]


@pytest.mark.parametrize("fun", [raising, compiled_raising], ids=["python", "compiled"])
def test_functions_that_do_not_fit_are_refused(fun):
    with pytest.raises(TypeError, match="fun does not fit"):
        minimize_many(fun, np.ones((3, 2)), jac=True)


@pytest.mark.parametrize("error", [KeyboardInterrupt, StopIteration, SystemExit])
def test_what_is_to_end_all_does(error):
    def fun(x, m):
        if m == 2:
            raise error
        return 0.5 * x @ x, x

    with pytest.raises(error):
        minimize_many(fun, np.ones((4, 2)), (np.arange(4),), jac=True)


@pytest.mark.parametrize("fun", [raising, compiled_raising], ids=["python", "compiled"])
def test_no_problems(fun):
    found = minimize_many(fun, np.empty((0, 3)), (np.empty(0),), jac=True)
    assert found.x.shape == found.jac.shape == (0, 3)
    assert found.success.shape == found.status.shape == found.fun.shape == found.nit.shape == (0,)
    assert found.success.dtype == bool
    assert "0 of 0" in found.message
    with pytest.raises(ValueError, match="tol"):
        minimize_many(fun, np.empty((0, 3)), (np.empty(0),), jac=True, tol=-1)
