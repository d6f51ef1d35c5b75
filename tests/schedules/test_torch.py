"""Schedules beside PyTorch's schedulers, over whole runs and drawn parameters.

Where PyTorch multiplies from step to step, its own roundings add up: there its schedulers run on decimal numbers of 50
digits, and the schedule is near what the scheduler means.
"""

import math
from decimal import Decimal, getcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nagd_numba.schedules import (
    Exponential,
    Linear,
    MultiStep,
    OneCycle,
    Plateau,
    Progress,
    StepDecay,
    WarmRestarts,
)

torch = pytest.importorskip("torch")
lr_scheduler = torch.optim.lr_scheduler
RTOL = 1e-15

rates = st.floats(1e-6, 10)
factors = st.floats(0.05, 1)


def theirs(make, steps, lr, given=lambda scheduler, step: (), momentum=False):
    """The rate (or the momentum) that a scheduler has set at each of so many steps."""
    sgd = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr, momentum=0.9)
    scheduler, found = make(sgd), []
    sgd.step()
    for step in range(steps):
        found.append(sgd.param_groups[0]["momentum" if momentum else "lr"])
        if step < steps - 1:
            scheduler.step(*given(scheduler, step))
    return np.array([float(x) for x in found])


def in_decimals(make, steps, lr):
    getcontext().prec = 50
    return theirs(make, steps, Decimal(lr))


def ours(schedule, steps, updates=1, **more):
    return schedule.values(np.arange(steps), Progress(updates, 100, **more))


@given(lr=rates, gamma=factors, updates=st.integers(1, 20))
def test_exponential(lr, gamma, updates):
    steps = 60
    exact = in_decimals(lambda sgd: lr_scheduler.ExponentialLR(sgd, Decimal(gamma)), steps, lr)
    np.testing.assert_allclose(ours(Exponential(lr, gamma), steps), exact, rtol=RTOL)
    # With a step an epoch.
    np.testing.assert_allclose(
        ours(StepDecay(lr, 1, gamma), steps * updates, updates), np.repeat(exact, updates), rtol=RTOL
    )
    np.testing.assert_allclose(ours(Exponential(lr, gamma), steps * updates, updates)[::updates], exact, rtol=RTOL)
    # PyTorch's own numbers are so near to that as their roundings allow.
    rounded = theirs(lambda sgd: lr_scheduler.ExponentialLR(sgd, gamma), steps, lr)
    np.testing.assert_allclose(ours(Exponential(lr, gamma), steps), rounded, rtol=steps * RTOL)


@given(lr=rates, gamma=factors, milestones=st.lists(st.integers(1, 30), max_size=6).map(sorted))
def test_multi_step(lr, gamma, milestones):
    exact = in_decimals(lambda sgd: lr_scheduler.MultiStepLR(sgd, milestones, Decimal(gamma)), 32, lr)
    np.testing.assert_allclose(ours(MultiStep(lr, milestones, gamma), 32), exact, rtol=RTOL)
    np.testing.assert_allclose(ours(MultiStep(lr, milestones, gamma), 96, 3), np.repeat(exact, 3), rtol=RTOL)


@given(lr=rates, start=st.floats(0.01, 1), end=st.floats(0, 1), epochs=st.integers(1, 20))
def test_linear(lr, start, end, epochs):
    numbers = {"start_factor": Decimal(start), "end_factor": Decimal(end), "total_iters": epochs}

    class Decimals(lr_scheduler.LinearLR):
        """Its closed form, whose sums have no `1.0` of binary floating point."""

        def get_lr(self):
            return self._get_closed_form_lr()

    exact = in_decimals(lambda sgd: Decimals(sgd, **numbers), 25, lr)
    np.testing.assert_allclose(ours(Linear(lr * start, lr * end, epochs), 25), exact, rtol=RTOL, atol=RTOL * 1e-6)


@given(lr=rates, share=factors, epochs=st.integers(1, 12), growth=st.integers(1, 4))
def test_warm_restarts(lr, share, epochs, growth):
    """To the bit, once an update; and with parts of epochs, whose sums PyTorch rounds."""
    final = lr * share / 2
    found = theirs(lambda sgd: lr_scheduler.CosineAnnealingWarmRestarts(sgd, epochs, growth, final), 100, lr)
    assert ours(WarmRestarts(lr, epochs, growth, final), 100).tolist() == found.tolist()
    if growth == 1:
        parts = theirs(
            lambda sgd: lr_scheduler.CosineAnnealingWarmRestarts(sgd, epochs, growth, final),
            100,
            lr,
            given=lambda scheduler, step: ((step + 1) / 8,),
        )
        assert ours(WarmRestarts(lr, epochs, growth, final), 100, 8).tolist() == pytest.approx(
            parts.tolist(), rel=1e-14
        )


@given(
    lr=rates,
    epochs=st.integers(1, 12),
    updates=st.integers(1, 12),
    share=st.floats(0, 1),
    linear=st.booleans(),
    three=st.booleans(),
)
def test_one_cycle(lr, epochs, updates, share, linear, three):
    """To the bit, the momentum too."""
    total = epochs * updates
    share = share / 2 if three else share
    if total == 1 or share * total == 1 or (three and 2 * share * total == 2) or share == 1:
        return  # PyTorch divides by 0
    options = {"epochs": epochs, "share": share, "anneal": "linear" if linear else "cosine", "three_phases": three}

    def make(sgd):
        return lr_scheduler.OneCycleLR(
            sgd,
            *(lr, total),
            pct_start=share,
            anneal_strategy="linear" if linear else "cos",
            three_phase=three,
        )

    assert ours(OneCycle(lr, **options), total, updates).tolist() == theirs(make, total, lr).tolist()
    momentum = OneCycle(0.85, initial=0.95, final=0.95, **options)
    assert ours(momentum, total, updates).tolist() == theirs(make, total, lr, momentum=True).tolist()


@given(
    losses=st.lists(st.sampled_from([0.5, 0.7, 0.7 + 1e-5, 0.9, 1.0, 1.2, math.nan]), max_size=60),
    lr=st.sampled_from([0.3, 1e-6]),
    relative=st.booleans(),
    options=st.fixed_dictionaries(
        {
            "factor": st.sampled_from([0.1, 0.5, 0.9]),
            "patience": st.integers(0, 4),
            "threshold": st.sampled_from([0.0, 1e-4, 0.2]),
            "cooldown": st.integers(0, 3),
        }
    ),
    least=st.sampled_from([0.0, 0.01]),
    least_change=st.sampled_from([0.0, 1e-8, 0.01]),
)
def test_plateau(losses, lr, relative, options, least, least_change):
    """To the bit, from the losses of each epoch so far."""

    def make(sgd):
        mode = "rel" if relative else "abs"
        return lr_scheduler.ReduceLROnPlateau(sgd, threshold_mode=mode, min_lr=least, eps=least_change, **options)

    found = theirs(make, len(losses) + 1, lr, given=lambda _, step: (losses[step],))
    schedule = Plateau(lr, relative=relative, least=least, least_change=least_change, **options)
    got = [ours(schedule, 1, losses=losses[:k])[0] for k in range(len(losses) + 1)]
    assert got == found.tolist()
    held_out = ours(schedule, 3, losses=[1.0] * len(losses), validation_losses=losses)
    assert held_out.tolist() == [found[-1]] * 3  # where there are validation data, their loss decides


@given(lr=rates, gamma=factors, warmup=st.integers(1, 10), start=st.floats(0.01, 1), updates=st.integers(1, 4))
def test_one_after_the_other(lr, gamma, warmup, start, updates):
    def make(sgd):
        parts = [
            lr_scheduler.LambdaLR(sgd, lambda k: start + (1 - start) * k / warmup),
            lr_scheduler.LambdaLR(sgd, lambda k: gamma**k),
        ]
        return lr_scheduler.SequentialLR(sgd, parts, [warmup])

    found = theirs(make, 40, lr)
    schedule = Linear(lr * start, lr, warmup).then(Exponential(lr, gamma), warmup)
    np.testing.assert_allclose(ours(schedule, 40), found, rtol=2 * RTOL)
    np.testing.assert_allclose(ours(schedule, 40 * updates, updates)[::updates], found, rtol=2 * RTOL)


@given(lr=rates, gamma=factors, every=st.integers(1, 5))
def test_products(lr, gamma, every):
    """PyTorch's chained schedulers multiply the one rate."""

    def make(sgd):
        parts = lr_scheduler.ExponentialLR(sgd, Decimal(gamma)), lr_scheduler.StepLR(sgd, every, Decimal("0.5"))
        return lr_scheduler.ChainedScheduler(parts, optimizer=sgd)

    schedule = Exponential(lr, gamma).times(StepDecay(1.0, every, 0.5))
    np.testing.assert_allclose(ours(schedule, 40), in_decimals(make, 40, lr), rtol=2 * RTOL)
    found = theirs(lambda sgd: lr_scheduler.LambdaLR(sgd, lambda k: 1 / (1 + k)), 40, lr)
    np.testing.assert_allclose(ours(StepDecay(lr, 99).times(lambda k: 1 / (1 + k)), 40), found, rtol=RTOL)
