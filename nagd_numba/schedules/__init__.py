"""Schedules of the learning rate and of the momentum, for `MLP.fit` and `fit_many`.

A schedule is a function of the number of the update (from 0) and of what training has reached; it holds no state, so a
resumed run continues it.  Any Python function `f(t)` of the update's number is one as well.  Schedules are put together
by their methods:

    Linear(0.01, 0.1, epochs=5).then(Cosine(0.1, epochs=25), 5)    one, and after 5 epochs another
    Exponential(0.1, 0.9).times(lambda t: 1 if t % 2 else 0.5)      the product
    WarmRestarts(0.1, epochs=5).clamp(low=0.001)                    within limits
"""

from .base import Constant, Progress, Schedule, as_schedule
from .cosines import Cosine, OneCycle, WarmRestarts
from .decays import Exponential, InverseScaling, Linear, MultiStep, StepDecay
from .momenta import Fista, Sutskever
from .plateaus import Adaptive, Plateau

__all__ = [
    "Adaptive",
    "Constant",
    "Cosine",
    "Exponential",
    "Fista",
    "InverseScaling",
    "Linear",
    "MultiStep",
    "OneCycle",
    "Plateau",
    "Progress",
    "Schedule",
    "StepDecay",
    "Sutskever",
    "WarmRestarts",
    "as_schedule",
]
