"""Functions that are drawn have in lanes the bits that they have alone, for any data and any lanes."""

import linecache

import numpy as np
import pytest

from nagd_numba.kernels.lanes import target
from nagd_numba.kernels.lanes.instructions import Unfit
from tests.helpers.backends import JIT_OFF
from tests.helpers.drawn_functions import Drawn
from tests.helpers.evaluations import Lanes

pytestmark = pytest.mark.skipif(JIT_OFF, reason="is about compiled functions")

N, PROBLEMS, FILLED = 3, 64, -7.25
SPECIAL = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e308, 5e-324, 1.0])
COMMON = (np.array([0.0, 0.5, 1.5, -2.0, 3.0]), np.array([0, 3, -1, 7, 2, 100]), 0.75)


def data(rng):
    """Starts, and rows: whole numbers of both sizes, reals with what is not finite among them, bytes, flags."""
    kind = rng.integers(-4, 9, PROBLEMS)
    kind[rng.random(PROBLEMS) < 0.05] = rng.choice([2**63 - 1, -(2**63), 2**31])
    X, row = rng.normal(size=(PROBLEMS, N)) * rng.choice([1.0, 10.0, 1e-3], (PROBLEMS, 1)), rng.normal(size=(64, 4))
    for x in (X, row):
        chosen = rng.random(x.shape) < 0.01
        x[chosen] = rng.choice(SPECIAL, chosen.sum())
    picks = rng.integers(-128, 128, (PROBLEMS, 3)).astype(np.int8)
    small = rng.random(picks.shape) < 0.7
    picks[small] %= 5
    return X, (kind, row, picks, rng.normal(size=PROBLEMS).astype(np.float32), rng.random(PROBLEMS) < 0.5)


def compiled(text, seed):
    """The function, whose text is there where Numba looks for it."""
    file = f"<drawn {seed}>"
    linecache.cache[file] = (len(text), None, text.splitlines(True), file)
    space = {"__name__": "drawn"}
    exec(compile(text, file, "exec"), space)
    return space["fun"]


def alone(fun, X, columns):
    """Of each problem the value and the gradient; None where it raises."""
    made = []
    for m in range(PROBLEMS):
        try:
            f, g = fun(X[m].copy(), *(column[m] for column in columns), *COMMON)
        except Exception:
            made.append(None)
        else:
            made.append((float(f), g.astype(float)) if g.shape == (N,) else None)
    return made


def same_bits(a, b):
    a, b = np.asarray(a), np.asarray(b)
    return np.array_equal(a, b, equal_nan=True) and np.array_equal(np.signbit(a)[a == a], np.signbit(b)[b == b])


def check(seed):
    """True where the function has lanes."""
    drawn, rng = Drawn(seed), np.random.default_rng(seed)
    fun = compiled(drawn.text, seed)
    X, columns = data(rng)
    try:
        lanes = Lanes(fun, N, columns, COMMON)
    except Unfit:
        return False
    expected = alone(target.here(fun), X, columns)
    for turn in range(24):
        rows, there = rng.integers(0, PROBLEMS, lanes.width), rng.random(lanes.width) < rng.choice([1.0, 0.5])
        if turn == 0:
            there[:] = True
        values, gradients, counts, failed = lanes(X, rows, there, FILLED)
        for lane, m in enumerate(rows):
            message = f"seed {seed}, turn {turn}, lane {lane}, problem {m}\n{drawn.text}"
            if not there[lane]:
                assert (values[lane], counts[lane], failed[lane]) == (FILLED, 0, False), message
                assert (gradients[lane] == FILLED).all(), message
            elif expected[m] is None:
                assert failed[lane], message
            else:
                f, g = expected[m]
                assert (counts[lane], failed[lane]) == (1, False), message
                assert same_bits(values[lane], f), message
                assert same_bits(gradients[lane], g), message
    return True


@pytest.mark.parametrize("seed", [21, pytest.param(8, marks=pytest.mark.ci)])
def test_drawn_functions(seed):
    assert check(seed)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("first", range(100, 200, 10))
def test_many_drawn_functions(first):
    assert sum(map(check, range(first, first + 10))) >= 5  # of some, nobody can make lanes
