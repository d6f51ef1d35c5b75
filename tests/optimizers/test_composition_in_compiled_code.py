"""Masks, bounds, proximal maps, averages and rates for elements of steps inside users' compiled code."""

import contextlib
import re

import numpy as np
import pytest
from numba import njit, prange
from numba.core.errors import TypingError

import nagd_numba
from nagd_numba import step
from nagd_numba.kernels.composed import in_callers
from nagd_numba.optimizers import _overload
from tests.helpers import rules
from tests.helpers.backends import JIT_OFF
from tests.helpers.bits import assert_same_bits
from tests.helpers.composed_steps import long_dtypes

pytestmark = pytest.mark.skipif(JIT_OFF, reason="is about compiled callers")

N = 41


@njit
def shrunk(x, lr):
    return np.sign(x) * max(abs(x) - 0.1 * lr, 0.0)


def arrays_of(states, shape=N, dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    p, g, *states = (rng.normal(size=shape).astype(dtype) for _ in range(2 + states))
    return [p, g, *map(np.abs, states)]


def others(shape=N, dtype=np.float32):
    """A mask, bounds, rates, an average."""
    rng = np.random.default_rng(1)
    mask, lower = rng.random(shape) < 0.6, -np.abs(rng.normal(size=shape)).astype(dtype)
    rates, average = rng.uniform(0, 0.5, shape).astype(dtype), rng.normal(size=shape).astype(dtype)
    return {"mask": mask, "lower": lower, "rates": rates, "average": average}


def compiled(function, *given):
    """The function as it is called from Python, and compiled, on copies: what both have written must be equal."""
    pairs = [(x.copy(order="K"), x.copy(order="K")) if isinstance(x, np.ndarray) else (x, x) for x in given]
    function(*(x for x, _ in pairs))
    njit(function)(*(y for _, y in pairs))
    arrays = [(x, y) for x, y in pairs if isinstance(x, np.ndarray)]
    assert_same_bits(*([np.ascontiguousarray(z) for z in column] for column in zip(*arrays, strict=True)))
    return [x for x, _ in arrays]


def caller_of(optimizer, keywords):
    """What a user writes: `step(p, g, *states, <keywords>)`, in the names of the arguments behind the states."""
    states = [f"s{k}" for k in range(len(optimizer.rule.states))]
    if "t" in optimizer.settings:
        keywords = f"t=3, {keywords}"
    own = ", ".join(["p", "g", *states])
    source = f"def one({own}, mask, lower, rates, average):\n    step({own}, {keywords})"
    namespace = {"step": optimizer.step, "shrunk": shrunk}
    exec(source, namespace)
    return namespace["one"]


@rules.optimizers(default=(), ci=("nesterov",))
@long_dtypes
def test_everything_at_once_has_the_bits_of_the_call_from_python(optimizer, dtype):
    """A mask, bounds of both kinds, a map, an average, and an array of rates."""
    prox = "prox='l1', " + ("prox_weight=0.5, " if "prox" not in optimizer.settings else "weight=0.5, ")
    user = caller_of(optimizer, f"lr=rates, mask=mask, lower=lower, upper=1, {prox}average=(average, 0.25)")
    arrays, extra = arrays_of(len(optimizer.rule.states), dtype=dtype), others(dtype=dtype)
    p, *_, average = compiled(user, *arrays, *extra.values())
    assert_same_bits([p[~extra["mask"]]], [arrays[0][~extra["mask"]]])
    for x, y in ((p, arrays[0]), (average, extra["average"])):
        assert (x != y)[extra["mask"]].any()


@rules.optimizers(default=(), ci=("nesterov",))
@pytest.mark.parametrize(
    "keywords",
    [
        "mask=mask",
        "lower=-0.25, upper=0.25",
        "prox='l1', prox_weight=0.5",
        "prox=shrunk",
        pytest.param("prox='nonneg'", marks=pytest.mark.slow),
        "prox='scaled_l1', prox_weight=0.5",
        "weight_decay=rates",
        "lr=rates, weight_decay=rates",
        "average=(average, 1)",
    ],
)
def test_each_alone(optimizer, keywords):
    named = set(re.findall(r"(\w+)=", keywords))
    signature = set(_overload.bare_signature(optimizer.step).parameters)
    if not named <= signature or (optimizer.name == "fista_step" and "prox" in named):
        pytest.skip("no argument of this step")
    if "scaled_l1" in keywords and optimizer.rule.scale is None:
        pytest.skip("the rule scales no element")
    compiled(caller_of(optimizer, keywords), *arrays_of(len(optimizer.rule.states)), *others().values())


@pytest.mark.parametrize(
    "form",
    [
        pytest.param(x, marks=pytest.mark.ci if x == "strided" else pytest.mark.slow)
        for x in ("rows", "strided", "fortran")
    ],
)
def test_arrays_of_any_layout(form):
    def user(p, g, v, mask, lower, rates, average):
        step(p, g, v, rates, 0.75, mask=mask, lower=lower, average=(average, 0.5))

    lay = {"rows": np.asarray, "fortran": np.asfortranarray, "strided": lambda x: np.repeat(x, 2, axis=1)[:, ::-2]}[
        form
    ]
    given = [*arrays_of(1, (5, 8)), *others((5, 8)).values()]
    whole = [lay(x) if form != "strided" else lay(x[:, ::-1]) for x in given]
    assert_same_bits([np.ascontiguousarray(x) for x in whole], given)
    pairs = [x.copy() for x in given]
    njit(user)(*whole)
    user(*pairs)
    assert_same_bits([np.ascontiguousarray(x) for x in whole], pairs)


@pytest.mark.parametrize("kind", [np.int64, pytest.param(np.uint16, marks=pytest.mark.ci)])
def test_places(kind):
    def user(p, g, v, mask):
        step(p, g, v, 0.25, 0.75, mask=mask)

    arrays = arrays_of(1, (5, 8))
    compiled(user, *arrays, np.array([0, 3, 4, 39], kind))
    compiled(user, *arrays, np.array([], kind))


@pytest.mark.slow
def test_the_weight_decay_of_a_variable_may_be_0():
    @njit
    def user(p, g, v, lower, w):
        step(p, g, v, 0.25, weight_decay=w, decoupled=True, lower=lower)

    for w in (0.0, 0.25):
        arrays, lower = arrays_of(1), others()["lower"]
        wanted = [x.copy() for x in arrays]
        step(*wanted, 0.25, weight_decay=w, decoupled=True, lower=lower)
        user(*arrays, lower, w)
        assert_same_bits(arrays, wanted)


def test_an_average_over_a_whole_loop():
    """The mean of all points, and the exponential average, as `nagd_numba.Average` has them."""

    @njit
    def descend(p, g, v, mean, smooth, steps):
        for k in range(1, steps + 1):
            g[:] = p - 1
            step(p, g, v, 0.25, 0.5, average=(mean, nagd_numba.average_weight(k)))
            smooth += nagd_numba.average_weight(k, 0.75) * (p - smooth)

    p, g, v = arrays_of(1, dtype=np.float64)
    start, mean, smooth = p.copy(), np.zeros(N), np.zeros(N)
    averages = nagd_numba.Average(p), nagd_numba.Average(p, 0.75)
    descend(p, g, v, mean, smooth, 7)
    seen, (p, g, v) = [], arrays_of(1, dtype=np.float64)
    assert_same_bits([p], [start])
    for _ in range(7):
        own = [x.copy() for x in (p, v)]
        step(p, p - 1, v, 0.25, 0.5, average=averages[0])
        step(own[0], own[0] - 1, own[1], 0.25, 0.5, average=averages[1])
        seen.append(p.copy())
    assert_same_bits([mean], [averages[0].value])
    weights = 0.75 ** np.arange(6.0, -1.0, -1.0)
    for found, wanted in ((mean, np.mean(seen, axis=0)), (smooth, np.average(seen, axis=0, weights=weights))):
        # 7 steps of at most 4 roundings, the weight's included
        assert np.abs(found - wanted).max() < 7 * 5 * np.finfo(float).eps * np.abs(seen).max()
    assert np.isnan(nagd_numba.average_weight(3, 1.0))


def test_in_a_prange():
    """Problems that are unfit become NaN where nobody hears an exception; the others are stepped."""

    @njit(parallel=True)
    def user(p, g, v, upper, average):
        for k in prange(len(p)):
            step(p[k], g[k], v[k], 0.25, 0.5, lower=0.0, upper=upper[k], average=(average[k], 0.5))

    p, g, v = arrays_of(1, (64, 7))
    upper, average = np.full((64, 7), 0.5, np.float32), np.zeros((64, 7), np.float32)
    given = [x.copy() for x in (p, v, average)]
    for k in range(64):
        step(given[0][k], g[k], given[1][k], 0.25, 0.5, lower=0.0, upper=0.5, average=(given[2][k], 0.5))
    again = [x.copy() for x in (p, v, average)]
    user(again[0], g, again[1], upper, again[2])
    assert_same_bits(again, given)
    upper[40:] = -1.0
    again = [x.copy() for x in (p, v, average)]
    with contextlib.suppress(SystemError, ValueError):  # rows of the calling thread
        user(again[0], g, again[1], upper, again[2])
    for x, start, wanted in zip(again, (p, v, average), given, strict=True):
        stepped = (x[:40] == wanted[:40]).all(axis=1) | (x[:40] == start[:40]).all(axis=1)
        assert stepped.all()
        assert (np.isnan(x[40:]).all(axis=1) | (x[40:] == start[40:]).all(axis=1)).all()


@njit
def bounded(p, g, v, lower, upper):
    step(p, g, v, lower=lower, upper=upper)


@njit
def masked(p, g, v, mask, lr):
    step(p, g, v, lr, mask=mask)


@njit
def averaged(p, g, v, average, weight):
    step(p, g, v, average=(average, weight))


@njit
def mapped(p, g, v, weight):
    step(p, g, v, prox="l1", prox_weight=weight)


def unfit_calls(p, g, v, average):
    """Calls, and what their errors say; each that has a new type is compiled for it."""
    low, rates, ones = np.zeros_like(p), np.full(N, 0.5, np.float32), np.ones(N, bool)
    unfit = rates.copy()
    unfit[7] = -0.5
    return {
        "bounds": [
            (lambda: bounded(p, g, v, low, -0.5), "step: lower is above upper; lower <= upper is needed"),
            (lambda: bounded(p, g, v, low, np.nan), "upper must be a finite number$"),
            (lambda: bounded(p, g, v, low[1:], 1.0), "lower must have the shape of params"),
            (lambda: bounded(p, g, v, p, 1.0), "params, vel must not overlap with another array"),
        ],
        "places": [
            (lambda: masked(p, g, v, np.array([1, 1]), 0.1), "mask has places out of order or out of range"),
            (lambda: masked(p, g, v, np.array([2, 1]), 0.1), "mask has places out of order"),
            (lambda: masked(p, g, v, np.array([-1, 1]), 0.1), "mask has places out of order"),
            (lambda: masked(p, g, v, np.array([1, N]), 0.1), "mask has places out of order"),
            (lambda: masked(p, g, v, np.array([1]), np.nan), "lr must be a finite number >= 0"),
        ],
        "bytes": [
            (lambda: masked(p, g, v, ones[1:], rates), "mask must have the shape of params"),
            (lambda: masked(p, g, v, ones, rates[1:]), "lr must have the shape of params"),
            (lambda: masked(p, g, v, ones, unfit), "for each element must be lr a finite number >= 0"),
            (lambda: masked(p, g, v, ones, np.full_like(rates, np.nan)), "for each element must be lr"),
            (lambda: masked(p, g, v, ones, np.full_like(rates, np.inf)), "for each element must be lr"),
        ],
        "numbers": [
            (lambda: bounded(p, g, v, 1.0, 0.5), "step: lower is above upper"),
            (lambda: bounded(p, g, v, -np.inf, 1.0), "lower must be a finite number$"),
        ],
        "arrays": [
            (lambda: bounded(p, g, v, low, low - 1), "lower is above upper"),
            (lambda: bounded(p, g, v, low, low[1:]), "upper must have the shape of params"),
        ],
        "averages": [
            (lambda: averaged(p, g, v, average, 1.5), "average_weight must be a finite number >= 0 and < 1"),
            (lambda: averaged(p, g, v, average[1:], 1.0), "average must have the shape of params"),
            (lambda: averaged(p, g, v, v, 1.0), "must not overlap"),
        ],
        "maps": [(lambda: mapped(p, g, v, -1.0), "prox_weight must be a finite number >= 0")],
        "strides": [
            (lambda: bounded(p[::2], g[::2], v[::2], 1.0, 0.5), "lower is above upper"),
            (lambda: masked(p[::2], g[::2], v[::2], ones[::2], unfit[1::2]), "lr must have the shape"),
            (lambda: masked(p[1::2], g[1::2], v[1::2], ones[1::2], unfit[1::2]), "for each element must be lr"),
            (lambda: masked(p[1::2], g[1::2], v[1::2], ones[1::2], p[1::2]), "must not overlap"),
        ],
    }


@pytest.mark.parametrize(
    "kind",
    [
        "bounds",
        "places",
        *(pytest.param(x, marks=pytest.mark.ci) for x in ("bytes", "numbers", "arrays", "averages", "maps")),
        pytest.param("strides", marks=pytest.mark.slow),
    ],
)
def test_errors_at_run_time_come_before_any_write(kind):
    arrays = [*arrays_of(1), np.zeros(N, np.float32)]
    before = [x.copy() for x in arrays]
    for call, message in unfit_calls(*arrays)[kind]:
        with pytest.raises(ValueError, match=message):
            call()
        assert_same_bits(arrays, before)


@pytest.mark.ci
def test_arrays_that_are_only_read_may_share_memory():
    p, g, v = arrays_of(1)
    low = np.zeros_like(p)
    bounded(p, g, v, low, low)
    assert not p.any()


def test_errors_at_compile_time_name_the_argument():
    p, g, v = arrays_of(1)
    mask, average = np.ones(N, bool), np.zeros_like(p)
    read_only = average.copy()
    read_only.flags.writeable = False

    @njit
    def named(p, g, v, name):
        step(p, g, v, prox=name)

    @njit
    def misspelt(p, g, v):
        step(p, g, v, prox="l2")

    @njit
    def weightless(p, g, v):
        step(p, g, v, prox="l1")

    @njit
    def unscaled(p, g, v):
        step(p, g, v, prox="scaled_l1", prox_weight=1.0)

    @njit
    def twice(p, g, v):
        step(p, g, v, prox="nonneg", lower=0.0)

    @njit
    def grouped(p, g, v, groups):
        step(p, g, v, groups=groups)

    @njit
    def alone(p, g, v, average):
        step(p, g, v, average=average)

    @njit
    def momenta(p, g, v, momentum):
        step(p, g, v, 0.1, momentum, mask=momentum > 0)

    @njit
    def streamed(p, g, v, mask):
        step(p, g, v, mask=mask, stream=3)

    for call, message in [
        (lambda: named(p, g, v, "l1"), "prox must be a constant inside compiled code"),
        (lambda: misspelt(p, g, v), "step: prox is 'l2'"),
        (lambda: weightless(p, g, v), "prox_weight, the weight of the norm, is needed"),
        (lambda: unscaled(p, g, v), "nesterov has no scale of elements"),
        (lambda: twice(p, g, v), "leave out one of them"),
        (lambda: grouped(p, g, v, (1, 2)), "groups are named in Python: .* call the step for each segment"),
        (lambda: alone(p, g, v, average), r"average is array.*\(average.value, average.weight\)"),
        (lambda: averaged(p, g, v, read_only, 1.0), r"average\[0\] is read-only"),
        (lambda: averaged(p, g, v, average.astype(np.float64), 1.0), r"average\[0\] is array\(float64"),
        (lambda: momenta(p, g, v, p), "momentum is array.*; a number is needed"),
        (lambda: bounded(p, g, v, "0", None), "lower is .*; a number is needed"),
        (lambda: bounded(p, g, v, average.reshape(1, N), None), "lower is .*number of dimensions"),
        (lambda: masked(p, g, v, p, 0.1), "mask is array.*; an array of bool or uint8"),
        (lambda: masked(p[::2], g[::2], v[::2], np.array([1]), 0.1), "places in C-contiguous arrays"),
        (lambda: streamed(p, g, v, mask), "stream is for CUDA arrays"),
    ]:
        with pytest.raises(TypingError, match=message):
            call()


@pytest.mark.ci
def test_a_loop_is_compiled_for_the_types_that_were_foreseen():
    """Else it would be compiled twice, the second time slowly."""
    made = []
    original = in_callers.composed_for_callers
    try:
        _overload.composed_for_callers = lambda *given: made.append(original(*given)) or made[-1]
        _overload._loop.cache_clear()
        p, g, v = arrays_of(1, (5, 8), np.float64)
        mask, lower = np.ones((5, 8), bool), np.zeros((5, 8))
        lower.flags.writeable = False

        @njit
        def user(p, g, v, mask, lower):
            step(p, g, v, mask=mask, lower=lower)

        user(p, g, v, mask, lower)
        user(*(np.repeat(x, 2, axis=1)[:, ::2] for x in (p, g, v, mask, lower)))
    finally:
        _overload.composed_for_callers = original
    assert [len(x.signatures) for x in made] == [1, 1]
