"""`Guard`: what a step does about its gradients before it uses them, and what it finds out about them."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import validation
from ..kernels import reductions
from ..kernels.loss_scale import Growth, next_scale
from ..kernels.rule import Rule
from . import scaled
from ._host import Groups
from .guarded_arrays import Whole, checked, gradient_sums, in_one_order, read_only

POLICIES = ("propagate", "skip", "raise")

_DOUBLE = np.dtype(np.float64)
_POWER = 600  # gradients times 2^-600 or 2^600 have squares that neither overflow nor underflow where others do


@dataclass
class Report:
    """What a guard found out in its last step on the host, and how many it skipped there."""

    norm: float = math.nan
    nonfinite_count: int = 0
    dot: float = math.nan
    skipped: bool = False
    skipped_steps: int = 0
    finite_steps: int = 0  # since the loss scale changed last


class _Option:
    """An attribute of a guard that is checked whenever it is set."""

    def __init__(self, checked: Callable[[str, Any], Any]) -> None:
        self._checked = checked

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, guard: Guard | None, owner: type) -> Any:
        return self if guard is None else guard.__dict__[self._name]

    def __set__(self, guard: Guard, value: Any) -> None:
        with validation.prefixed("Guard"):
            guard.__dict__[self._name] = self._checked(self._name, value)


def _limit(name: str, x: Any) -> float:
    return math.inf if x is None else validation.number(name, x, low_open=True, finite=False)


def _scale(name: str, x: Any) -> Any:
    return x if validation.is_device_array(x) else validation.number(name, x, low_open=True)


def _interval(name: str, x: Any) -> int | None:
    return None if x is None else validation.whole(name, x)


def _growth(name: str, x: Any) -> float:
    return validation.number(name, x, low=1.0, low_open=True)


def _backoff(name: str, x: Any) -> float:
    return validation.number(name, x, low_open=True, high=1.0, high_open=True)


def _policy(name: str, x: Any) -> str:
    return POLICIES[validation.choice(name, x, POLICIES)]


class Guard:
    """Clipping, a loss scale, and a watch over non-finite gradients for steps: `step(..., guard=guard)`.

    With the gradient `g` that a step is given, it uses

        g / grad_scale,  times clip_norm / |g / grad_scale| where that norm is larger than clip_norm,
        each element then cut to [-clip_value, clip_value]

    Parameters
    ----------
    clip_norm : float, optional
        Largest Euclidean norm, of all arrays of a list together; > 0.  None, or infinity, clips nothing.
    clip_value : float, optional
        Largest size of an element, > 0; the same.
    nonfinite : {"propagate", "skip", "raise"}
        With an infinity or NaN among the gradients: go on; leave parameters and states as they are (`skipped` says so,
        and a number `t` of the step should not be counted on); or do so and raise `FloatingPointError`.
    grad_scale : float
        What the loss was multiplied by, finite, > 0.  For device arrays also an array of one element on the device, of
        the dtype of the states: it is read when the step runs, and an unfit value there skips the step.
    growth_interval : int, optional
        With it `grad_scale` changes as the scale of `torch.amp.GradScaler` does: a skipped step multiplies it by
        `backoff_factor`, so many steps in a row that were not skipped by `growth_factor`.  Each loss is then to be
        multiplied by what `grad_scale` is at that time; for device arrays that is an array, which each step may write
        to.  Needs `nonfinite="skip"`.
    growth_factor, backoff_factor : float
        Finite, > 1, and between 0 and 1.  The products are rounded to the type of the states; one that is 0 or infinite
        there is not taken.

    Attributes
    ----------
    clip_norm, clip_value, nonfinite, grad_scale, growth_interval, growth_factor, backoff_factor
        The parameters.  They may be set between steps, and are checked when they are; a limit of None reads infinity.
    norm : float
        The Euclidean norm of `g / grad_scale` in the last step, before any clipping; infinity where it is larger than
        the largest float64.
    nonfinite_count : int
        The elements of `g` that are infinite or NaN, and those that the division by `grad_scale` makes infinite where
        no clipping brings them back.
    dot : float
        The sum of its products with the velocity (`vel`, `m`, or `iterate`) after the step, or NaN after a skipped one.
        With torch's convention a negative one, with the others a positive one, says that the last move was uphill: the
        test of gradient restarts.
    skipped : bool
        Did the last step leave everything as it was?
    skipped_steps : int
        How many steps did so far.

    Notes
    -----
    The sums are formed in float64 in the pass of the step itself, in an order that depends on the lengths alone: any
    number of threads, and any processor, gives equal bits.  `clip_norm`, "skip" and "raise" need them before: they
    cost another pass over the gradients.  With none of the options the step has the bits of one without a guard.

    Gradients of any size are clipped to the right length.  Where the sum of their squares, or the factor of a step,
    leaves the range of its type (float64 gradients from 1e154 on or all below 1e-154, a `grad_scale` of 1e-320), the
    sums are formed again of gradients times a power of two, and the step takes a scaled copy of the gradients.

    For contiguous arrays, called from Python.  With device arrays everything is decided on the device, which the host
    does not wait for, to the bits of the CPU (but for `dot` where it leaves the range of float64 or a gradient was
    scaled by a power of two: then it is not rounded once, and may be infinite or NaN).  Reading `norm`,
    `nonfinite_count`, `dot`, `skipped` or `skipped_steps` then waits for the device, and so does each step with
    "raise", which therefore no graph can capture.  A captured graph has the limits of the time of the capture, and
    writes to memory of the guard: keep the guard as long as the graph, step with it on one stream at a time.

    A copy or pickle goes on where the guard was.  In the place of an array that `growth_interval` lets change, it has
    the number that stood there: put it into another array before the next step on a device.

    Examples
    --------
    >>> import numpy as np
    >>> import nagd_numba
    >>> guard = nagd_numba.Guard(clip_norm=1.0, nonfinite="skip")
    >>> params, vel = np.zeros(2), np.zeros(2)
    >>> nagd_numba.step(params, np.array([3.0, 4.0]), vel, lr=1.0, momentum=0.0, guard=guard)
    array([-0.6, -0.8])
    >>> guard.norm
    5.0
    >>> _ = nagd_numba.step(params, np.array([np.nan, 0.0]), vel, guard=guard)
    >>> guard.skipped, guard.nonfinite_count, params
    (True, 1, array([-0.6, -0.8]))

    A scale that is halved where the gradients overflow:

    >>> guard = nagd_numba.Guard(nonfinite="skip", grad_scale=2.0**16, growth_interval=2000)
    >>> overflowing = np.array([np.inf, 1.0])  # of a loss that was multiplied by guard.grad_scale
    >>> _ = nagd_numba.step(params, overflowing, vel, guard=guard)
    >>> guard.skipped, guard.grad_scale
    (True, 32768.0)
    """

    clip_norm = _Option(_limit)
    clip_value = _Option(_limit)
    nonfinite = _Option(_policy)
    grad_scale = _Option(_scale)
    growth_interval = _Option(_interval)
    growth_factor = _Option(_growth)
    backoff_factor = _Option(_backoff)

    def __init__(
        self,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        nonfinite: str = "propagate",
        grad_scale: float = 1.0,
        growth_interval: int | None = None,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
    ) -> None:
        self.clip_norm = clip_norm
        self.clip_value = clip_value
        self.nonfinite = nonfinite
        self.grad_scale = grad_scale
        self.growth_interval = growth_interval
        self.growth_factor = growth_factor
        self.backoff_factor = backoff_factor
        with validation.prefixed("Guard"):
            self._scaling()
        self._here = Report()
        self._memories: dict[int, Any] = {}  # of `gpu.guarded`, by device
        self._last: Any = None  # the one that the last step wrote to; None where that was on the host

    @property
    def norm(self) -> float:
        """The norm of the gradients of the last step, before clipping."""
        return self._report().norm

    @property
    def nonfinite_count(self) -> int:
        """How many elements of the last step's gradients were not finite."""
        return self._report().nonfinite_count

    @property
    def dot(self) -> float:
        """The inner product of velocities and gradients in the last step."""
        return self._report().dot

    @property
    def skipped(self) -> bool:
        """Whether the last step changed nothing."""
        return self._report().skipped

    @property
    def skipped_steps(self) -> int:
        """How many steps changed nothing so far."""
        return self._here.skipped_steps + sum(int(x.report().skipped_steps) for x in self._memories.values())

    def _report(self) -> Report:
        report: Report = self._here if self._last is None else self._last.report()
        return report

    def __getstate__(self) -> dict[str, Any]:
        """What is on a device comes to the host: a copy has memory of its own."""
        last = self._report()
        here = Report(last.norm, last.nonfinite_count, last.dot, last.skipped, self.skipped_steps, last.finite_steps)
        state = {**self.__dict__, "_here": here, "_memories": {}, "_last": None}
        if self.growth_interval is not None and validation.is_device_array(self.grad_scale):
            from ..gpu import driver

            state["grad_scale"] = float(driver.current().download(self.grad_scale).item())
        return state

    def _scaling(self) -> Growth:
        """How the loss scale changes; raises where a bad step would not be skipped."""
        if self.growth_interval is not None and self.nonfinite != "skip":
            raise ValueError(
                f'growth_interval is {self.growth_interval} and nonfinite is {self.nonfinite!r}; "skip" is needed: a '
                f"scale may have been too large"
            )
        return Growth(self.growth_factor, self.backoff_factor, self.growth_interval or 0)

    def _rescale(self, growth: Growth, flat: list[list[np.ndarray]]) -> None:
        """Change the loss scale after a step."""
        if growth.interval > 0:
            dtype = min((x[0].dtype for x in flat), key=lambda dtype: dtype.itemsize)
            here, bad = self._here, self._here.nonfinite_count > 0
            with np.errstate(all="ignore"):
                scale, here.finite_steps = next_scale(self.grad_scale, here.finite_steps, bad, *growth, dtype.type)
            self.grad_scale = scale

    def step_on_device(
        self, rule: Rule, groups: list[Any], hyper: dict[str, Any], options: tuple[Any, ...], stream: Any
    ) -> None:
        """Step groups of device arrays and their names, after checking everything."""
        from ..gpu import guarded

        growth, before = self._scaling(), self._here.finite_steps
        wishes = guarded.Wishes(self.grad_scale, self.clip_norm, self.clip_value, self.nonfinite, growth, before)
        last = guarded.step(rule, options, groups, hyper, stream, wishes, self._memories)
        self._last = last
        if last is None:  # nothing to step
            self._here = Report(0.0, 0, 0.0, skipped_steps=self._here.skipped_steps, finite_steps=before)
        elif self.nonfinite == "raise" and self.skipped:
            raise FloatingPointError(_bad_gradients(self.nonfinite_count))

    def step(
        self, rule: Rule, groups: Groups, hyper: dict[str, Any], options: tuple[Any, ...], over: Whole | None = None
    ) -> None:
        """Step each of several groups of arrays, after checking everything; `over` knows the rest of the arrays."""
        over = Whole() if over is None else over
        if validation.is_device_array(self.grad_scale):
            raise TypeError("grad_scale is a device array and the arrays are on the host; a number is needed there")
        growth = self._scaling()
        named = [checked(rule, group, k if len(groups) > 1 else None) for k, group in enumerate(groups)]
        everything = [pair for group in named for pair in group]
        validation.no_overlap(everything, written={name for name, _ in everything if not name.startswith("grads")})
        for group in named:
            dtype = group[0][1].dtype
            values = validation.hyper_parameters(hyper, dtype, rule.range_of)
            rule.scalars(values, dtype, options)
        flat = [[x.reshape(-1) for x in in_one_order([x for _, x in group])] for group in named]
        grads = used = [x[1] for x in flat]
        for dtype in {g.dtype for g in grads}:
            validation.clipping_limits(self.clip_norm, self.clip_value, dtype)
        self._last = None
        factor, by = 1.0 / self.grad_scale, None
        known = self.nonfinite != "propagate" or self.clip_norm < math.inf or not _ordinary(factor, grads)
        if known:
            length = self._found(over.totals([gradient_sums(g) for g in grads]), grads, over)
            factor, by = self._factor(length, grads)
            if by is not None:
                used = [scaled.times(g, by) for g in grads]
            self._add_overflows(used, factor, over)
            if self._here.nonfinite_count > 0 and self.nonfinite != "propagate":
                self._here.skipped, self._here.dot = True, math.nan
                self._here.skipped_steps += 1
                if self.nonfinite == "raise":
                    raise FloatingPointError(_bad_gradients(self._here.nonfinite_count))
                self._rescale(growth, flat)
                return
        made = []
        for (p, _, *states), g in zip(flat, used, strict=True):
            sums = reductions.new_sums(p.size)
            kind = rule, options, p.dtype
            forms = reductions.forms_of(*kind).of(p.size)
            given = p, read_only(g), tuple(states), values, factor, self.clip_value, sums, forms
            reductions.step_kernel(*kind)(*given)
            made.append(sums)
        totals = over.totals(made)
        if not known:
            self._found(totals, grads, over)
            self._add_overflows(grads, factor, over)
        self._here.dot = math.nan
        if rule.states:
            total = _in_order(x[reductions.DOT] for x in totals)
            self._here.dot = self._dot(total, by, grads, [x[2] for x in flat], over)
        self._here.skipped = False
        self._rescale(growth, flat)
        for params, _, *written in groups:
            validation.tell_torch(params, *written)

    def _found(self, totals: list[np.ndarray], grads: list[np.ndarray], over: Whole) -> scaled.Number:
        """Set `norm` and `nonfinite_count` from the sums of the gradients; returns the norm of the gradients."""
        total = _in_order(x[reductions.SQUARES] for x in totals)
        self._here.nonfinite_count = sum(int(x[reductions.BAD]) for x in totals)
        length: scaled.Number = math.sqrt(total), 0
        self._here.norm = length[0] / self.grad_scale
        unusual = self._here.nonfinite_count == 0 and not scaled.ordinary(total, _DOUBLE)
        if unusual and over.count(sum(int(x.any()) for x in grads)) > 0:
            power = _POWER if total < 1.0 else -_POWER
            with np.errstate(all="ignore"):
                again = over.totals([gradient_sums(np.ldexp(g, power)) for g in grads])
            total = _in_order(x[reductions.SQUARES] for x in again)
            length = math.sqrt(total), -power
            self._here.norm = scaled.value(scaled.quotient(length, (self.grad_scale, 0)))
        return length

    def _factor(self, length: scaled.Number, grads: list[np.ndarray]) -> tuple[float, scaled.Number | None]:
        """What the kernel multiplies by; and what the gradients are multiplied by before, where that is no factor."""
        inverse, clipped = 1.0 / self.grad_scale, self._here.norm > self.clip_norm
        shrink = self.clip_norm / self._here.norm if clipped else 1.0
        factor = inverse * shrink if clipped else inverse
        exact = scaled.ordinary(inverse, _DOUBLE) and scaled.ordinary(shrink, _DOUBLE)
        if self._here.nonfinite_count > 0 or (exact and _ordinary(factor, grads)):
            return factor, None
        if clipped:
            return 1.0, scaled.quotient((self.clip_norm, 0), length)
        return 1.0, scaled.quotient((1.0, 0), (self.grad_scale, 0))

    def _add_overflows(self, grads: list[np.ndarray], factor: float, over: Whole) -> None:
        """Count the finite gradients that the factor makes infinite."""
        if self._here.nonfinite_count > 0 or self.clip_value < math.inf:
            return
        for g in grads:
            if min(self._here.norm, self.clip_norm) > scaled.limits(g.dtype)[1] / 2:  # few gradients are so large
                with np.errstate(all="ignore"):
                    product = g * g.dtype.type(factor)
                self._here.nonfinite_count += over.count(int(np.count_nonzero(~np.isfinite(product))))

    def _dot(
        self,
        total: float,
        by: scaled.Number | None,
        grads: list[np.ndarray],
        states: list[np.ndarray],
        over: Whole,
    ) -> float:
        """`dot`, from what the kernels summed up: of the gradients times `by`."""
        plain: float = total / self.grad_scale
        if self._here.nonfinite_count > 0 or (by is None and math.isfinite(plain)):
            return plain
        exact = scaled.dot(over.everything(grads), over.everything(states))
        return plain if exact is None else scaled.value(scaled.quotient(exact, (self.grad_scale, 0)))


def _in_order(sums: Iterable[Any]) -> float:
    """Their sum, one addition after another (from Python 3.12 on `sum` carries what is rounded off)."""
    return functools.reduce(operator.add, map(float, sums), 0.0)


def _bad_gradients(count: int) -> str:
    return f"{count} of the gradients are infinite or NaN; nothing was changed"


def _ordinary(factor: float, grads: list[np.ndarray]) -> bool:
    """Is the factor a normal number in the type of each array?"""
    return all(scaled.ordinary(factor, g.dtype) for g in grads)
