"""Theorems about the method, run on the kernels: exact recursions, rates, and a cycle where there must be one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nagd_numba.optimizers.conventions import TORCH
from nagd_numba.optimizers.registry import RULES
from tests.helpers.backends import ELEMENTS_FIRST, here

RULE = RULES["nesterov"]


@pytest.fixture(params=ELEMENTS_FIRST, ids=lambda backend: backend.name)
def backend(request):
    return here(request.param)


class Method:
    """Repeated steps of one backend on a gradient; `x` is the stored (look-ahead) point."""

    def __init__(self, backend, gradient, x0, nesterov=True):
        self.backend, self.gradient, self.options = backend, gradient, (TORCH, nesterov, 0, False)
        self.x, self.v = np.array(x0, float), np.zeros(len(x0))

    def step(self, lr, momentum, momentum_next=None):
        after = momentum if momentum_next is None else momentum_next
        g = np.array(self.gradient(self.x), dtype=float)
        self.backend.run(RULE, self.x, g, [self.v], (lr, momentum, after, 0.0), self.options)
        self.lr, self.after = lr, after

    @property
    def iterate(self):
        """Nesterov's iterate: the stored point without the look-ahead."""
        return self.x + self.lr * self.after * self.v  # torch's velocity has the other sign and no lr


def quadratic(seed, n, smallest, largest=1.0):
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.normal(size=(n, n)))
    eigenvalues = np.geomspace(smallest, largest, n) if smallest > 0 else np.linspace(0, largest, n)
    a = (q * eigenvalues) @ q.T
    return a, q @ rng.normal(size=n)


@given(curvature=st.floats(0.01, 1.0), lr=st.floats(0.05, 1.2), momentum=st.floats(0.0, 0.99), steps=st.integers(1, 30))
def test_companion_matrix(backend, curvature, lr, momentum, steps):
    """Along an eigenvector the iterates are powers of a 2x2 matrix."""
    method = Method(backend, lambda x: curvature * x, [1.0])
    # (x, b) -> b' = mu b + c x;  x' = x - lr (c x + mu b')
    c, mu = curvature, momentum
    companion = np.array([[1 - lr * c * (1 + mu), -lr * mu * mu], [c, mu]])
    state = np.array([1.0, 0.0])
    size = 1.0
    for _ in range(steps):
        method.step(lr, momentum)
        state = companion @ state
        size = max(size, np.abs(state).max())
    growth = max(1.0, np.linalg.norm(np.linalg.matrix_power(companion, steps), 2))
    bound = 20 * steps * size * growth * np.linalg.cond(companion + 1e-3 * np.eye(2)) * np.finfo(float).eps
    np.testing.assert_allclose([method.x[0], method.v[0]], state, rtol=0, atol=bound)


@pytest.mark.parametrize("seed", range(3))
def test_fista_bound(backend, seed):
    """f(x_k) - f* <= 2 L R^2 / (k+1)^2, on a singular quadratic, with the t_k schedule through two momenta."""
    a, optimum = quadratic(seed, 20, 0.0)

    def f(x):
        return 0.5 * (x - optimum) @ a @ (x - optimum)

    method = Method(backend, lambda x: a @ (x - optimum), np.zeros(20))
    radius2 = optimum @ optimum
    t, beta = 1.0, 0.0
    for k in range(1, 60):
        t_next = (1 + np.sqrt(1 + 4 * t * t)) / 2
        beta_next = (t - 1) / t_next
        method.step(1.0, beta, beta_next)
        t, beta = t_next, beta_next
        assert f(method.iterate) <= 2 * radius2 / (k + 1) ** 2


def test_two_momenta_are_fista(backend):
    """The stored point follows FISTA's y_k under its schedule; with one momentum it does not."""
    a, optimum = quadratic(7, 10, 0.01)

    def gradient(x):
        return a @ (x - optimum)

    x = y = np.zeros(10)
    two, one = Method(backend, gradient, x), Method(backend, gradient, x)
    t, beta = 1.0, 0.0
    for _ in range(40):
        t_next = (1 + np.sqrt(1 + 4 * t * t)) / 2
        beta_next = (t - 1) / t_next
        x_new = y - gradient(y)
        y = x_new + beta_next * (x_new - x)
        x = x_new
        two.step(1.0, beta, beta_next)
        one.step(1.0, beta_next)
        t, beta = t_next, beta_next
    np.testing.assert_allclose(two.x, y, rtol=0, atol=1e-13)
    np.testing.assert_allclose(two.iterate, x, rtol=0, atol=1e-13)
    assert np.abs(one.x - y).max() > 1e-3


@pytest.mark.parametrize("condition", [10.0, 100.0])
def test_linear_rate_of_strongly_convex_quadratics(backend, condition):
    """f(x_k) - f* <= (1 - 1/sqrt(K))^k (f(x_0) - f* + m/2 R^2) at lr = 1/L, momentum (sqrt(K)-1)/(sqrt(K)+1)."""
    a, optimum = quadratic(3, 15, 1 / condition)

    def f(x):
        return 0.5 * (x - optimum) @ a @ (x - optimum)

    root = np.sqrt(condition)
    method = Method(backend, lambda x: a @ (x - optimum), np.zeros(15))
    start = f(method.x) + 0.5 / condition * optimum @ optimum
    for k in range(1, 80):
        method.step(1.0, (root - 1) / (root + 1))
        assert f(method.iterate) <= (1 - 1 / root) ** k * start


def lessard(x):
    """The piecewise quadratic of Lessard, Recht and Packard (2016): smooth, strongly convex, condition 25."""
    return np.where(x < 1, 25 * x, np.where(x < 2, x + 24, 25 * x - 24))


def test_heavy_ball_cycles_where_nesterov_converges(backend):
    """SIAM J. Optim. 26 (2016), section 4.6."""
    ball = Method(backend, lessard, [3.3], nesterov=False)
    path = []
    for _ in range(90):
        ball.step(1 / 9, 4 / 9)
        path.append(ball.x[0])
    cycle = sorted([792 / 1225, -2208 / 1225, 2592 / 1225])
    np.testing.assert_allclose(sorted(path[-3:]), cycle, rtol=0, atol=1e-12)
    accelerated = Method(backend, lessard, [3.3])
    for _ in range(90):
        accelerated.step(1 / 25, 2 / 3)
    assert abs(accelerated.x[0]) < 1e-6


def test_stability_edge(backend):
    """On a quadratic the step is stable exactly for lr * curvature < (2 + 2 mu) / (1 + 2 mu)."""
    for momentum in (0.0, 0.9):
        edge = (2 + 2 * momentum) / (1 + 2 * momentum)
        sizes = []
        for lr in (0.98 * edge, 1.02 * edge):
            method = Method(backend, lambda x: x, [1.0])
            for _ in range(600):
                method.step(lr, momentum)
            sizes.append(abs(method.x[0]))
        assert sizes[0] < 0.01
        assert sizes[1] > 100
