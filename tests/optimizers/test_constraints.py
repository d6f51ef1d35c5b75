"""Bounds and proximal maps in every rule: solutions of box problems and lassos, and what theory says of the way."""

import numpy as np
import pytest
import scipy.optimize
from numba import njit

import nagd_numba
from nagd_numba.optimizers.registry import OPTIMIZERS
from tests.helpers import rules
from tests.helpers.composed_steps import arrays_of, long_dtypes, numbers_of, optimizers, same


@optimizers
@long_dtypes
def test_bounds_leave_alone_what_does_not_reach_them(optimizer, dtype):
    rng = np.random.default_rng(5)
    arrays, numbers = arrays_of(optimizer, rng, 200, dtype), numbers_of(optimizer)
    plain = [x.copy() for x in arrays]
    optimizer.step(*plain, **numbers)
    far = [x.copy() for x in arrays]
    optimizer.step(*far, **numbers, lower=-1e6, upper=np.full(200, 1e6, dtype))
    for got, wanted in zip(far, plain, strict=True):
        same(got, wanted)
    optimizer.step(*arrays, **numbers, lower=-0.25, upper=0.5)
    assert arrays[0].min() == -0.25
    assert arrays[0].max() == 0.5
    if optimizer.rule.proximal is None:
        same(arrays[0], np.clip(plain[0], dtype(-0.25), dtype(0.5)))


@pytest.mark.parametrize(
    "name", rules.marked((), ("adam",), [x for x, made in OPTIMIZERS.items() if made.rule.proximal is None])
)
def test_the_threshold_of_l1_is_the_step_size_times_the_weight(name):
    optimizer, rng = OPTIMIZERS[name], np.random.default_rng(5)
    arrays, numbers = arrays_of(optimizer, rng, 200, np.float64), numbers_of(optimizer)
    plain = [x.copy() for x in arrays]
    optimizer.step(*plain, **numbers)
    optimizer.step(*arrays, **numbers, prox="l1", prox_weight=0.5)
    same(arrays[0], plain[0] - np.clip(plain[0], -0.125, 0.125))
    assert not arrays[0].all()


@pytest.fixture
def box_problem():
    """A quadratic whose minimum has numbers at both bounds, and between them."""
    rng = np.random.default_rng(6)
    A = rng.normal(size=(30, 12))
    Q, c = A.T @ A / 30, rng.normal(size=12)
    found = scipy.optimize.minimize(
        lambda x: 0.5 * x @ Q @ x - c @ x, np.zeros(12), jac=lambda x: Q @ x - c, method="L-BFGS-B",
        bounds=[(-0.25, 0.5)] * 12, options={"ftol": 0.0, "gtol": 1e-12, "maxiter": 10_000},
    )  # fmt: skip
    assert {-0.25, 0.5} <= set(found.x)
    return Q, c, found.x, 1.0 / np.linalg.eigvalsh(Q).max()


@pytest.mark.parametrize(
    ("convention", "nesterov"),
    [
        pytest.param(form, way, marks=() if (form, way) == ("torch", True) else pytest.mark.slow)
        for form in ("torch", "keras", "caffe", "bengio")
        for way in (True, False)
    ],
)
def test_projected_nesterov_solves_box_problems(box_problem, convention, nesterov):
    """For rates up to 1/L the function plus the square of the move falls in each step, and the limit is the minimum."""
    Q, c, solution, lr = box_problem
    p, v = np.full(12, 0.1), np.zeros(12)
    for _ in range(3000):
        nagd_numba.step(p, Q @ p - c, v, lr, 0.8, convention=convention, nesterov=nesterov, lower=-0.25, upper=0.5)
        assert p.min() >= -0.25
        assert p.max() <= 0.5
    assert np.abs(p - solution).max() < 1e-8
    at_bounds = (solution == -0.25) | (solution == 0.5)
    same(p[at_bounds], solution[at_bounds])
    assert not v[at_bounds].any()


@pytest.mark.parametrize("momentum", [0.5, 0.95])
def test_the_potential_of_projected_nesterov_falls(box_problem, momentum):
    Q, c, _, lr = box_problem
    p, v, last, before = np.full(12, 0.5), np.zeros(12), np.full(12, 0.5), np.inf
    for _ in range(400):
        nagd_numba.step(p, Q @ p - c, v, lr, momentum, convention="keras", lower=-0.25, upper=0.5)
        x = np.clip(p - momentum * v, -0.25, 0.5)  # the iterate
        potential = 0.5 * x @ Q @ x - c @ x + np.sum((momentum * v / momentum) ** 2) / (2 * lr)
        assert potential <= before + 1e-12
        last, before = x, potential
    assert np.isfinite(last).all()


@pytest.mark.parametrize(
    "name", rules.marked((), ("adam", "lion"), ("adam", "adamw", "nadam", "rmsprop", "adagrad", "lion", "fista"))
)
def test_every_rule_comes_to_the_solution_of_a_box_problem(box_problem, name):
    Q, c, solution, lr = box_problem
    optimizer = OPTIMIZERS[name]
    p = np.zeros(12)
    states = [np.zeros(12) for _ in optimizer.rule.states]
    counted = {"adam", "adamw", "nadam", "adagrad", "fista"}  # the schedule-free ones: test_schedule_free
    for k in range(1, 6001):
        own = {"t": k} if name in counted else {}
        own |= {"weight_decay": 0.0} if name in ("adamw", "lion") else {}
        own["lr"] = lr if name == "fista" else 0.5 if name == "adagrad" else 0.05 / np.sqrt(k)
        optimizer.step(p, Q @ p - c, *states, **own, lower=-0.25, upper=0.5)
    assert np.abs(p - solution).max() < (0.01 if name in ("lion", "rmsprop") else 1e-4)


@pytest.mark.parametrize("way", ["l1", pytest.param("function", marks=pytest.mark.ci)])
def test_lasso(way):
    linear_model = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(7)
    X = rng.normal(size=(60, 20))
    y = X[:, :4] @ np.array([2.0, -1.0, 0.5, 0.25]) + 0.1 * rng.normal(size=60)
    model = linear_model.Lasso(alpha=0.1, fit_intercept=False, tol=1e-14, max_iter=100_000).fit(X, y)
    lr = 1.0 / np.linalg.eigvalsh(X.T @ X / 60).max()
    own = {"prox": "l1", "prox_weight": 0.1} if way == "l1" else {"prox": shrunk}
    p, v = np.zeros(20), np.zeros(20)
    for _ in range(1500):
        nagd_numba.step(p, X.T @ (X @ p - y) / 60, v, lr, 0.7, **own)
    assert np.abs(p - model.coef_).max() < 1e-9
    assert ((p == 0) == (model.coef_ == 0)).all()


@njit
def shrunk(x, lr):
    return np.sign(x) * max(abs(x) - 0.1 * lr, 0.0)


@pytest.mark.ci
def test_scaled_l1_of_adam_stays_at_the_lasso_solution():
    """In Adam's metric the solution is a fixed point for any scales; with thresholds of `lr` alone it is not."""
    linear_model = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(8)
    X = rng.normal(size=(60, 8)) * np.geomspace(0.3, 3, 8)
    y = X @ np.array([2.0, 0, 0, 1.0, 0, -0.5, 0.25, 0]) + 0.1 * rng.normal(size=60)
    solution = linear_model.Lasso(alpha=0.05, fit_intercept=False, tol=1e-14, max_iter=10**6).fit(X, y).coef_
    moved = {}
    for prox in ("scaled_l1", "l1"):
        p, gradient = solution.copy(), X.T @ (X @ solution - y) / 60
        m, v = gradient.copy(), np.linspace(0.5, 2, 8)  # as they are when the gradient has long been this one
        nagd_numba.adam_step(p, gradient, m, v, 10**6, lr=0.01, beta2=1 - 1e-9, prox=prox, prox_weight=0.05)
        moved[prox] = np.abs(p - solution).max()
    assert moved["scaled_l1"] < 1e-9 < 1e-4 < moved["l1"]


@pytest.mark.slow
def test_two_functions_of_one_name_are_two():
    def made(limit):
        @njit
        def cut(x, lr):
            return min(x, limit)

        return cut

    for limit in (0.25, 0.5):
        p = np.full(3, 0.75)
        nagd_numba.step(p, np.zeros(3), np.zeros(3), momentum=0.0, prox=made(limit))
        assert p.tolist() == [limit] * 3


@pytest.mark.ci
def test_the_threshold_of_adagrad_has_its_decayed_rate():
    p = np.array([1.0, -2.0, 0.01])
    nagd_numba.adagrad_step(p, np.zeros(3), np.ones(3), t=3, lr=0.5, lr_decay=0.5, prox="l1", prox_weight=0.25)
    threshold = 0.5 / (1 + 2 * 0.5) * 0.25
    assert p.tolist() == [1.0 - threshold, threshold - 2.0, 0.0]
