"""Schedules of rates and momenta: their formulas, PyTorch's and scikit-learn's schedulers, FISTA's recursion."""

import math
import pickle
from decimal import Decimal, getcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nagd_numba import schedules
from nagd_numba.schedules import (
    Adaptive,
    Constant,
    Cosine,
    Exponential,
    Fista,
    InverseScaling,
    Linear,
    MultiStep,
    OneCycle,
    Plateau,
    Progress,
    Schedule,
    StepDecay,
    Sutskever,
    WarmRestarts,
    as_schedule,
)

EPS = np.finfo(float).eps
ALL = (
    *(Constant(0.1), StepDecay(0.1, 2), Cosine(0.1, 5, 1), InverseScaling(0.1), Adaptive(0.1), Sutskever(), Fista()),
    *(MultiStep(0.1, [2, 2, 5]), Exponential(0.1, 0.9), Linear(0.1, 0.2, 3.5), WarmRestarts(0.1, 2.5, 2, 0.01)),
    *(OneCycle(0.1, 7), OneCycle(0.85, 7, 0.4, 0.95, 0.95, "linear", True), Plateau(0.1)),
    Linear(0.1, 0.2, 3).then(WarmRestarts(0.2, 4).times(0.5), 3).clamp(0.05, 0.15),
    as_schedule("lr", lambda t: 1 / (t + 1)),
)


def values(schedule, t, updates=10, samples=100, losses=()):
    got = schedule.values(np.asarray(t), Progress(updates, samples, losses))
    assert got.dtype == np.float64
    assert got.shape == np.shape(t)
    return got


@pytest.mark.parametrize("schedule", ALL, ids=lambda schedule: type(schedule).__name__)
@given(first=st.integers(0, 10_000), count=st.integers(1, 50), updates=st.integers(1, 30))
def test_values_are_a_function_of_the_update(schedule, first, count, updates):
    """However the updates are divided into calls."""
    t = np.arange(first, first + count)
    together = values(schedule, t, updates, 100, [3.0, 2.0])
    assert together.tolist() == [values(schedule, [k], updates, 100, [3.0, 2.0])[0] for k in t]
    assert (together >= 0).all()
    assert np.isfinite(together).all()


@pytest.mark.parametrize("schedule", ALL[:-1], ids=lambda schedule: type(schedule).__name__)
def test_schedules_are_values(schedule):
    assert pickle.loads(pickle.dumps(schedule)) == schedule
    assert eval(repr(schedule), vars(schedules)) == schedule
    assert isinstance(schedule, Schedule)
    assert schedule.ended(Progress(10, 100, [1.0] * 5)) is False


@given(st.floats(0, 1e300))
def test_constant(value):
    assert (values(Constant(value), np.arange(3)) == value).all()


@given(every=st.integers(1, 5), updates=st.integers(1, 9), factor=st.floats(0.1, 1))
def test_step_decay(every, updates, factor):
    expected, rate = [], 0.3
    for epoch in range(20):
        expected += [rate] * updates
        rate = rate * factor if (epoch + 1) % every == 0 else rate
    got = values(StepDecay(0.3, every, factor), np.arange(20 * updates), updates)
    np.testing.assert_allclose(got, expected, rtol=25 * EPS)


def test_step_decay_and_cosine_of_torch():
    """A scheduler that steps once an update, in epochs of one update."""
    torch = pytest.importorskip("torch")
    t = np.arange(31)

    def rates(make):
        sgd = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
        scheduler, found = make(sgd), []
        for _ in t:
            found.append(sgd.param_groups[0]["lr"])
            sgd.step()
            scheduler.step()
        return found

    lr_scheduler = torch.optim.lr_scheduler
    # Torch multiplies from update to update: an error of some units for each.
    theirs = rates(lambda sgd: lr_scheduler.StepLR(sgd, 4, 0.5))
    np.testing.assert_allclose(values(StepDecay(0.3, 4, 0.5), t, updates=1), theirs, rtol=31 * 4 * EPS)
    theirs = rates(lambda sgd: lr_scheduler.CosineAnnealingLR(sgd, 30, 0.01))
    np.testing.assert_allclose(values(Cosine(0.3, 30, final=0.01), t, updates=1), theirs, rtol=0, atol=31 * 20 * EPS)


@given(
    peak=st.floats(1e-3, 10),
    share=st.floats(0, 0.9),
    warmup=st.integers(0, 3),
    epochs=st.integers(4, 10),
    updates=st.integers(1, 20),
)
def test_cosine(peak, share, warmup, epochs, updates):
    final = share * peak
    got = values(Cosine(peak, epochs, warmup, final), np.arange(epochs * updates + 50), updates)
    w, n = warmup * updates, epochs * updates
    np.testing.assert_allclose(got[:w], peak * np.arange(1, w + 1) / max(w, 1), rtol=2 * EPS)
    assert got[w] == pytest.approx(peak, rel=2 * EPS)
    assert (got[n:] == final).all()
    assert (np.diff(got[w : n + 1]) < 0).all()
    # Half a cosine is antisymmetric about its middle.
    np.testing.assert_allclose(got[w : n + 1] + got[w : n + 1][::-1], peak + final, rtol=0, atol=8 * EPS * peak)
    if (n - w) % 2 == 0:
        assert got[(w + n) // 2] == pytest.approx((peak + final) / 2, abs=4 * EPS * peak)


def test_cosine_with_parts_of_an_epoch():
    got = values(Cosine(1.0, epochs=1.5, warmup=0.5), [0, 4, 5, 10, 15, 16], updates=10)
    np.testing.assert_allclose(got, [0.2, 1, 1, 0.5, 0, 0], atol=1e-15)
    assert values(Cosine(1.0, epochs=1, warmup=1), [9, 10, 11], updates=10).tolist() == [1, 1, 0]  # all warm-up


def test_inverse_scaling_of_scikit_learn():
    module = pytest.importorskip("sklearn.neural_network._stochastic_optimizers")
    sgd = module.SGDOptimizer([np.zeros(1)], 0.3, "invscaling", power_t=0.6)
    theirs, seen = [], 0
    for _ in range(20):
        theirs += [sgd.learning_rate] * 7
        seen += 99
        sgd.iteration_ends(seen)
    got = values(InverseScaling(0.3, 0.6), np.arange(140), updates=7, samples=99)
    np.testing.assert_allclose(got, theirs, rtol=4 * EPS)


def adaptive_of_scikit_learn(losses, initial, patience, tolerance):
    """The rate after each epoch and whether training ends there: scikit-learn's loop around its own optimizer."""
    module = pytest.importorskip("sklearn.neural_network._stochastic_optimizers")
    sgd = module.SGDOptimizer([np.zeros(1)], initial, "adaptive")
    best, count = math.inf, 0
    for loss in losses:
        # MLPClassifier._update_no_improvement_count, and the end of an epoch in _fit_stochastic
        count = count + 1 if loss > best - tolerance else 0
        best = min(best, loss)
        sgd.iteration_ends(0)
        if count > patience:
            if sgd.trigger_stopping("", False):
                yield sgd.learning_rate, True
                return
            count = 0
        yield sgd.learning_rate, False


@given(
    losses=st.lists(st.sampled_from([0.5, 0.7, 0.7 + 1e-5, 0.9, 1.0, 1.2]), min_size=1, max_size=60),
    initial=st.sampled_from([0.3, 1e-5, 1e-6, 1e-7]),
    patience=st.integers(1, 4),
)
def test_adaptive_of_scikit_learn(losses, initial, patience):
    schedule = Adaptive(initial, patience)
    for k, (rate, ended) in enumerate(adaptive_of_scikit_learn(losses, initial, patience, 1e-4), 1):
        assert values(schedule, [0, 7], losses=losses[:k]).tolist() == [rate, rate]
        assert schedule.ended(Progress(10, 100, np.array(losses[:k]))) == ended


def test_adaptive_on_a_training_of_scikit_learn():
    """Its loss curve gives its final rate and its number of epochs."""
    neural_network = pytest.importorskip("sklearn.neural_network")
    random = np.random.default_rng(0)
    X = random.normal(size=(60, 3))
    y = (X[:, 0] > 0).astype(int)
    options = {"solver": "sgd", "learning_rate": "adaptive", "n_iter_no_change": 2, "tol": 1e-2, "max_iter": 500}
    net = neural_network.MLPClassifier((4,), learning_rate_init=0.1, random_state=0, **options).fit(X, y)
    assert net.n_iter_ < 500
    schedule = Adaptive(0.1, 2, 1e-2)
    assert schedule.ended(Progress(1, 1, net.loss_curve_))
    assert not schedule.ended(Progress(1, 1, net.loss_curve_[:-1]))
    assert values(schedule, [0], losses=net.loss_curve_)[0] == net._optimizer.learning_rate


@given(st.integers(0, 10**6))
def test_sutskever(t):
    """1 - 2^(-1 - log2(k)) is 1 - 1/(2k)."""
    k = t // 250 + 1
    assert values(Sutskever(), [t])[0] == pytest.approx(min(1 - 1 / (2 * k), 0.99), abs=4 * EPS)
    assert values(Sutskever(0.9), [t])[0] <= 0.9
    assert values(Sutskever(), [t, t + 1])[1] >= values(Sutskever(), [t])[0]


def test_fista():
    """The recursion with 50 digits: t_1 = 1, t_{k+1} = (1 + sqrt(1 + 4 t_k^2))/2, and (t_k - 1)/t_{k+1} at update k."""
    getcontext().prec = 50
    t, expected = Decimal(1), [Decimal(0)]
    for _ in range(2000):
        following = (1 + (1 + 4 * t * t).sqrt()) / 2
        expected.append((t - 1) / following)
        t = following
    got = values(Fista(), np.arange(2001))
    # Each step errs by some units and damps the errors before: at step k by at most 4 k of them.
    k = np.arange(2001)
    assert (abs(got - np.array(expected, float)) <= 4 * np.maximum(k, 1) * EPS).all()
    assert got[:2].tolist() == [0, 0]
    assert (np.diff(got[1:]) > 0).all()
    assert (got < 1).all()


def test_fista_needs_its_inequality():
    """t_{k+1}^2 - t_{k+1} <= t_k^2, the only thing that Beck's and Teboulle's proof needs, and t_k >= (k+1)/2."""
    momentum = values(Fista(), np.arange(1, 3000))
    t = [1.0]
    for k in range(1, 2999):
        t.append((t[-1] - 1) / momentum[k - 1] if momentum[k - 1] else (1 + math.sqrt(5)) / 2)
    t = np.array(t[:200])  # recovered from the momenta, where that is well conditioned
    assert (t[1:] ** 2 - t[1:] <= t[:-1] ** 2 * (1 + 1e-9)).all()
    assert (t >= (np.arange(1, 201) + 1) / 2 * (1 - 1e-9)).all()


def test_fista_far_away():
    """1 - 3/k to first order."""
    far = values(Fista(), [200_000])[0]
    assert (1 - far) * 200_000 == pytest.approx(3, rel=1e-3)


def test_functions():
    asked = []
    schedule = as_schedule("momentum", lambda t: asked.append(t) or t / 8)
    assert values(schedule, [3, 4]).tolist() == [0.375, 0.5]
    assert asked == [3, 4]
    assert all(type(t) is int for t in asked)
    assert values(as_schedule("lr", lambda t: np.float32(0.5)), [0]).tolist() == [0.5]


@pytest.mark.parametrize("x", [0.5, 1, np.float32(0.5), np.int8(1), np.array(0.25)])
def test_numbers(x):
    assert as_schedule("lr", x) == Constant(float(x))


def test_a_schedule_is_itself():
    schedule = Cosine(1, 2)
    assert as_schedule("lr", schedule) is schedule


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (-1, ValueError, "lr is -1; a finite number >= 0"),
        (math.nan, ValueError, "lr is nan"),
        (math.inf, ValueError, "lr is inf"),
        ("0.1", TypeError, "lr is '0.1'; a number"),
        (None, TypeError, "lr is None; a number"),
        (True, TypeError, "lr is True; a number"),
        ([0.1, 0.2], TypeError, r"lr is \[0.1, 0.2\]; a number"),
        (1j, TypeError, "lr is 1j; a number"),
        (Cosine, TypeError, r"lr is the class Cosine; an instance is needed: Cosine\(...\)"),
        (Schedule, TypeError, "lr is the class Schedule"),
    ],
)
def test_what_is_no_schedule(x, error, message):
    with pytest.raises(error, match=message):
        as_schedule("lr", x)


def test_the_base_has_no_values():
    with pytest.raises(NotImplementedError):
        values(Schedule(), [0])


@pytest.mark.parametrize(
    ("kind", "good", "ranges"),
    [
        (Constant, {"value": 0.1}, {"value": "number"}),
        (StepDecay, {"initial": 0.1, "every": 2}, {"initial": "number", "every": "count", "factor": "positive"}),
        (
            Cosine,
            {"peak": 0.1, "epochs": 3},
            {"peak": "number", "epochs": "positive", "warmup": "number", "final": "number"},
        ),
        (InverseScaling, {"initial": 0.1}, {"initial": "number", "power": "number"}),
        (
            Adaptive,
            {"initial": 0.1},
            {"initial": "number", "patience": "whole", "tolerance": "number", "least": "number"},
        ),
        (Sutskever, {}, {"most": "number"}),
        (MultiStep, {"initial": 0.1, "milestones": [1, 3]}, {"initial": "number", "factor": "positive"}),
        (Exponential, {"initial": 0.1, "factor": 0.9}, {"initial": "number", "factor": "positive"}),
        (
            Linear,
            {"initial": 0.1, "final": 0.2, "epochs": 0.5},
            {"initial": "number", "final": "number", "epochs": "positive"},
        ),
        (
            WarmRestarts,
            {"peak": 0.1, "epochs": 2.5},
            {"peak": "number", "epochs": "positive", "growth": "count", "final": "number"},
        ),
        (OneCycle, {"peak": 0.1, "epochs": 2.5}, {"peak": "number", "epochs": "positive", "share": "number"}),
        (
            Plateau,
            {"initial": 0.1},
            {
                **{"initial": "number", "factor": "positive", "patience": "whole", "threshold": "number"},
                **{"cooldown": "whole", "least": "number", "least_change": "number"},
            },
        ),
        (Progress, {"updates": 10, "samples": 100}, {"updates": "count", "samples": "count"}),
    ],
)
def test_every_parameter_is_checked_by_the_constructor(kind, good, ranges):
    kind(**good)
    bad = {
        "number": [-1, -1e-300, math.nan, math.inf, -math.inf, True, "1", None, [1.0]],
        "positive": [0, -3, math.nan, math.inf, False, "x", None],
        "count": [0, -1, 0.5, 2.0, math.nan, True, "2", None],
        "whole": [-1, 0.5, 2.0, math.nan, True, "2", None],
    }
    for name, range_ in ranges.items():
        for value in bad[range_]:
            with pytest.raises((TypeError, ValueError), match=f"^{kind.__name__}: {name} is "):
                kind(**(good | {name: value}))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StepDecay(0.1, every=-1), "StepDecay: every is -1; a whole number from 1 on is needed"),
        (lambda: Cosine(0.1, epochs=-3), "Cosine: epochs is -3; a finite number > 0 is needed"),
        (lambda: Cosine(0.1, 3, warmup=4), "Cosine: warmup is 4; a finite number >= 0 and <= 3 is needed"),
        (lambda: Sutskever(1.5), "Sutskever: most is 1.5; a finite number >= 0 and <= 1 is needed"),
        (lambda: MultiStep(0.1, [3, 2]), r"MultiStep: milestones is \[3, 2\]; epochs in order are needed"),
        (lambda: MultiStep(0.1, [1, 0]), r"MultiStep: milestones\[1\] is 0; a whole number from 1 on is needed"),
        (lambda: OneCycle(0.1, 3, 1.5), "OneCycle: share is 1.5; a finite number >= 0 and <= 1 is needed"),
        (lambda: OneCycle(0.1, 3, 0.7, three_phases=True), "OneCycle: share is 0.7; a finite number >= 0 and <= 0.5"),
        (lambda: OneCycle(0.1, 3, initial=-1), "OneCycle: initial is -1; a finite number >= 0 is needed"),
        (lambda: OneCycle(0.1, 3, final=math.nan), "OneCycle: final is nan; a finite number >= 0 is needed"),
        (lambda: OneCycle(0.1, 3, anneal="cos"), "OneCycle: anneal is 'cos'; one of 'cosine', 'linear' is needed"),
        (lambda: Plateau(0.1, factor=1), "Plateau: factor is 1; a finite number > 0 and < 1 is needed"),
        (lambda: Adaptive(2.0**60, patience=-(2**60)), "Adaptive: patience is -1152921504606846976; a whole"),
    ],
)
def test_parameters_out_of_range(make, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        make()


def test_edges_of_the_ranges():
    assert values(Cosine(0.1, 3, warmup=3), [29, 30, 31]).tolist() == [0.1, 0.1, 0.0]
    assert values(Cosine(np.float32(0.5), 0.5), [0])[0] == 0.5
    assert values(Adaptive(0.1, patience=0, least=0.0), [0])[0] == 0.1
    assert values(StepDecay(0, np.int64(1), factor=2), [0, 10]).tolist() == [0, 0]
    assert values(OneCycle(0.1, 1), [0], updates=1).tolist() == [0.1 / 25 / 1e4]  # the last update
    assert values(OneCycle(0.1, 4, share=0.25), [0, 3, 9], updates=1).tolist() == [0.1, 0.1 / 25 / 1e4, 0.1 / 25 / 1e4]
    assert values(OneCycle(0.1, 4, share=1.0), [3, 4], updates=1).tolist() == [0.1, 0.1 / 25 / 1e4]
    assert values(WarmRestarts(0.1, 0.3), [0, 3, 6], updates=10).tolist() == [0.1, 0.1, 0.1]
    assert values(MultiStep(0.1, []), [0, 10**6]).tolist() == [0.1, 0.1]
    assert values(Sutskever(1), [10**6])[0] == pytest.approx(1 - 1 / 8002)
