"""`check_grad`: no false alarm, and no wrong gradient that passes."""

import math

import numpy as np
import pytest
from numba import njit
from scipy import optimize

from nagd_numba import check_grad
from tests.helpers.backends import JIT_OFF

RANDOM = np.random.default_rng(0)
X, C = RANDOM.normal(size=(2, 5))
A, B = RANDOM.normal(size=(40, 5)), RANDOM.normal(size=40)
A32, B32 = A.astype(np.float32), B.astype(np.float32)
SCALES = 10.0 ** np.arange(-6, 9, 3)
LEAST = np.linalg.lstsq(A, B, rcond=None)[0]


def rosenbrock(x):
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


@njit
def compiled_both(x, c):
    return np.sum((x - c) ** 2), 2 * (x - c)


@njit
def compiled_cubes(x):
    return np.float32(np.sum(x**3))


@njit
def compiled_squares(x):
    return 3 * x**2


def single(x):
    r = A32 @ x.astype(np.float32) - B32
    return np.float32(0.5) * (r @ r)


def single_slope(x):
    return A32.T @ (A32 @ x.astype(np.float32) - B32)


def noisy(x):
    """Noise of 1e-7, relative, the same at the same point."""
    return float(np.sum((x - C) ** 2)) * (1 + 1e-7 * math.sin(1e12 * float(np.sum(x))))


def square(x):
    return np.sum((x - C) ** 2)


def square_slope(x):
    return 2 * (x - C)


# A function, its gradient, where.
RIGHT = {
    "tiny": (lambda x: 1e-7 * square(x), lambda x: 1e-7 * square_slope(x), X),
    "on a large constant": (lambda x: 1e9 + square(x), square_slope, X),
    "zero at the optimum": (square, square_slope, C),
    "rounding at the optimum": (lambda x: np.sum((A @ x - B) ** 2), lambda x: 2 * A.T @ (A @ x - B), LEAST),
    "components of all scales": (lambda x: SCALES @ (x - C) ** 2, lambda x: 2 * SCALES * (x - C), X),
    "large x": (lambda x: np.sum(np.sin(x / 1e6)), lambda x: np.cos(x / 1e6) / 1e6, 1e8 * X),
    "small x": (lambda x: np.sum(np.log(x)), lambda x: 1 / x, 1e-8 * np.abs(X)),
    "short waves": (lambda x: np.sum(np.sin(1e5 * x)), lambda x: 1e5 * np.cos(1e5 * x), X),
    "a domain": (lambda x: sum(math.log(v) for v in x), lambda x: 1 / x, 1e-7 * np.abs(X)),
    "float32": (single, single_slope, X),
    "float32 as a float": (lambda x: float(single(x)), single_slope, X),
    "float32 at the optimum": (single, single_slope, LEAST),
    "partly float32": (lambda x: float(single(x)) + 1e-3 * float(x @ x), lambda x: single_slope(x) + 2e-3 * x, X),
    "noise": (noisy, square_slope, X),
    "beside a kink": (lambda x: np.sum(np.abs(x)) + 0 * x[0], np.sign, X),
    "right beside a kink": (lambda x: np.sum(np.abs(x)) + 0 * x[0], np.sign, 1e-6 * X),
    "max": (lambda x: np.max(x) + 0 * x[0], lambda x: (x == x.max()) * 1.0, X),
    "linear": (lambda x: C @ x, lambda x: C, X),
    "constant": (lambda x: 7.0, np.zeros_like, X),
    "flat": (lambda x: np.sum(x**4), lambda x: 4 * x**3, np.zeros(3)),
    "compiled": (compiled_cubes, compiled_squares, X),
}
FLAT = ("zero at the optimum", "rounding at the optimum", "float32 at the optimum", "constant", "flat")
right = pytest.mark.parametrize(("fun", "jac", "x"), RIGHT.values(), ids=RIGHT)
STEEP = {name: case for name, case in RIGHT.items() if name not in FLAT}
steep = pytest.mark.parametrize(("fun", "jac", "x"), STEEP.values(), ids=STEEP)


@right
@pytest.mark.parametrize("method", [None, "central"])
def test_right(fun, jac, x, method):
    check = check_grad(fun, jac, x, method=method)
    assert check, check
    assert np.all(np.abs(check.gradient - jac(x)) <= check.uncertainties + 1e-5 * np.abs(check.gradient))


@steep
@pytest.mark.parametrize("method", [None, "central"])
@pytest.mark.parametrize("factor", [-1.0, 1.03])
def test_wrong(fun, jac, x, method, factor):
    assert not check_grad(fun, lambda x: factor * jac(x), x, method=method)


@steep
def test_one_component_wrong(fun, jac, x):
    for k in range(len(x)):
        if jac(x)[k] == 0:
            continue

        def wrong(x, k=k):
            g = np.array(jac(x))
            g[k] *= -1
            return g

        check = check_grad(fun, wrong, x)
        assert not check
        assert check.worst == k


def test_wrong_at_the_optimum():
    for fun, jac, x in (RIGHT[k] for k in FLAT):
        assert not check_grad(fun, lambda x, jac=jac: jac(x) + 0.01, x)


def test_complex_step_is_kept_where_differences_are_worse():
    check = check_grad(lambda x: 1e9 + square(x), square_slope, X)
    assert check.method == "complex step"
    assert check.error < 1e-14
    assert check_grad(lambda x: np.sum(np.sin(1e5 * x)), lambda x: 1e5 * np.cos(1e5 * x), X).method == "complex step"


def test_what_differences_cannot_tell_is_said():
    """A gradient of 1e-7 on a constant of 1e9, of which differences see nothing."""
    check = check_grad(lambda x: float(1e9 + 1e-7 * square(x)), lambda x: -1e-7 * square_slope(x), X)
    assert check
    assert check.uncertainty > abs(check.analytic)
    assert "known to within" in str(check)


def test_float32_functions_of_many_variables():
    """No false alarm in a thousand components; 10 % in one of them is seen."""
    for seed in range(20):
        random = np.random.default_rng(seed)
        x, D = random.normal(size=30), random.normal(size=(50, 30)).astype(np.float32)
        y = random.integers(0, 2, 50).astype(np.float32)

        def loss(x, D=D, y=y):
            z = D @ x.astype(np.float32)
            return np.mean(np.logaddexp(0, z) - y * z)

        def slope(x, D=D, y=y):
            return D.T @ (1 / (1 + np.exp(-(D @ x.astype(np.float32)))) - y) / np.float32(50)

        def wrong(x, slope=slope):
            g = slope(x)
            g[np.argmax(np.abs(g))] *= np.float32(1.1)
            return g

        assert check_grad(loss, slope, x)
        assert not check_grad(loss, wrong, x)


def test_check_grad_of_a_right_gradient():
    x = np.random.default_rng(0).normal(size=6)
    check = check_grad(rosenbrock, optimize.rosen_der, x)
    assert check
    assert check.method == "complex step"
    assert float(check) < 1e-13
    assert "agrees with" in str(check)
    np.testing.assert_allclose(check.gradient, optimize.rosen_der(x), rtol=1e-13)
    central = check_grad(rosenbrock, optimize.rosen_der, x, method="central")
    assert central.method == "central differences"
    assert central.error < 1e-7
    assert np.all(np.abs(central.gradient - optimize.rosen_der(x)) <= central.uncertainties)


@pytest.mark.parametrize("component", range(4))
@pytest.mark.parametrize("method", ["complex", "central"])
def test_check_grad_names_the_wrong_component(component, method):
    x = np.random.default_rng(1).normal(size=4)

    def wrong(x):
        g = optimize.rosen_der(x)
        g[component] *= 1.01
        g[component - 1] *= 1.00002
        return g

    check = check_grad(rosenbrock, wrong, x, method=method)
    assert not check
    assert check.worst == component
    assert check.analytic == wrong(x)[component]
    assert check.numerical == pytest.approx(optimize.rosen_der(x)[component], rel=1e-7)
    assert f"DISAGREES with fun: the worst component is x[{component}]" in str(check)


def test_check_grad_is_not_misled_by_functions_that_are_not_analytic():
    """`abs` takes complex numbers and has a modulus: its complex step is 0."""
    x = np.array([1.0, -2.0])
    check = check_grad(lambda x: np.sum(np.abs(x)) + 0 * x[0], np.sign, x)
    assert check
    assert check.method == "central differences"
    with pytest.raises(TypeError, match="method='central' is left"):
        check_grad(lambda x: float(np.sum(np.abs(x))), np.sign, x, method="complex")


def test_check_grad_with_values_that_are_not_finite():
    check = check_grad(lambda x: float(x @ x), lambda x: np.array([2 * x[0], np.nan]), [1.0, 2.0])
    assert not check
    assert check.worst == 1
    assert check.error == np.inf


@pytest.mark.skipif(JIT_OFF, reason="is about compiled functions")
def test_check_grad_of_compiled_functions():
    check = check_grad(compiled_both, True, np.array([1.0, 2.0]), (np.ones(2),))
    assert check
    assert check.method == "complex step"


def test_check_grad_refuses():
    with pytest.raises(TypeError, match="jac is None; True or a function"):
        check_grad(rosenbrock, None, np.ones(3))
    with pytest.raises(ValueError, match="method is 'exact'"):
        check_grad(rosenbrock, optimize.rosen_der, np.ones(3), method="exact")
    with pytest.raises(ValueError, match="gradient of shape"):
        check_grad(rosenbrock, lambda x: x[:2], np.ones(3))
