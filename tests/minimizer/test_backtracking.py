"""How `minimize` finds L: what theory promises while it rises and falls, how often it asks, and noise."""

import numpy as np
import pytest

from nagd_numba import minimize
from nagd_numba.minimizer import algorithm, settings, user_functions
from nagd_numba.minimizer.objective import COUNTS
from nagd_numba.minimizer.specialize import interpreted

RNG = np.random.default_rng(0)
DESIGN, SIGNS = RNG.normal(size=(200, 5)), np.sign(RNG.normal(size=200))
EVENTS = RNG.poisson(np.exp(DESIGN @ np.array([0.4, -0.3, 0.2, 0.0, 0.5])))


def poisson(w, scale=4.0):
    """Poisson regression, whose curvature grows like exp: the start below is steep and the rest flat."""
    eta = scale * DESIGN @ w
    return float(np.exp(eta).sum() - EVENTS @ eta), scale * DESIGN.T @ (np.exp(eta) - EVENTS)


def exponential(x):
    return float(np.exp(x[0]) - 3 * x[0]), np.exp(x) - 3


def logistic(w):
    margin = SIGNS * (DESIGN @ w)
    slopes = -SIGNS / (1 + np.exp(margin))
    return float(np.logaddexp(0, -margin).mean() + 5e-3 * w @ w), DESIGN.T @ slopes / 200 + 1e-2 * w


STEEP = {"poisson": (poisson, -2 * np.ones(5)), "exponential": (exponential, np.array([20.0]))}


def iterate(fun, start, steps, **keywords):
    """Yields, after each iteration, (t_k, L_k, phi_k, x_k), made from what the algorithm keeps."""
    x = settings.starting_point("x0", start)
    wanted = settings.choices(len(x), "nag", None, None, keywords.pop("restart", None), None, 0.0, steps, keywords)
    loop = interpreted(user_functions.adapted(fun, True, None, None, x, ()))
    work, counts = np.empty((algorithm.VECTORS, len(x))), np.zeros(COUNTS, np.int64)
    numbers = np.zeros(algorithm.NUMBERS)
    fixed = wanted.settings, wanted.first, wanted.second
    assert loop.start(x, work, numbers, counts, *fixed, 0, ()) == algorithm.RUNNING
    for _ in range(steps):
        t, before, following = (numbers[k] for k in (algorithm.SEQUENCE_T, algorithm.CURVATURE, algorithm.FOLLOWING))
        y, g, f = work[algorithm.Y].copy(), work[algorithm.G].copy(), numbers[algorithm.VALUE]
        if loop.advance(x, work, numbers, counts, *fixed, 1, ()) != algorithm.RUNNING:
            return
        L = numbers[algorithm.CURVATURE]
        L = before if following > 0 and following == L else L
        e = x - y
        yield t, L, f + g @ e + 0.5 * L * (e @ e), x.copy()


@pytest.mark.parametrize("name", STEEP)
def test_the_bound_of_the_theory_holds_while_l_falls(name):
    """`phi_k - F* <= R^2/(2 A_k)` and `sqrt(A_k) >= sum 1/(2 sqrt(L_i))`, with A_k = t_k^2/L_k."""
    fun, start = STEEP[name]
    best = minimize(fun, start, jac=True, tol=1e-10, maxiter=50_000)
    radius2 = ((start - best.x) ** 2).sum()
    total, fell, last = 0.0, 0, np.inf
    for t, L, phi, _ in iterate(fun, start, 400):
        A = t * t / L
        total += 0.5 / np.sqrt(L)
        assert phi - best.fun <= radius2 / (2 * A) * algorithm.TOLERANCE
        assert np.sqrt(A) >= total * (1 - 1e-9)
        fell += last > L
        last = L
    assert fell > 5


@pytest.mark.parametrize("method", ["nag", "fista", "gd", "momentum"])
@pytest.mark.parametrize("name", STEEP)
def test_from_a_steep_start_into_a_flat_valley(name, method):
    fun, start = STEEP[name]
    result = minimize(fun, start, jac=True, method=method)
    assert result.success
    assert result.nfev < (10_000 if method == "momentum" else 2000)
    hessian = (
        3.0 if name == "exponential" else 16 * np.linalg.norm(DESIGN.T * np.exp(4 * DESIGN @ result.x) @ DESIGN, 2)
    )
    assert 100 * hessian > result.L


def test_one_evaluation_for_each_iteration():
    scales = np.geomspace(1e-4, 1, 50)

    def fun(x):
        calls.append(1)
        return 0.5 * float(scales @ (x - 1) ** 2), scales * (x - 1)

    for method in ("nag", "fista", "gd", "momentum"):
        calls = []
        result = minimize(fun, np.zeros(50), jac=True, method=method, maxiter=1000)
        assert result.nfev == result.njev == len(calls)
        assert result.nit < len(calls) <= 1.1 * result.nit + 20


@pytest.mark.parametrize("method", ["nag", "gd", "momentum"])
def test_values_in_float32(method):
    """Values that differ in their last bits only say nothing of L."""
    exact = minimize(logistic, np.zeros(5), jac=True, method=method)

    def rounded(w):
        f, g = logistic(w)
        return np.float32(f), g.astype(np.float32)

    result = minimize(rounded, np.zeros(5), jac=True, method=method)
    assert result.success
    assert result.nit <= 1.5 * exact.nit + 5
    assert result.L <= 4 * exact.L
    np.testing.assert_allclose(result.x, exact.x, atol=2e-3)


def test_float32_tensors_of_torch():
    torch = pytest.importorskip("torch")
    design, signs = torch.tensor(DESIGN, dtype=torch.float32), torch.tensor(SIGNS, dtype=torch.float32)

    def fun(w):
        w = w.clone().requires_grad_()
        loss = torch.nn.functional.softplus(-signs * (design @ w)).mean() + 5e-3 * w @ w
        loss.backward()
        return loss.detach(), w.grad

    exact = minimize(logistic, np.zeros(5), jac=True)
    result = minimize(fun, torch.zeros(5), jac=True)
    assert result.success
    assert result.nit <= 1.5 * exact.nit + 5


@pytest.mark.parametrize(("noise", "options"), [(1e-10, {}), (1e-7, {}), (1e-4, {"noise": 1e-3})])
def test_noise(noise, options):
    rng = np.random.default_rng(1)

    def noisy(w):
        f, g = logistic(w)
        return f * (1 + noise * rng.normal()), g

    exact = minimize(logistic, np.zeros(5), jac=True)
    result = minimize(noisy, np.zeros(5), jac=True, options=options)
    assert result.success
    assert result.nit <= 1.5 * exact.nit + 5
    if options:  # without it, the noise drives L up
        assert not minimize(noisy, np.zeros(5), jac=True, maxiter=50).success


def test_noise_is_checked():
    with pytest.raises(ValueError, match=r"options\['noise'\] is -1"):
        minimize(logistic, np.zeros(5), jac=True, options={"noise": -1})


def test_where_no_step_leads_down_any_more():
    """The slopes of `|x|` do not become small, so neither does any step fit."""
    result = minimize(lambda x: (float(np.abs(x).sum()), np.sign(x) + (x == 0)), [0.3, -0.7], jac=True)
    assert not result.success
    assert result.status in (2, 7, 10)
    assert result.fun < 1e-3
