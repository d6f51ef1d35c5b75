"""Epochs that are started before the last has ended: what whoever takes them sees is as if they were not."""

import numpy as np
import pytest

from nagd_numba.mlp.epochs import train_ahead, train_epochs
from nagd_numba.mlp.plan import Normalization, Plan


class Trainer:
    """Adds each epoch's rate to a number, and says what was called; `is_short` and `memory` as in `Asynchronous`."""

    def __init__(self, is_short=True, memory=True):
        self.plan = Plan(2, Normalization(1.0, 1, 1.0))
        self.is_short, self.memory, self.value, self.kept, self.calls = is_short, memory, 0.0, None, []

    def start(self, order, hyper, seed, first_step, on_call=None):
        self.calls.append(("start", first_step))
        self.value += float(hyper[0, 0])
        return Started(self, self.value)

    def epoch(self, *arguments):
        return self.start(*arguments).sums()

    def short(self, n):
        assert n == 4
        return self.is_short

    def keep(self):
        if self.memory:
            self.kept = self.value
        return self.memory

    def go_back(self):
        self.value = self.kept
        self.calls.append(("go back",))

    def finish(self):
        self.calls.append(("finish",))


class Started:
    def __init__(self, trainer, value):
        self.trainer, self.value = trainer, value

    def sums(self):
        self.trainer.calls.append(("sums", self.value))
        return np.array([self.value])


def epochs(trainer, count, hyper=lambda epoch: np.array([[1.0]]), train=train_ahead):
    return train(trainer, range(count), lambda epoch: np.arange(4), hyper)


def test_the_next_epoch_is_started_before_the_sums_of_the_last():
    trainer = Trainer()
    found = [(done.number, done.sums[0]) for done in epochs(trainer, 3)]
    assert found == [(0, 1.0), (1, 2.0), (2, 3.0)]
    assert [call[0] for call in trainer.calls] == ["start", "start", "sums", "start", "sums", "sums", "finish"]
    assert [call[1] for call in trainer.calls if call[0] == "start"] == [0, 2, 4]


@pytest.mark.parametrize("option", ["is_short", "memory"])
def test_long_epochs_and_those_without_memory_wait(option):
    trainer = Trainer(**{option: False})
    assert [done.number for done in epochs(trainer, 2)] == [0, 1]
    assert [call[0] for call in trainer.calls] == ["start", "sums", "start", "sums", "finish"]


@pytest.mark.parametrize("taken", [1, 2, 3])
def test_who_takes_no_more_finds_what_was_trained_in_what_he_took(taken):
    trainer = Trainer()
    course = epochs(trainer, 3)
    for _ in range(taken):
        next(course)
    course.close()
    assert trainer.value == taken
    assert trainer.calls[-1] == ("finish",) if taken == 3 else ("go back",)


def test_an_unfit_rate_of_the_next_epoch_is_refused_after_this_one():
    def hyper(epoch):
        if epoch == 1:
            raise ValueError("momentum is 2")
        return np.array([[1.0]])

    for train in (train_epochs, train_ahead):
        trainer = Trainer()
        course = epochs(trainer, 3, hyper, train)
        assert next(course).number == 0
        with pytest.raises(ValueError, match="momentum is 2"):
            next(course)
        assert trainer.value == 1.0


def test_no_epochs():
    assert list(epochs(Trainer(), 0)) == []
