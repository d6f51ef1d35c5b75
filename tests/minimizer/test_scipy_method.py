"""`scipy_method` behind `scipy.optimize.minimize`."""

import sys

import numpy as np
import pytest
from numba import njit

from nagd_numba import minimize, scipy_method
from tests.helpers.backends import JIT_OFF

optimize = pytest.importorskip("scipy.optimize")

CENTRE = np.array([3.0, -1.0, 0.5])
SCALES = np.array([1.0, 5.0, 20.0])


def fun(x, a):
    return 0.5 * float(np.sum(SCALES * (x - a) ** 2))


def jac(x, a):
    return SCALES * (x - a)


def both(x, a):
    return fun(x, a), jac(x, a)


def run(f=fun, x0=(0, 0, 0), jac=jac, **options):
    return optimize.minimize(f, x0, (CENTRE,), method=scipy_method, jac=jac, **options)


@pytest.mark.parametrize("form", ["callable", True, None, False, "2-point", "3-point"])
def test_forms_of_jac(form):
    form = jac if form == "callable" else form
    result = run(both if form is True else fun, jac=form, tol=1e-7)
    assert result.success
    np.testing.assert_allclose(result.x, CENTRE, atol=1e-6)
    assert isinstance(result, optimize.OptimizeResult)


def test_options_reach_the_method():
    ours = minimize(fun, np.zeros(3), (CENTRE,), jac, "nag", 20.0, 1.0, tol=1e-9, options={"ftol": 1e-30})
    theirs = run(tol=1e-9, options={"method": "nag", "L": 20.0, "strong_convexity": 1.0, "ftol": 1e-30})
    assert np.array_equal(ours.x, theirs.x)
    assert (ours.nit, ours.status) == (theirs.nit, theirs.status)
    plain = run(options={"L": 20.0, "restart": None, "method": "fista", "maxiter": 7})
    expected = minimize(fun, np.zeros(3), (CENTRE,), jac, "fista", 20.0, restart=None, maxiter=7)
    assert np.array_equal(plain.x, expected.x)
    assert (plain.success, plain.nit) == (False, 7)


@pytest.mark.parametrize(
    "bounds",
    [[(0, 1), (None, -2), (0.75, None)], optimize.Bounds([0, -np.inf, 0.75], [1, -2, np.inf])],
    ids=["pairs", "Bounds"],
)
def test_bounds(bounds):
    np.testing.assert_allclose(run(bounds=bounds, tol=1e-9).x, [1, -2, 0.75], atol=1e-9)


def test_callbacks():
    points, results = [], []
    run(callback=lambda xk: points.append(xk))
    run(callback=lambda intermediate_result: results.append(intermediate_result))
    assert len(points) == len(results) > 10
    assert all(np.array_equal(x, r.x) and r.fun == fun(x, CENTRE) for x, r in zip(points, results, strict=True))

    def stop(xk):
        raise StopIteration

    stopped = run(callback=stop)
    assert (stopped.success, stopped.status, stopped.nit) == (False, 99, 1)


def test_what_is_warned_of_and_refused():
    with pytest.warns(optimize.OptimizeWarning, match="Unknown solver options: gtool, maxfev"):
        assert run(options={"gtool": 1, "maxfev": 3}).success
    with pytest.warns(RuntimeWarning, match="does not use Hessian"):
        assert run(hess=lambda x, a: np.diag(SCALES)).success
    with pytest.raises(ValueError, match="constraints are not supported"):
        run(constraints={"type": "eq", "fun": lambda x: x[0]})
    with pytest.raises(ValueError, match="bounds are a prox of their own"):
        run(bounds=[(0, 1)] * 3, options={"prox": "nonneg"})


def test_display(capsys):
    run(options={"disp": True})
    assert "Converged" in capsys.readouterr().out


@njit
def compiled_both(x, a):
    return 0.5 * np.sum((x - a) ** 2), x - a


@pytest.mark.skipif(JIT_OFF, reason="is about compiled functions")
def test_a_jitted_function_with_its_gradient_runs_compiled(monkeypatch):
    """SciPy wraps it in an object that remembers; we look through that."""

    monkeypatch.setattr(sys.modules[minimize.__module__], "interpreted", None)
    assert run(compiled_both, jac=True).success


def test_basinhopping():
    """One of SciPy's global methods, with ours inside; the deepest of many valleys."""

    def valleys(x):
        return float(np.cos(14.5 * x[0] - 0.3) + (x[0] + 0.2) * x[0])

    found = optimize.basinhopping(valleys, [1.0], niter=60, rng=0, minimizer_kwargs={"method": scipy_method})
    assert found.x[0] == pytest.approx(-0.195, abs=1e-3)


def rosenbrock(x):
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)
