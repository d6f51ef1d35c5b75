"""What `minimize` is given and cannot use: a clear error or a truthful result, never a wrong success."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from numba import njit

from nagd_numba import minimize, minimize_many
from tests.helpers.backends import JIT_OFF


def bowl(x):
    return 0.5 * x @ x


def slope(x):
    return x


def run(fun=bowl, x0=(1.0, 2.0), jac=slope, **options):
    return minimize(fun, x0, jac=jac, **options)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"fun": 3}, TypeError, "fun is an int; a function"),
        ({"fun": lambda: 1.0}, TypeError, r"fun does not fit: it is called as fun\(x, \*args\) with 0 args"),
        ({"fun": lambda x, a: 1.0}, TypeError, "missing a required argument: 'a'"),
        ({"fun": lambda x: x}, TypeError, "fun returned a numpy.ndarray; a real number"),
        ({"fun": lambda x: None}, TypeError, "fun returned a NoneType; a real number"),
        ({"fun": lambda x: 1j}, TypeError, "fun returned a complex"),
        ({"fun": lambda x: "1"}, TypeError, "fun returned a str"),
        ({"fun": lambda x: 1.0, "jac": True}, TypeError, r"with jac=True it must return \(value, gradient\)"),
        ({"fun": lambda x: (1.0, x[:1]), "jac": True}, ValueError, r"gradient of shape \(1,\) at an x of shape \(2,\)"),
        ({"jac": lambda x: np.ones(3)}, ValueError, r"jac returned a gradient of shape \(3,\) at an x of shape \(2,\)"),
        ({"jac": lambda x: np.ones((2, 1))}, ValueError, r"shape \(2, 1\)"),
        ({"jac": lambda x: 1.0}, ValueError, r"shape \(1,\)"),
        ({"jac": lambda x: [1j, 0]}, TypeError, "jac returned a list; an array of real numbers"),
        ({"jac": lambda: 0}, TypeError, "jac does not fit"),
        ({"jac": "2-point"}, TypeError, "jac is '2-point'"),
        ({"x0": [[1.0, 2.0]]}, ValueError, r"x0 has shape \(1, 2\)"),
        ({"x0": []}, ValueError, r"x0 has shape \(0,\)"),
        ({"x0": [1.0, np.nan]}, ValueError, r"x0\[1\] is nan; a start from finite numbers"),
        ({"x0": [1.0, np.inf]}, ValueError, r"x0\[1\] is inf"),
        ({"x0": SimpleNamespace(__cuda_array_interface__={})}, TypeError, "x0 is on a CUDA device"),
        ({"x0": "ab"}, TypeError, "x0 is a str; an array of real numbers"),
        ({"x0": [1j, 0]}, TypeError, "x0 is a list; an array of real numbers"),
        ({"L": 0}, ValueError, "L is 0; a finite number > 0"),
        ({"L": -1.0}, ValueError, "L is -1.0; a finite number > 0"),
        ({"L": math.nan}, ValueError, "L is nan"),
        ({"L": math.inf}, ValueError, "L is inf"),
        ({"L": "1"}, TypeError, "L is '1'; a number"),
        ({"strong_convexity": 0.0}, ValueError, "strong_convexity is 0.0; a finite number > 0"),
        ({"strong_convexity": 2.0, "L": 1.0}, ValueError, "it cannot be above L"),
        ({"strong_convexity": 0.1, "method": "fista"}, ValueError, "not used by method 'fista'"),
        ({"method": "nagg"}, ValueError, "did you mean 'nag'"),
        ({"restart": "gradients"}, ValueError, "did you mean 'gradient'"),
        ({"prox": "l2"}, ValueError, "prox is 'l2'; one of 'l1', 'box', 'nonneg' is needed"),
        ({"prox": "l1"}, ValueError, "prox is 'l1', which needs options={'l1': ...}"),
        ({"prox": "box"}, ValueError, "which needs options={'bounds': ...}"),
        ({"prox": "l1", "options": {"l1": -1}}, ValueError, r"options\['l1'\] is -1"),
        ({"prox": "l1", "options": {"l1": [1, 2, 3]}}, ValueError, "or 2 of them, is needed"),
        ({"prox": "box", "options": {"bounds": [(0, 1)]}}, ValueError, r"2 pairs \(min, max\)"),
        ({"prox": "box", "options": {"bounds": [(0, 1), (2, 1)]}}, ValueError, r"bounds\[1\] is \(2.0, 1.0\)"),
        ({"prox": "box", "options": {"bounds": SimpleNamespace(lb=[0, 0, 0], ub=1)}}, ValueError, "2 pairs"),
        ({"options": {"l1": 1.0}}, ValueError, "which goes with prox='l1', and prox is None"),
        ({"prox": lambda z, s: z[:1]}, ValueError, r"prox returned \(1,\)"),
        ({"prox": lambda z: z}, TypeError, "prox does not fit"),
        ({"prox": lambda z, s: z, "restart": "function"}, ValueError, "give the penalty"),
        ({"prox": "nonneg", "method": "momentum"}, ValueError, "no proximal form"),
        ({"options": {"penalty": bowl}}, ValueError, "belongs to a prox that is a function"),
        ({"options": {"mometum": 0.9}}, ValueError, "did you mean 'momentum'"),
        ({"options": [1]}, TypeError, "a dict with any of"),
        ({"options": {"momentum": 1.0}}, ValueError, "a number below 1"),
        ({"options": {"momentum": 0.9}, "method": "gd"}, ValueError, "for method 'nag' or 'momentum'"),
        ({"options": {"monotone": True}, "L": 1.0, "strong_convexity": 0.1}, ValueError, "without strong_convexity"),
        ({"options": {"monotone": "yes"}}, TypeError, "True or False"),
        ({"options": {"L0": 1.0}, "L": 1.0}, ValueError, "leaves nothing to find"),
        ({"options": {"maxtime": -1}}, ValueError, r"options\['maxtime'\] is -1"),
        ({"tol": -1e-3}, ValueError, "tol is -0.001"),
        ({"tol": math.nan}, ValueError, "tol is nan"),
        ({"maxiter": -1}, ValueError, "maxiter is -1; a whole number"),
        ({"maxiter": 1.5}, TypeError, "maxiter is 1.5; a whole number"),
        ({"callback": 1}, TypeError, "callback is 1; a function"),
    ],
    ids=lambda x: "-".join(x) if isinstance(x, dict) else "",
)
def test_unfit_arguments(options, error, message):
    with pytest.raises(error, match=message):
        run(**options)


@pytest.mark.skipif(JIT_OFF, reason="is about compiled functions")
def test_unfit_compiled_functions():
    @njit
    def vector(x):
        return x * x

    @njit
    def uncompilable(x):
        return x.no_such_thing

    @njit
    def short(x):
        return x[:1].copy()

    @njit
    def good(x):
        return 0.5 * np.sum(x * x)

    @njit
    def two(x, a):
        return a

    @njit
    def fails(x):
        if x[0] < 0.5:
            raise OverflowError("mine")
        return 0.5 * np.sum(x * x), x

    with pytest.raises(TypeError, match="fun returned a numpy"):
        run(vector, jac=None)
    with pytest.raises(TypeError, match=r"fun cannot be compiled .*: Unknown attribute 'no_such_thing'"):
        run(uncompilable, jac=None)
    with pytest.raises(ValueError, match=r"jac returned a gradient of shape \(1,\)"):
        run(good, jac=short)
    with pytest.raises(TypeError, match="missing a required argument: 'a'"):
        run(two, jac=None)
    with pytest.raises(OverflowError, match="mine"):
        run(fails, jac=True)


def test_a_gradient_whose_shape_changes_on_the_way():
    calls = []

    def fickle(x):
        calls.append(1)
        return x if len(calls) < 4 else np.ones(1)

    with pytest.raises(ValueError, match=r"shape \(1,\) for an x of shape \(2,\)"):
        run(jac=fickle)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite_at_the_start(value):
    for result in (
        run(lambda x: value),
        run(jac=lambda x: np.full(2, value)),
        run(lambda x: value, jac=None),
        run(lambda x: (value, x), jac=True, L=1.0),
        run(lambda x: value, L=1.0),
    ):
        assert (result.success, result.status) == (False, 5)
        assert "not finite at x0" in result.message
        assert result.x.tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("fun", "jac"),
    [
        (lambda x: float(-x.sum()), lambda x: -np.ones(2)),
        (lambda x: float(-x @ x), lambda x: -2 * x),
        (lambda x: float(-np.exp(x).sum()), lambda x: -np.exp(x)),
        (lambda x: float(-(x**3).sum()), lambda x: -3 * x**2),
    ],
    ids=["linear", "concave", "exponential", "cubic"],
)
@pytest.mark.parametrize("options", [{}, {"L": 1.0}, {"method": "gd"}, {"options": {"monotone": True}}], ids=str)
@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid")
def test_unbounded(fun, jac, options):
    result = minimize(fun, [1.0, 2.0], jac=jac, maxiter=2000, **options)
    assert not result.success
    assert result.status in (2, 6, 7)


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid")
def test_an_l_that_is_too_small():
    result = minimize(lambda x: (50 * x @ x, 100 * x), np.ones(2), jac=True, L=10.0)
    assert (result.success, result.status) == (False, 6)
    assert "L = 10 is below the curvature" in result.message


@pytest.mark.parametrize("L", [None, 1.0])
@pytest.mark.parametrize("ftol", [0.0, 1e-9])
@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid")
def test_a_gradient_of_the_wrong_sign(L, ftol):
    """The second leads to where the function is greatest, with a gradient of 0."""
    options = {"L": L, "maxiter": 500, "options": {"ftol": ftol}}
    assert not minimize(bowl, [1.0, 2.0], jac=lambda x: -x, **options).success
    hill = minimize(lambda x: float(np.cos(x).sum()), [1.0, 2.0], jac=lambda x: np.sin(x), **options)
    assert not hill.success
    assert hill.status in (7, 8)


def test_no_iterations():
    result = run(maxiter=0)
    assert (result.success, result.status, result.nit) == (False, 2, 0)
    assert result.x.tolist() == [1.0, 2.0]
    assert result.fun == 2.5
    assert result.jac.tolist() == [1.0, 2.0]
    at_optimum = run(x0=[0.0, 0.0], maxiter=0)
    assert (at_optimum.success, at_optimum.nit) == (True, 0)
    assert not run(maxiter=0, prox="nonneg").success


def test_what_is_taken():
    """Integers, lists, scalars, arrays of one element, tuples that are none."""
    assert minimize(lambda x, a: (x - a) ** 2, 1, 3, L=2.0).x == pytest.approx(3, abs=1e-4)
    assert minimize(lambda x: [(x[0] - 1) ** 2], [5], jac=lambda x: [2 * (x[0] - 1)]).success
    x0 = np.arange(3)[::-1].astype(np.float32)
    kept = x0.copy()

    def vandal(x):
        f = 0.5 * float(x @ x)
        x[:] = np.nan
        return f

    assert minimize(vandal, x0, jac=lambda x: x.copy()).success
    assert np.array_equal(x0, kept)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"X0": np.ones(3)}, ValueError, r"X0 has shape \(3,\); a matrix with a problem in each row"),
        ({"X0": np.empty((0, 3))}, ValueError, r"args\[0\] has shape \(4,\) and there are 0 problems"),
        ({"args": (np.ones(3),)}, ValueError, r"args\[0\] has shape \(3,\) and there are 4 problems"),
        ({"args": (2.0,)}, ValueError, "what all have in common goes to shared"),
        ({"options": {"maxtime": 1.0}}, ValueError, "which is for minimize"),
        ({"fun": lambda x, a: x}, TypeError, "a real number is needed"),
        ({"L": 0.0}, ValueError, "L is 0.0"),
    ],
)
def test_unfit_arguments_of_many(options, error, message):
    given = {"fun": lambda x, a: float(x @ x), "X0": np.ones((4, 3)), "args": (np.ones(4),), **options}
    with pytest.raises(error, match=message):
        minimize_many(given.pop("fun"), given.pop("X0"), **given)
