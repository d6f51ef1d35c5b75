"""Schedules made of others: what each part is told, when training ends, and what is refused."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nagd_numba.schedules import Adaptive, Constant, Cosine, Plateau, Progress, StepDecay


def values(schedule, t, updates=10, **more):
    return schedule.values(np.asarray(t), Progress(updates, 100, **more)).tolist()


@given(epochs=st.integers(1, 5), updates=st.integers(1, 7))
def test_the_second_counts_from_its_start(epochs, updates):
    second = StepDecay(0.5, every=2, factor=0.25)
    got = values(Constant(1).then(second, epochs), np.arange(10 * updates), updates)
    assert got[: epochs * updates] == [1.0] * (epochs * updates)
    assert got[epochs * updates :] == values(second, np.arange((10 - epochs) * updates), updates)


def test_parts_of_epochs():
    assert values(Constant(1).then(2, 0.25), np.arange(5), 10) == [
        1,
        1,
        1,
        2,
        2,
    ]  # 2.5 updates: the third is of the first


def test_three_in_a_row_and_nested():
    a, b, c = Constant(1), Constant(2), Constant(3)
    left, right = a.then(b, 1).then(c, 3), a.then(b.then(c, 2), 1)
    assert values(left, np.arange(50)) == values(right, np.arange(50)) == [1] * 10 + [2] * 20 + [3] * 20


def test_the_second_is_told_the_losses_since_its_start():
    plateau = Plateau(0.8, factor=0.5, patience=0)
    schedule = Constant(1).then(plateau, 2)
    losses = [0.1, 0.1, 9.0, 9.0, 9.0]
    for k in range(len(losses) + 1):
        got = values(schedule, [10 * k], losses=losses[:k], validation_losses=losses[:k])
        assert got == ([1.0] if k < 2 else values(plateau, [0], losses=losses[2:k]))


def test_training_ends_with_the_schedule_in_force():
    ending = Adaptive(1.0, patience=0, least=2.0)  # at the second loss that is not lower
    told = [Progress(1, 1, [1.0] * k) for k in range(6)]
    assert [ending.ended(x) for x in told] == [False, False, True, True, True, True]
    assert [Constant(1).then(ending, 2).ended(x) for x in told] == [False] * 4 + [True] * 2
    assert [ending.then(Constant(1), 1).ended(x) for x in told] == [False] * 6
    assert [ending.times(2).clamp(0.1).ended(x) for x in told] == [ending.ended(x) for x in told]


@given(low=st.floats(0, 1), more=st.floats(0, 1))
def test_clamped(low, more):
    cosine = Cosine(1.5, 3)
    got = values(cosine.clamp(low, low + more), np.arange(40))
    assert got == np.clip(values(cosine, np.arange(40)), low, low + more).tolist()


def test_what_can_be_foreseen():
    cosine, plateau = Cosine(1, 2), Plateau(1)
    assert cosine.then(cosine, 1.5).times(cosine).clamp(0.1).foreseeable
    for schedule in (cosine.then(plateau, 1), plateau.times(cosine), plateau.clamp(0.1), cosine.times(lambda t: t)):
        assert not schedule.foreseeable


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Constant(1).then(2, 0), ValueError, "Schedule.then: epochs is 0; a finite number > 0"),
        (lambda: Constant(1).then(2, math.nan), ValueError, "Schedule.then: epochs is nan"),
        (lambda: Constant(1).then(-2, 1), ValueError, "Schedule.then: other is -2"),
        (lambda: Constant(1).then(Cosine, 1), TypeError, "Schedule.then: other is the class Cosine"),
        (
            lambda: Constant(1).then(Plateau(1.0), 0.5),
            ValueError,
            r"Schedule.then: epochs is 0.5, and Plateau\(.*\) may look at the losses of whole epochs",
        ),
        (lambda: Constant(1).times("2"), TypeError, "Schedule.times: other is '2'"),
        (lambda: Constant(1).clamp(-1), ValueError, "Schedule.clamp: low is -1"),
        (lambda: Constant(1).clamp(high=math.nan), ValueError, "Schedule.clamp: high is nan"),
        (lambda: Constant(1).clamp(2, 1), ValueError, "Schedule.clamp: low is 2 and high 1; low <= high"),
    ],
)
def test_what_is_refused(make, error, message):
    with pytest.raises(error, match=f"^{message}"):
        make()
