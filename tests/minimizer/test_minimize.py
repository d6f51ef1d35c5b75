"""`minimize`: theorems, references, equal bits however it is run, and every way it ends."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest
from numba import njit

import nagd_numba
from nagd_numba import minimize
from tests.helpers.backends import JIT_OFF
from tests.helpers.springs import (
    ARGS,
    SCALES,
    START,
    TARGET,
    energy,
    energy_compiled,
    slope_compiled,
    springs,
    springs_compiled,
)

jitted = pytest.mark.skipif(JIT_OFF, reason="is about compiled functions")


OFF = {"tol": 0.0}


def same(a, b):
    fields = ("fun", "nit", "nfev", "njev", "status", "L", "restarts", "message")
    return np.array_equal(a.x, b.x) and np.array_equal(a.jac, b.jac) and all(a[name] == b[name] for name in fields)


@jitted
@pytest.mark.parametrize(
    "options",
    [
        {"L": 1.0},
        {"L": 1.0, "restart": "function"},
        {"L": 1.0, "restart": None},
        {"L": 1.0, "strong_convexity": 1e-3},
        {"L": 1.0, "method": "gd"},
        {"L": 1.0, "method": "momentum"},
        {"L": 1.0, "method": "momentum", "strong_convexity": 1e-3},
        {"L": 1.0, "options": {"momentum": 0.95, "ftol": 1e-9}},
        {},
        {"options": {"monotone": True}},
        {"prox": "l1", "options": {"l1": 0.01}},
        {"prox": "box", "options": {"bounds": [(0, 1)] * 8}},
    ],
    ids=str,
)
def test_python_and_compiled_loops_have_equal_bits(options):
    """One text: whether functions are jitted, and how often a callback looks on, changes nothing."""
    compiled = minimize(springs_compiled, START, ARGS, True, maxiter=400, **options)
    python = minimize(springs, START, ARGS, True, maxiter=400, **options)
    assert same(compiled, python)
    assert compiled.nit > 20
    seen = []
    watched = minimize(springs_compiled, START, ARGS, True, maxiter=400, callback=seen.append, **options)
    assert same(compiled, watched)
    assert len(seen) == watched.nit
    assert not START.any()


@pytest.mark.parametrize("form", ["apart", "differences"])
def test_forms_of_the_gradient(form):
    together = minimize(springs, START, ARGS, True, L=1.0, tol=1e-7)
    jac = slope_compiled if form == "apart" else None
    for fun in (energy, energy_compiled):
        other = minimize(fun, START, ARGS, jac, L=1.0, tol=1e-7)
        assert other.success
        if form == "apart":
            assert np.array_equal(other.x, together.x)
            assert other.nfev < 5  # values are not needed
            assert other.njev == together.njev
        else:
            # The gradient errs by some eps^(2/3), and x by that over the least curvature.
            np.testing.assert_allclose(other.x, TARGET, atol=(1e-7 + 1e-9) / SCALES[0])
            assert other.nfev > 16 * other.nit


def test_the_scheme_is_the_rule_with_two_momenta():
    """FISTA with a given L, and `nagd_numba.step` under FISTA's schedule."""
    p, v = START.copy(), np.zeros(8)
    momenta = nagd_numba.schedules.Fista().values(np.arange(61), None)
    for k in range(60):
        nagd_numba.step(p, springs(p, *ARGS)[1], v, 0.9, momenta[k], momenta[k + 1], convention="keras")
    iterate = p - momenta[60] * v
    result = minimize(springs, START, ARGS, True, "fista", L=1 / 0.9, restart=None, maxiter=60, **OFF)
    np.testing.assert_allclose(result.x, iterate, rtol=0, atol=1e-13)


def gaps(options, steps, scales=SCALES):
    values = []
    minimize(
        springs,
        START,
        (scales, TARGET),
        True,
        maxiter=steps,
        callback=lambda intermediate_result: values.append(intermediate_result.fun),
        **options,
        **OFF,
    )
    return np.array(values)


def test_bounds_of_the_theory():
    radius2 = TARGET @ TARGET
    k = np.arange(1, 201)
    fista = gaps({"method": "fista", "L": 1.0, "restart": None}, 200)
    assert (fista <= 2 * radius2 / (k + 1) ** 2).all()
    start = springs(START, *ARGS)[0]
    root = np.sqrt(SCALES[0])
    constant = gaps({"L": 1.0, "strong_convexity": SCALES[0]}, 200)
    assert (constant <= (1 - root) ** k * (start + 0.5 * SCALES[0] * radius2) * (1 + 1e-12)).all()
    descent = gaps({"method": "gd", "L": 1.0}, 200)
    assert (descent <= radius2 / (2 * k)).all()
    assert fista[-1] < 0.1 * descent[-1]  # it is accelerated


def test_backtracking_finds_no_more_than_twice_the_curvature():
    stiff = SCALES * 1e6
    values, seen = gaps({"method": "fista", "restart": None}, 200, stiff), []
    result = minimize(springs, START, (stiff, TARGET), True, "fista", restart=None, tol=1e-3, callback=seen.append)
    assert result.success
    assert 2 * stiff.max() >= result.L
    k = np.arange(1, len(values) + 1)
    assert (values <= 2 * (2 * stiff.max()) * (TARGET @ TARGET) / (k + 1) ** 2).all()
    tiny = minimize(springs, START, (stiff, TARGET), True, options={"L0": 1e-3})
    assert tiny.success
    assert stiff.max() / 2 < tiny.L <= 2 * stiff.max()


def test_monotone_never_rises():
    plain = gaps({"method": "fista", "L": 1.0, "restart": None}, 400)
    assert (np.diff(plain) > 0).any()  # FISTA ripples
    monotone = gaps({"method": "fista", "L": 1.0, "restart": None, "options": {"monotone": True}}, 400)
    assert (np.diff(monotone) <= 0).all()
    assert (monotone <= 2 * (TARGET @ TARGET) / (np.arange(1, 401) + 1) ** 2).all()


def least_squares(x, A, b):
    r = np.dot(A, x) - b
    return 0.5 * np.dot(r, r), np.dot(r, A)


def data(rows=40, columns=25):
    rng = np.random.default_rng(0)
    A = rng.normal(size=(rows, columns))
    return A, A[:, :5] @ rng.normal(size=5) + 0.1 * rng.normal(size=rows)


def test_l1_fulfils_the_conditions_of_an_optimum():
    """`a_j r = -w sign(x_j)` where x_j is not 0, and at most w elsewhere."""
    A, b = data()
    weights = np.linspace(1.0, 5.0, 25)
    result = minimize(least_squares, np.zeros(25), (A, b), True, prox="l1", tol=1e-9, options={"l1": weights})
    assert result.success
    correlation = A.T @ (A @ result.x - b)
    on = result.x != 0
    assert 0 < on.sum() < 25
    np.testing.assert_allclose(correlation[on], -weights[on] * np.sign(result.x[on]), atol=1e-7)
    assert (np.abs(correlation[~on]) <= weights[~on]).all()
    assert result.fun == pytest.approx(least_squares(result.x, A, b)[0] + weights @ np.abs(result.x), rel=1e-14)


def test_lasso_of_scikit_learn():
    linear_model = pytest.importorskip("sklearn.linear_model")
    A, b = data()
    theirs = linear_model.Lasso(0.1, fit_intercept=False, tol=1e-12, max_iter=100_000).fit(A, b).coef_
    ours = minimize(least_squares, np.zeros(25), (A, b), True, prox="l1", tol=1e-9, options={"l1": 0.1 * len(b)}).x
    np.testing.assert_allclose(ours, theirs, atol=1e-7)


def test_box_and_nonneg_of_scipy():
    optimize = pytest.importorskip("scipy.optimize")
    A, b = data()
    options = {"bounds": optimize.Bounds(-0.1, np.full(25, 0.2))}
    box = minimize(least_squares, np.ones(25), (A, b), True, prox="box", tol=1e-9, options=options)
    theirs = optimize.lsq_linear(A, b, (-0.1, 0.2), tol=1e-14)
    np.testing.assert_allclose(box.x, theirs.x, atol=1e-7)
    assert box.x.max() == 0.2
    positive = minimize(least_squares, np.zeros(25), (A, b), True, prox="nonneg", tol=1e-9)
    np.testing.assert_allclose(positive.x, optimize.nnls(A, b)[0], atol=1e-7)


@njit
def halfspace(z, step):
    """The projection onto sum(x) <= 1."""
    return z - max(z.sum() - 1.0, 0.0) / z.size


@njit
def no_penalty(x):
    return 0.0


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=jitted)])
def test_a_prox_of_the_users(compiled):
    """Nearest point of a half-space: target + c where the plane cuts."""
    fun, prox, penalty = springs, getattr(halfspace, "py_func", halfspace), lambda x: 0.0
    if compiled:
        fun, prox, penalty = springs_compiled, halfspace, no_penalty
    args = (np.ones(8), TARGET)
    result = minimize(fun, START, args, True, prox=prox, restart="function", tol=1e-10, options={"penalty": penalty})
    assert result.success
    np.testing.assert_allclose(result.x, TARGET - (TARGET.sum() - 1) / 8, atol=1e-9)


def test_every_way_to_end():
    def run(**options):
        return minimize(springs, START, ARGS, True, L=1.0, **options)

    converged = run(tol=1e-3)
    assert (converged.success, converged.status) == (True, 0)
    assert np.abs(converged.jac).max() <= 1e-3
    assert "tol = 0.001" in converged.message
    stalled = run(tol=0.0, options={"ftol": 1e-12})
    assert (stalled.success, stalled.status) == (True, 1)
    assert "ftol = 1e-12" in stalled.message
    assert stalled.fun < 1e-9
    rippling = run(method="fista", restart=None, tol=0.0, options={"ftol": 1e-6})  # F rises for a while: no rest
    assert rippling.status == 1
    assert rippling.fun < 1e-5
    short = run(maxiter=5)
    assert (short.success, short.status, short.nit) == (False, 2, 5)
    assert "maxiter = 5" in short.message
    assert short.fun == springs(short.x, *ARGS)[0]
    assert np.array_equal(short.jac, springs(short.x, *ARGS)[1])
    began = time.perf_counter()
    timed = minimize(
        lambda x: time.sleep(0.01) or (x @ x, 2 * x), np.ones(3), jac=True, L=1e6, options={"maxtime": 0.2}
    )
    assert (timed.success, timed.status) == (False, 3)
    assert 0 < timed.nit < (time.perf_counter() - began) / 0.01
    for callback in (lambda x: True, lambda intermediate_result: np.True_, stop):
        stopped = run(callback=callback)
        assert (stopped.success, stopped.status, stopped.nit) == (False, 99, 1)
    assert run(callback=lambda x: 1, maxiter=3).nit == 3  # no truth value


def stop(x):
    raise StopIteration


def test_a_callback_gets_copies_and_values():
    seen = []

    def spoil(intermediate_result):
        seen.append((intermediate_result.x.copy(), intermediate_result.fun))
        intermediate_result.x[:] = np.nan

    result = minimize(springs, START, ARGS, True, callback=spoil, tol=1e-4)
    assert result.success
    assert all(value == springs(x, *ARGS)[0] for x, value in seen)


def test_a_callback_that_raises_is_heard():
    def fail(x):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        minimize(springs, START, ARGS, True, callback=fail)


def test_the_look_ahead_may_leave_the_domain():
    """`x - m log x`: where values are not finite, L grows, or the momentum starts anew."""
    outside = []

    def fun(x):
        with np.errstate(all="ignore"):
            f, g = float(np.sum(x - 0.05 * np.log(x))), 1 - 0.05 / x
        if not np.isfinite(f):
            outside.append(x)
        return f, g

    result = minimize(fun, np.array([5.0, 3.0]), jac=True, options={"L0": 0.01})
    assert result.success
    assert result.restarts > 0
    assert len(outside) > 1
    np.testing.assert_allclose(result.x, 0.05, atol=1e-5)


INTERRUPTED = """
import signal, threading, time
import numpy as np
from numba import njit
from nagd_numba import minimize, minimize_many
signal.signal(signal.SIGINT, signal.default_int_handler)
@njit
def fun(x):
    return 0.5 * np.sum(x * x), x
for call in (
    lambda n: minimize(fun, np.ones(10), jac=True, L=1e300, tol=0.0, maxiter=n),
    lambda n: minimize_many(fun, np.ones((10_000, 10)), jac=True, L=1e300, tol=0.0, maxiter=n // 10**6 + 1),
):
    call(1)
    sent = []
    def interrupt():
        sent.append(time.perf_counter())
        signal.raise_signal(signal.SIGINT)
    threading.Timer(0.5, interrupt).start()
    try:
        call(10**12)
    except KeyboardInterrupt:
        print("after", time.perf_counter() - sent[0])
"""


@jitted
def test_ctrl_c_reaches_the_compiled_loop():
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, check=False, timeout=200, env=os.environ
    )
    assert done.stdout.count("after") == 2, done.stderr


def test_importing_brings_no_scipy():
    code = "import sys, numba; before = 'scipy' in sys.modules; import nagd_numba; "
    code += (
        "assert before or 'scipy' not in sys.modules; nagd_numba.minimize; assert 'scipy.optimize' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_loop_is_compiled_once_for_its_functions():
    if JIT_OFF:
        pytest.skip("is about compiled functions")
    from nagd_numba.minimizer.specialize import Functions, compiled

    minimize(springs_compiled, START, ARGS, True, maxiter=1)
    made = compiled(Functions(springs_compiled, None, "together"))
    count = len(made.advance.func.signatures)
    minimize(springs_compiled, START, ARGS, True, "gd", L=2.0, maxiter=1, options={"ftol": 1e-3})
    assert compiled(Functions(springs_compiled, None, "together")) is made
    assert len(made.advance.func.signatures) == count  # methods and options are no types


def test_statuses_are_those_documented():
    from nagd_numba.minimizer import algorithm

    names = ("GRADIENT", "DECREASE", "MAXITER", "TIME", "CALLBACK", "START", "DIVERGED", "SEARCH", "ROSE")
    assert [getattr(algorithm, name) for name in names] == list(range(9))
