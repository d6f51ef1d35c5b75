"""The figures of `benchmarks.minimize`, which the documentation shows, against what the theory says of them."""

import numpy as np
import pytest

pytest.importorskip("benchmarks.minimize", reason="needs the source tree")

from benchmarks import minimize as figures
from benchmarks import problems
from tests.helpers.backends import JIT_OFF

pytestmark = pytest.mark.skipif(JIT_OFF, reason="too slow without compiled functions")


def counts(problem, accuracy, named):
    return {name: len(path) - 1 for name, path in figures.iterations(problem, accuracy, named).items()}


def test_a_quadratic_of_condition_ten_thousand():
    problem = problems.rotated_quadratic()
    eigenvalues = np.linalg.eigvalsh(problem.args[0])
    assert eigenvalues[-1] / eigenvalues[0] == pytest.approx(1e4, rel=1e-6)
    best = problems.best_on_quadratics(problem.L, problem.convexity)
    named = {**figures.schemes(problem), "best constant momentum": best}
    for name in ("gradient descent", "FISTA"):
        _, path = problem.run(1e-8, maxiter=3000, **named.pop(name))
        assert len(path) == 3001
    taken = counts(problem, 1e-8, named)
    assert taken["restart by gradient"] <= 1000
    assert taken["restart by function"] <= 1000
    assert taken["backtracking, restart"] <= 1000
    assert taken["constant momentum"] <= 700
    assert taken["best constant momentum"] <= 700


def test_a_lasso():
    taken = counts(problems.lasso(), 1e-6, figures.SCHEMES)
    assert 0.5 <= taken["restart by gradient"] / taken["FISTA"] <= 0.7
    assert taken["restart by function"] / taken["FISTA"] <= 0.7
    assert taken["gradient descent"] > 2 * taken["FISTA"]


def test_logistic_regression():
    """Its least value by another method; the strong convexity that is known (the ridge) is below the true one."""
    optimize = pytest.importorskip("scipy.optimize")
    problem = problems.logistic_regression()
    theirs = optimize.minimize(
        problem.fun, problem.x0, problem.args, "L-BFGS-B", True, options={"ftol": 0, "gtol": 1e-9}
    )
    assert problem.least == pytest.approx(theirs.fun, rel=1e-9)
    taken = counts(problem, 1e-8, figures.schemes(problem))
    assert taken["restart by gradient"] < taken["constant momentum"] < taken["FISTA"] < taken["gradient descent"]


def test_the_worst_function_lies_between_its_bounds():
    for lower, gap, upper in figures.worst_cases().values():
        assert lower <= gap <= upper


def test_rates_of_lessard_recht_and_packard():
    """SIAM J. Optim. 26 (2016), proposition 1; double roots add (k'/k)^(1/(k' - k)) = 1.002 to what is measured."""
    for name, (theory, measured) in figures.rates().items():
        assert theory * (1 - 1e-9) <= measured <= theory * 1.0025, name


def test_the_limit_of_small_steps_is_a_bessel_function():
    """W. Su, S. Boyd, E. Candes, JMLR 17 (2016): x_k -> 2 J1(t)/t at t = k sqrt(s).

    Their momentum is (k-1)/(k+2); that of t_k differs by log(k)/k^2, which adds sqrt(s) log(1/s) to the error.
    """
    j1 = pytest.importorskip("scipy.special").j1
    for step in (1e-2, 1e-3, 1e-4, 1e-5):
        t, x = figures.oscillation(step)
        t, x = t[1:], x[1:]
        assert np.abs(x - 2 * j1(t) / t).max() <= 0.25 * np.sqrt(step) * np.log(1 / step)


def test_the_picture(tmp_path):
    pytest.importorskip("matplotlib")
    problem = problems.two_curvatures()
    paths = {"quadratic": figures.iterations(problem, 1e-6, figures.schemes(problem))}
    pieces = {"worst": figures.worst_cases((1, 2)), "rates": figures.rates()}
    assert figures.plot(tmp_path, paths, pieces).stat().st_size > 10_000
