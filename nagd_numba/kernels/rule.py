"""What an update rule is: one scalar function, and the names of what goes into it."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from .jit import plain
from .template import Template


class Range(NamedTuple):
    """The values that a hyper-parameter can have: finite ones from `low` to below `below`; with `whole` whole ones."""

    low: float = 0.0
    below: float = math.inf
    whole: bool = False

    def holds(self, value: float) -> bool:
        """Is the value one of them?  (NaN never is.)"""
        return self.low <= value < self.below and (not self.whole or value == math.floor(value))

    def __str__(self) -> str:
        kind, form = ("whole", ".0f") if self.whole else ("finite", "g")
        least = "" if self.low == -sys.float_info.max else f" >= {self.low:g}"
        return f"a {kind} number{least}" + (f" and < {self.below:{form}}" if self.below < math.inf else "")


@dataclass(frozen=True, eq=False)
class Rule:
    """An elementwise update rule, from which every loop on every target is made.

    name       what it is called in the registry and in the names of kernels
    update     `update(p, g, state, constants, options) -> (p, state)` on scalars of one type, where `state` and
               `constants` are tuples; made with `jit.inlined`
    constants  `constants(hyper, T, options) -> tuple` of scalars of type `T`: what `update` needs of the
               hyper-parameters, computed once per call; made with `jit.inlined`
    states     the names of the state arrays
    hyper      the names of the hyper-parameters (Python floats) and their defaults
    options    the names of the options that are fixed when a kernel is compiled, and their possible values;
               the first is the default
    ranges     what each hyper-parameter can be, where that is not every finite number >= 0
    tested     the positions of the constants that `update` compares with 0, and that usually are not: fused kernels
               have a loop for that case
    nonnegative  the states that are never negative, and enter by their square root in a denominator
    interpolated  a state `z` and a hyper-parameter `b` by name, where the parameters are `y = (1 - b) z + b x` of the
               point `x` that is evaluated; `b` is then the same in all steps, and `z` is `y` before the first
    only       `only(options)`, where `update` has more to compile than one choice of the options needs: what does the
               same for that choice alone
    split      `(once, then)` where `constants` computes powers: `then(hyper, once(hyper, options), T, options)` is the
               same, and what `once` makes (float64) depends on no hyper-parameter in `elementwise`
    elementwise  the hyper-parameters that may differ from element to element
    proximal   a template over `prox` and `keep` of the rule whose iterate is not `p`, or whose states follow it (see
               `composed`); None: the iterate is the new `p`, and the states do not know of it
    rate       `rate(hyper)`: the step size, where it is not `lr`
    scale      `scale(state, constants, options)`: what the step size of an element is multiplied by, in a rule that
               scales each by itself

    A rule made of others by `composed` also has

    inputs     arrays that are read only, of the dtype of the parameters: their values follow those of the states
    mask       "bytes": the last array, of bytes, is 0 where an element is neither read nor written; "places": it has
               the places of those that are, int64, ascending; "" for all elements
    exact      the constants are float64, whatever the parameters are
    of_users   a function of the user's is in it: its kernels are not kept on disk
    """

    name: str
    update: Callable
    constants: Callable
    states: tuple[str, ...]
    hyper: Mapping[str, float]
    options: Mapping[str, tuple[Any, ...]]
    ranges: Mapping[str, Range] = field(default_factory=dict)
    tested: tuple[int, ...] = ()
    nonnegative: tuple[str, ...] = ()
    interpolated: tuple[str, str] | None = None
    only: Callable[[tuple[Any, ...]], Callable] | None = None
    split: tuple[Callable, Callable] | None = None
    elementwise: tuple[str, ...] = ("lr", "weight_decay")
    proximal: Template | None = None
    rate: Callable | None = None
    scale: Callable | None = None
    inputs: tuple[str, ...] = ()
    mask: str = ""
    exact: bool = False
    of_users: bool = False

    def update_of(self, options: tuple[Any, ...]) -> Callable:
        """`update` for kernels whose options are fixed."""
        return self.update if self.only is None else self.only(options)

    def variants(self) -> Iterator[tuple[Any, ...]]:
        """Every combination of the options."""
        return itertools.product(*self.options.values())

    def defaults(self) -> tuple[Any, ...]:
        """The default of each option."""
        return tuple(values[0] for values in self.options.values())

    def range_of(self, name: str) -> Range:
        """What a hyper-parameter can be."""
        return self.ranges.get(name, Range())

    @property
    def counts_steps(self) -> bool:
        """Is there a hyper-parameter `t`, the number of the step?  (A `t` that need not be whole is something else.)"""
        return "t" in self.hyper and self.range_of("t").whole

    @property
    def moved(self) -> int:
        """How many arrays of the dtype of the parameters a step goes through."""
        return 2 + len(self.states) + len(self.inputs)

    @property
    def beside(self) -> tuple[str, ...]:
        """The names of all arrays beside the parameters and gradients."""
        return (*self.states, *self.inputs, *(("mask",) if self.mask else ()))

    @cached_property
    def constant_count(self) -> int:
        """How many scalars `constants` makes."""
        return len(self.scalars(tuple(self.hyper.values()), np.dtype(np.float64), self.defaults()))

    def scalars(self, hyper: tuple[float, ...], dtype: np.dtype, options: tuple[Any, ...]) -> tuple[Any, ...]:
        """What `constants` makes of checked hyper-parameters; raises where that leaves the range of `dtype`."""
        with np.errstate(all="ignore"):
            made = plain(self.constants)(hyper, dtype.type, options)
        if not all(map(np.isfinite, made)):
            given = ", ".join(
                f"{name}={int(value) if self.range_of(name).whole else value!r}"
                for name, value in zip(self.hyper, hyper, strict=True)
            )
            raise ValueError(f"{given}: together they leave the range of {dtype}; smaller values are needed")
        kind = np.float64 if self.exact else dtype.type
        return tuple(map(kind, made))  # compiled functions return Python's floats

    def kernel_name(self, options: tuple[Any, ...]) -> str:
        """The rule and its options as one word."""
        return "_".join([self.name, *map(str, options)])
