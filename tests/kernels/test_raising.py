"""Exceptions inside a `prange`: heard, or NaN, in every threading layer; and no row is left out in silence."""

import textwrap

import numpy as np
import pytest
from numba import njit

from nagd_numba import step
from nagd_numba.kernels.jit import SIMULATOR
from nagd_numba.optimizers.registry import OPTIMIZERS
from tests.helpers.backends import JIT_OFF
from tests.helpers.layers import LAYERS, run_under

pytestmark = pytest.mark.skipif(JIT_OFF or SIMULATOR, reason="is about compiled parallel code")

PRELUDE = """
import numpy as np
from numba import njit, prange
import nagd_numba

ROWS = 16
BAD = 1, 8, 15

def heard(call, message):
    try:
        call()
    except SystemError as error:  # so numba reports an exception of the calling thread's share
        assert message in str(error.__cause__), error.__cause__
        return True
    return False
"""

STEPS = """
from nagd_numba.optimizers.registry import OPTIMIZERS

def caller(optimizer):
    states = [f"s{k}" for k in range(len(optimizer.rule.states))]
    rows = ", ".join(f"{x}[k]" for x in ["p", "g", *states])
    t = ", t=3" if "t" in optimizer.settings else ""
    head = f"def many(p, g, {', '.join(states)}, lr):"
    namespace = {"prange": prange, "step": optimizer.step}
    exec(f"{head}\\n    for k in prange(len(lr)):\\n        step({rows}, lr=lr[k]{t})", namespace)
    return njit(parallel=True)(namespace["many"]), {"t": 3} if t else {}

for name in NAMES:
    optimizer = OPTIMIZERS[name]
    many, more = caller(optimizer)
    arrays = np.random.default_rng(0).uniform(1, 2, (2 + len(optimizer.rule.states), ROWS, 5))
    stepped = arrays.copy()
    for k in range(ROWS):
        optimizer.step(*stepped[:, k], lr=0.1, **more)
    for bad in BAD:
        rates = np.full(ROWS, 0.1)
        rates[bad] = -1.0
        found = arrays.copy()
        raised = heard(lambda: many(*found, rates), "lr must be a finite number >= 0")
        for k in range(ROWS):
            as_it_was, done = (np.array_equal(found[:, k], x[:, k]) for x in (arrays, stepped))
            spoiled = np.isnan(found[[0, *range(2, len(found))], k]).all() and np.array_equal(found[1, k], arrays[1, k])
            if k == bad:
                assert spoiled or (raised and as_it_was), (name, bad, k)
            else:
                assert done or (raised and as_it_was), (name, bad, k)
"""

SHAPES_IN_NESTED_LOOPS = """
@njit(parallel=True)
def inner(p, g, v, n):
    for k in prange(len(p)):
        nagd_numba.step(p[k], g[k, :n], v[k, ::-1], 0.1)

@njit(parallel=True)
def outer(p, g, v, n):
    for m in prange(len(p)):
        inner(p[m], g[m], v[m], n[m])

p, g, v = np.ones((3, 4, 4, 5))
n = np.full(4, 5)
n[3] = 4
raised = heard(lambda: outer(p, g, v, n), "grads must have the shape of params")
assert raised or (np.isnan(p[3]).all() and np.isnan(v[3]).all() and (p[:3] < 1).all())

"""

CONSTANTS_AND_NETWORKS = """
@njit(parallel=True)
def constants(rates, out):
    for k in prange(len(rates)):
        out[k] = nagd_numba.adam_constants(np.float64, 3, rates[k])[0]

rates, out = np.full(ROWS, 0.1), np.ones(ROWS)
rates[15] = -1
raised = heard(lambda: constants(rates, out), "lr must be")
assert raised or (np.isnan(out[15]) and (out[:15] == out[0]).all())

net = nagd_numba.MLP([3, 2])
predict, proba = net.compiled("predict"), net.compiled("predict_proba")

@njit(parallel=True)
def networks(params, X, widths, labels, out):
    for k in prange(len(widths)):
        labels[k] = predict(params, X[k:k + 1, :widths[k]].copy())[0]
        out[k] = proba(params, X[k:k + 1, :widths[k]].copy())[0, 0]

widths, labels, out = np.full(ROWS, 3), np.full(ROWS, 7), np.full(ROWS, 7.0)
widths[15] = 2
raised = heard(lambda: networks(net.init(0), np.ones((ROWS, 3), np.float32), widths, labels, out), "another size")
assert raised or (labels[15] == -1 and np.isnan(out[15]) and (out[:15] < 1).all())
"""

PROBLEMS = """
import warnings

@njit
def f(x, rate):
    if rate <= 0:
        raise ValueError("rate must be positive")
    return 0.5 * np.sum((x - 1 / rate) ** 2), x - 1 / rate

for bad in [15000], [0, 9]:
    said = f"{len(bad)} of 20000 raised; the first, problem {bad[0]}: ValueError: rate must be positive"
    rate = np.ones(20000)
    rate[bad] = 0
    start = np.full((20000, 1), 0.5)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        r = nagd_numba.minimize_many(f, start, (rate,), jac=True)
    assert said in r.message and said in str(caught[-1].message), r.message
    assert (r.status[bad] == 9).all() and np.isnan(r.fun[bad]).all() and (r.x[bad] == 0.5).all()
    good = np.delete(np.arange(20000), bad)
    assert r.success[good].all() and (r.nfev[good] > 0).all() and not r.success[bad].any()

@njit(parallel=True)
def inside(rates, tols, x, status):
    for m in prange(len(rates)):
        r = nagd_numba.minimize(f, np.zeros(1), (rates[m],), True, tol=tols[m])
        x[m], status[m] = r.x[0], r.status

for bad in BAD:
    for which, message in enumerate(("rate must be positive", "tol and maxiter must be >= 0")):
        arguments = np.ones(ROWS), np.full(ROWS, 1e-5)
        arguments[which][bad] = -1
        x, status = np.full(ROWS, 7.0), np.full(ROWS, 7)
        raised = heard(lambda: inside(*arguments, x, status), message)
        for k in range(ROWS):
            done = abs(x[k] - 1) < 1e-4 and status[k] == 0
            assert (np.isnan(x[k]) and status[k] == 9) if k == bad and not raised else done or raised
"""

NAMES = tuple(OPTIMIZERS)
CASES = {
    "step": f"NAMES = ('nesterov',)\n{STEPS}",
    "other-steps": f"NAMES = {NAMES[1:]}\n{STEPS}",
    "shapes-in-nested-loops": SHAPES_IN_NESTED_LOOPS,
    "constants-and-networks": CONSTANTS_AND_NETWORKS,
    "problems": PROBLEMS,
}
FIRST = {"omp": ("step", "problems"), "tbb": ("step",), "workqueue": ("step",)}


@pytest.mark.parametrize(
    ("case", "layer"),
    [
        pytest.param(case, layer, id=f"{case}-{layer}", marks=() if case in FIRST[layer] else pytest.mark.slow)
        for layer in LAYERS
        for case in CASES
        if (case, layer) != ("shapes-in-nested-loops", "workqueue")  # which has no nested loops
    ],
)
def test_in_prange(case, layer):
    done = run_under(layer, PRELUDE + textwrap.dedent(CASES[case]))
    assert done.returncode == 0, done.stderr[-3000:]


def test_what_is_heard_is_raised_before_any_write():
    """From Python, whoever holds the GIL."""

    @njit(nogil=True)
    def user(p, g, v, lr):
        step(p, g, v, lr)

    p, g, v = np.ones((3, 4))
    with pytest.raises(ValueError, match="lr must be a finite number >= 0"):
        user(p, g, v, -1.0)
    assert (p == 1).all()
    assert (v == 1).all()
