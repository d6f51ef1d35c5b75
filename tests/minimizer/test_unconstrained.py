"""Thirty problems of More, Garbow and Hillstrom: `minimize` ends where the source says, though few are convex."""

import numpy as np
import pytest

pytest.importorskip("benchmarks.unconstrained", reason="needs the source tree")

from benchmarks import unconstrained

# Where a first-order method would need millions of evaluations: their curvatures differ by 10^10 and more.
TOO_BADLY_SCALED = {"powell_badly_scaled 2", "brown_badly_scaled 2"}

# Evaluations of `minimize`, as `python -m benchmarks.unconstrained` shows them; a change by a quarter is looked at.
COUNTS = {
    "rosenbrock 2": 377, "freudenstein_roth 2": 652, "beale 2": 102, "jennrich_sampson 2": 103, "helical_valley 3": 285,
    "bard 3": 587, "gaussian 3": 10, "box 3": 802, "powell_singular 4": 773, "wood 4": 1550, "kowalik_osborne 4": 501,
    "brown_dennis 4": 393, "biggs 6": 1130, "watson 6": 1501, "rosenbrock 100": 377, "powell_singular 100": 773,
    "penalty_1 10": 352, "penalty_2 10": 92, "variably_dimensioned 10": 71, "trigonometric 10": 84,
    "brown_almost_linear 10": 550, "discrete_boundary_value 10": 180, "discrete_integral_equation 10": 19,
    "broyden_tridiagonal 10": 38, "broyden_banded 10": 60, "linear_full_rank 10": 5, "linear_rank_one 10": 7,
    "chebyquad 8": 104,
}  # fmt: skip

problems = pytest.mark.parametrize("problem", unconstrained.problems(), ids=lambda problem: problem.name)


@problems
def test_gradients(problem):
    point = problem.x0 + 0.01 * np.arange(1, len(problem.x0) + 1)
    _, g = problem(point)
    differences = np.array([(problem(point + h)[0] - problem(point - h)[0]) / 2e-6 for h in 1e-6 * np.eye(len(point))])
    np.testing.assert_allclose(g, differences, rtol=1e-4, atol=1e-5 * max(1.0, np.abs(g).max()))


@problems
def test_least_values(problem):
    if problem.name in TOO_BADLY_SCALED:
        assert unconstrained.solve(problem, "nag").fun < problem(problem.x0)[0]
        return
    result = unconstrained.solve(problem, "nag")
    assert result.success, result.message
    assert unconstrained.solved(problem, result)
    assert 0.75 * COUNTS[problem.name] <= result.nfev <= 1.25 * COUNTS[problem.name]
