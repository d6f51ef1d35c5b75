"""`minimize` where `fun` is not finite everywhere, overflows, or has bounds: it never ends above its start."""

import numpy as np
import pytest
from numba import njit

import nagd_numba
from nagd_numba import minimize, minimize_many
from tests.helpers.backends import JIT_OFF

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def barrier(x, outside):
    """`x - log x`, whose least value is 1 at 1."""
    if x[0] <= 0.0:
        return outside, np.array([np.nan])
    return x[0] - np.log(x[0]), 1.0 - 1.0 / x


def overflowing(x, outside):
    """`exp(50 x) + 5e-4 (x - 30)^2`, which overflows from 14.2 on."""
    e = np.exp(50.0 * x[0])
    return e + 5e-4 * (x[0] - 30.0) ** 2, np.array([50.0 * e + 1e-3 * (x[0] - 30.0)])


def optimum_of_overflowing():
    brentq = pytest.importorskip("scipy.optimize").brentq
    return brentq(lambda x: 50 * np.exp(50 * x) + 1e-3 * (x - 30), -1, 1, xtol=1e-14)


COMPILED = {fun: njit(fun) for fun in (barrier, overflowing)}
FORMS = [False, pytest.param(True, marks=pytest.mark.skipif(JIT_OFF, reason="is about compiled functions"))]


@pytest.mark.parametrize("compiled", FORMS, ids=["python", "compiled"])
@pytest.mark.parametrize("outside", [np.inf, np.nan])
@pytest.mark.parametrize("method", ["nag", "fista", "gd", "momentum"])
def test_points_outside_the_domain_are_left(method, outside, compiled):
    for fun, start, best in ((barrier, 10.0, 1.0), (overflowing, -20.0, optimum_of_overflowing())):
        run = COMPILED[fun] if compiled else fun
        result = minimize(run, [start], (outside,), True, method)
        assert result.success, result.message
        assert result.x[0] == pytest.approx(best, abs=1e-4)
        many = minimize_many(run, np.full((3, 1), start), shared=(outside,), jac=True, method=method)
        assert many.success.all()
        assert np.array_equal(many.x, np.tile(result.x, (3, 1)))


def test_momentum_of_ones_own_and_strong_convexity():
    for method in ("nag", "momentum"):
        for more in ({"options": {"momentum": 0.9}}, {"strong_convexity": 1e-4}):
            result = minimize(barrier, [10.0], (np.inf,), True, method, **more)
            assert result.success, (method, more, result.message)


@pytest.mark.parametrize("options", [{}, {"monotone": True}, {"ftol": 1e-12}], ids=str)
@pytest.mark.parametrize("restart", ["gradient", "function", None])
def test_every_option_leaves_it_too(restart, options):
    for fun, start in ((barrier, 10.0), (overflowing, -20.0)):
        result = minimize(fun, [start], (np.inf,), True, restart=restart, options=options)
        assert result.success, result.message


HOSTILE = {
    "wrong sign": (lambda x: float(x @ x), lambda x: -2 * x),
    "unbounded": (lambda x: float(-np.exp(x).sum()), lambda x: -np.exp(x)),
    "not finite a little further": (lambda x: float(-x.sum()) if x.max() < 1.5 else np.inf, lambda x: -np.ones(2)),
    "jumps up": (lambda x: float(x @ x) + 100 * (x[0] < 0.9), lambda x: 2 * x),
    "random": (lambda x: float(np.sin(1e9 * x).sum()), lambda x: np.cos(1e9 * x[::-1])),
}


@pytest.mark.parametrize(
    "options", [{}, {"L": 0.1}, {"method": "gd"}, {"method": "momentum"}, {"restart": None}], ids=str
)
@pytest.mark.parametrize("name", HOSTILE)
def test_the_end_is_never_worse_than_the_start(name, options):
    fun, jac = HOSTILE[name]
    start = np.ones(2)
    result = minimize(fun, start, jac=jac, maxiter=300, **options)
    assert np.isfinite(result.fun)
    assert result.fun <= fun(start)
    assert result.fun == fun(result.x)
    assert np.array_equal(result.jac, jac(result.x))
    if result.status >= 6:
        assert "x is the best point that was seen" in result.message


class Watched:
    """A function that fails where it must not be called."""

    def __init__(self, fun, lower, upper):
        self.fun, self.lower, self.upper = fun, lower, upper

    def __call__(self, x):
        assert (x >= self.lower).all(), x
        assert (x <= self.upper).all(), x
        return self.fun(x)


@pytest.mark.parametrize("method", ["nag", "fista", "gd"])
@pytest.mark.parametrize("differences", [False, True])
def test_with_bounds_nothing_is_called_outside(method, differences):
    """`sum x^1.5 - sum x` for x >= 0: 4/9; `2x - 1e-3 log x` for x >= 1e-6: 5e-4; and least values at a corner."""
    roots = (lambda x: float((x * np.sqrt(x)).sum() - x.sum()), lambda x: 1.5 * np.sqrt(x) - 1)
    logs = (lambda x: float((2 * x - 1e-3 * np.log(x)).sum()), lambda x: 2 - 1e-3 / x)
    bowl = (lambda x: float((x - 3) @ (x - 3)), lambda x: 2 * (x - 3))
    for (fun, jac), start, lower, upper, best, accuracy in (
        (roots, [0.0, 0.5], 0.0, np.inf, 4 / 9, 2e-5),
        (logs, [1.0], 1e-6, np.inf, 5e-4, 1e-7),
        (bowl, [-5.0, 0.5], -1.0, 1.0, 1.0, 0.0),
        (bowl, [0.0, 9.0], 2.0, 2.0, 2.0, 0.0),
    ):
        watched = Watched(fun, lower, upper)
        keywords = {"jac": None if differences else Watched(jac, lower, upper), "prox": "box"}
        bounds = {"options": {"bounds": (lower, upper)}}
        result = minimize(watched, start, method=method, **keywords, **bounds)
        assert result.success, result.message
        np.testing.assert_allclose(result.x, best, rtol=0, atol=accuracy)


def test_differences_at_a_bound_are_of_second_order():
    """Of exp at a bound: one-sided ones of first order would err by h/2 = 3e-6."""
    seen = minimize(lambda x: float(np.exp(x).sum()), [0.0, 1.0], prox="nonneg", maxiter=0)
    np.testing.assert_allclose(seen.jac, np.exp([0.0, 1.0]), rtol=1e-9)
    narrow = minimize(lambda x: float(np.exp(x).sum()), [0.0], prox="box", options={"bounds": (-1e-7, 1e-7)}, maxiter=0)
    np.testing.assert_allclose(narrow.jac, 1.0, rtol=1e-8)


def test_forms_of_arguments_that_scipy_takes():
    fun = lambda x: (float(x @ x), 2 * x[None, :])  # noqa: E731  (a gradient of shape (1, n))
    result = minimize(fun, np.ones(3), jac=True, maxiter=1e4, prox="box", options={"bounds": (0.5, 2)})
    assert result.success
    assert np.array_equal(result.x, [0.5, 0.5, 0.5])
    for bounds in ((0.5, None), [(0.5, 2.0)] * 3, [0.5, 2.0]):
        again = nagd_numba.minimize(fun, np.ones(3), jac=True, prox="box", options={"bounds": bounds})
        assert np.array_equal(again.x, result.x)
    with pytest.raises(TypeError, match=r"maxiter is 10\.5; a whole number is needed"):
        minimize(fun, np.ones(3), jac=True, maxiter=10.5)
