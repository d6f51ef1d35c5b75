"""A step that is bound to its arrays: they are looked at once, and every call only steps."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import validation
from ..flat import FlatParams
from ..kernels.array_call import BoundCall
from ..kernels.python_objects import readable
from ..kernels.rule import Rule
from ..kernels.statuses import OK
from . import _host, _stored
from ._dispatch import located, on_host, step_number
from .bound_vectors import Take, bound_vectors
from .bounds import is_array
from .complex_arrays import in_parts, is_complex
from .composed_arguments import Composition
from .composition import Composed, composed_step
from .optimizer import Optimizer
from .registry import OPTIMIZERS

if TYPE_CHECKING:
    from .composed_on_device import ComposedOnDevice

Hyper = tuple[float, ...]


def bind(step: Callable[..., Any], params: Any, grads: Any, *states: Any, **settings: Any) -> Take:
    """A step of an optimizer on arrays that stay the same, to be called again and again.

        take = bind(step, params, grads, vel, lr=0.1)
        take()          the step, with the settings given here
        take(lr=0.05)   with another number, for this call

    Parameters
    ----------
    step : function
        `nagd_numba.step`, `adam_step` or another step of this package.
    params, grads, *states : array, or list of arrays
        What the step takes, on the host or on a device; `params` and the states are modified in place by each call,
        with the gradient that is then in `grads`.
    **settings
        Settings of the step by name, also `stream`, `master`, `compensation` and `rounding` (whose steps are counted),
        masks, bounds, averages, groups and arrays of rates, whose values are looked at here alone.
        `t` of Adam and its kin is 1 if it is not given.  A `guard` cannot be bound: it decides anew at each step.

    Returns
    -------
    A function `take(*numbers, **numbers)`, which returns `params`.  It takes the numbers of the step in the order of
    its parameters, or by name; those that are left out or None, and choices and flags, stay as they were bound.

    Raises
    ------
    TypeError, ValueError
        Here for unfit arrays or settings, as the step does; when called for unfit numbers, before any write.
    RuntimeError
        For device arrays where CUDA cannot be used.

    Notes
    -----
    The arrays are kept.  Memory of NumPy, Numba and CuPy stays where it is; PyTorch's tensors and arrays of others are
    looked at in each call, and checked again where their memory has moved.  On a device a call starts a kernel on
    `stream`, or without one on the stream that is current then; it may be captured in a graph.  Threads may call it at
    once on streams, or in an order, that they see to.

    Examples
    --------
    >>> import numpy as np
    >>> import nagd_numba
    >>> params, m, v = np.zeros(2), np.zeros(2), np.zeros(2)
    >>> grads = np.empty(2)
    >>> take = nagd_numba.bind(nagd_numba.adam_step, params, grads, m, v, lr=0.05)
    >>> for t in range(1, 1001):
    ...     grads[:] = 2 * (params - [3.0, -1.0])
    ...     _ = take(t)
    >>> params.round(6)
    array([ 3., -1.])
    """
    optimizer = next((x for x in OPTIMIZERS.values() if x.step is step), None)
    if optimizer is None:
        names = ", ".join(x.name for x in OPTIMIZERS.values())
        raise TypeError(f"bind: step is {step!r}; one of nagd_numba's is needed: {names}")
    if settings.get("guard") is not None:
        raise TypeError("bind: a guard decides anew at each step; call the step itself with guard=...")
    with validation.prefixed("bind"):
        general = Bound(optimizer, (params, grads, *states), settings)
        compiled = general.compiled()
    if compiled is None:
        return general
    return bound_vectors(optimizer, compiled, general, params, general.names, general.average)


class Bound:
    """What `bind` returns, for arrays of any kind."""

    def __init__(self, optimizer: Optimizer, arrays: tuple[Any, ...], settings: dict[str, Any]) -> None:
        if len(arrays) != len(optimizer.arrays):
            raise TypeError(f"{len(arrays)} arrays were given; {', '.join(optimizer.arrays)} are needed")
        stream = settings.pop("stream", None)
        self._beside = tuple(settings.pop(name, None) for name in ("master", "compensation"))
        self._rounding = settings.pop("rounding", None)
        names = [x for x in Composition._fields if x not in optimizer.rule.options]
        composition = Composition(**{x: settings.pop(x, None) for x in names})
        rates = any(is_array(settings.get(x)) for x in optimizer.rule.hyper)
        self._composition = composition if rates or any(x is not None for x in composition) else None
        unknown = [name for name in settings if name not in (*optimizer.settings, "guard")]
        if unknown:
            raise TypeError(
                f"{unknown[0]} is no setting of {optimizer.name}; there are {', '.join(optimizer.settings)}"
            )
        parameters = inspect.signature(optimizer.step).parameters
        defaults = {name: parameters[name].default for name in optimizer.settings if name != "t"}
        if "t" in optimizer.settings:
            defaults["t"] = 1
        self._optimizer, self._rule = optimizer, optimizer.rule
        self._params, self._arrays = arrays[0], arrays
        if is_complex(arrays[0]):
            if any(validation.is_tensor(y) for x in arrays for y in (x if isinstance(x, list | tuple) else [x])):
                raise TypeError(
                    "params are complex tensors, whose memory may be exchanged; bind torch.view_as_real(params)"
                )
            if self._composition is not None and self._composition.average is not None:
                raise TypeError("average of complex params cannot be bound; call the step itself with average=...")
            given = tuple(settings.get(x) for x in self._rule.hyper)
            self._arrays, made, self._composition, _ = in_parts(optimizer.arrays, arrays, given, self._composition)
            settings.update({x: y for x, y in zip(self._rule.hyper, made, strict=True) if is_array(y)})
        self._stream = stream
        self._settings = {**defaults, **{name: x for name, x in settings.items() if name != "guard"}}
        hyper = list(self._rule.hyper)
        self._numbers = tuple(x for x in optimizer.settings if optimizer.is_number(x))
        self._order = tuple(hyper.index(name) for name in self._numbers)
        self._places = dict(zip(self._numbers, self._order, strict=True))
        self._following = [  # numbers that follow another, unless they are given
            (name, self._numbers.index(name), hyper.index(name), hyper.index(other))
            for name, other in optimizer.follows.items()
            if self._settings[name] is None
        ]
        self._steps = hyper.index("t") if self._rule.counts_steps else None
        branched = optimizer.branch is not None and self._composition is None
        self._branch = hyper.index(optimizer.branch) if branched else None  # type: ignore[arg-type]
        self._starts: dict[bool, Callable[[Hyper], None]] = {}  # by whether the number at `_branch` is 0
        self._host: _Host | None = None
        self._made_of: Composed | ComposedOnDevice | None = None
        self._prefix = validation.prefixed(f"bound {optimizer.name}")
        self._hyper = self._checked(optimizer.filled(self._settings))
        self._prepared(self._hyper)

    def __repr__(self) -> str:
        return f"<{self._optimizer.name}, bound to {validation.type_of(self._params)}>"

    def __call__(self, *numbers: Any, **named: Any) -> Any:
        """Step; see `bind`."""
        hyper = self._hyper
        try:
            if numbers or named:
                hyper = self._changed(numbers, named)
            branch = self._branch
            self._starts[branch is not None and hyper[branch] == 0.0](hyper)
        except KeyError:  # the other branch, for the first time
            self._prepared(hyper)(hyper)
        except (TypeError, ValueError) as error:  # entering a context would cost 0.2 us of every call
            self._prefix.__exit__(type(error), error, error.__traceback__)
            raise
        return self._params

    def compiled(self) -> BoundCall | None:
        """The step as one compiled call, where it is one kernel on plain arrays of the host."""
        if self._made_of is not None and readable():
            following = {name: self._optimizer.follows[name] for name, *_ in self._following}
            named = dict(zip(self._rule.hyper, self._hyper, strict=True))
            return self._made_of.bound(named, following)
        together = None if self._host is None else self._host.together()
        if together is None or not readable():
            return None
        followed = [-1] * len(self._hyper)
        for _, _, place, other in self._following:
            followed[place] = other
        branch = -1 if self._branch is None else self._branch
        return BoundCall(together.step, together.table, self._hyper, followed, branch)

    @property
    def average(self) -> Any:
        """The average of the step, which counts those of the compiled call; None without one."""
        return getattr(self._made_of, "average", None)

    @property
    def names(self) -> tuple[str, ...]:
        """The hyper-parameters of the compiled call."""
        return tuple((self._rule if self._made_of is None else self._made_of.rule).hyper)

    def _changed(self, numbers: tuple[Any, ...], named: dict[str, Any]) -> Hyper:
        """The hyper-parameters with other numbers among them, where those are not None."""
        hyper, order, k = list(self._hyper), self._order, 0
        if len(numbers) > len(order):
            raise TypeError(f"{len(numbers)} numbers were given; there are {', '.join(self._numbers)}")
        for x in numbers:
            place = order[k]
            if x is None:
                x = hyper[place]
            elif x.__class__ is not float or place == self._steps:
                usual = place == self._steps and x.__class__ is int and 0 < x < 1 << 53
                x = float(x) if usual else self._number(place, x)
            hyper[place] = x
            k += 1
        for name in named:
            place = self._places.get(name, -1)
            if place < 0:
                raise TypeError(f"{name} is no number of the step; there are {', '.join(self._numbers)}")
            if named[name] is not None:
                hyper[place] = self._number(place, named[name])
        for place, x in enumerate(self._hyper):
            if is_array(x) and hyper[place] is not x:
                raise TypeError(f"{tuple(self._rule.hyper)[place]} is bound to an array; write to that, or bind again")
        for name, at, place, other in self._following:
            if (numbers[at] if at < k else named.get(name)) is None:
                hyper[place] = hyper[other]
        return tuple(hyper)

    def _number(self, place: int, x: Any) -> float:
        """A number as a Python float."""
        name = tuple(self._rule.hyper)[place]
        if validation.is_device_array(x):
            raise TypeError(f"{name} is a device array; a bound step takes numbers: call the step itself")
        return float(step_number(x, self._optimizer.name)) if place == self._steps else validation.real(name, x)

    def _checked(self, settings: dict[str, Any]) -> Hyper:
        """The hyper-parameters as floats."""
        choices, names = self._optimizer.choices, tuple(self._rule.hyper)
        return tuple(
            float(self._optimizer.choice(name, settings[name]))
            if name in choices
            else settings[name]
            if is_array(settings[name])
            else self._number(k, settings[name])
            for k, name in enumerate(names)
        )

    def _prepared(self, hyper: Hyper) -> Callable[[Hyper], None]:
        """What starts the step on the branch of these numbers, after every check of the arrays."""
        zero = self._branch is not None and hyper[self._branch] == 0.0
        made = self._starts[zero] = self._made(hyper, zero)
        return made

    def _made(self, hyper: Hyper, zero: bool) -> Callable[[Hyper], None]:
        optimizer, rule = self._optimizer, self._rule
        options = optimizer.options({x: self._settings[x] for x in optimizer.fixed}, zero)
        named = dict(zip(rule.hyper, hyper, strict=True))
        if self._composition is not None:
            return self._composed(named, options)
        params, grads, *states = (x.flat if x.__class__ is FlatParams else x for x in self._arrays)
        master, compensation = self._beside
        groups, lists, device = located(rule, params, grads, states, master, self._stream, compensation)
        if not groups:
            validation.hyper_parameters(named, validation.DTYPES[0], rule.range_of)
            return lambda values: None
        if device:
            from ..gpu import launch  # imports numba.cuda

            if _stored.on_device_wanted(groups, self._rounding):
                raise ValueError("rounding, compensation and Int8State on a CUDA device cannot be bound; call the step")
            return launch.prepare(rule, options, groups, hyper, self._stream, lists)
        if _stored.wanted(groups, self._rounding):
            _stored.check_hyper(rule, named, options)
            return _stored.Prepared(rule, groups, options, self._rounding, hyper).start
        self._host = _Host(rule, options, groups, lists, hyper)
        return self._host.start

    def _composed(self, named: dict[str, Any], options: tuple[Any, ...]) -> Callable[[Hyper], None]:
        rule, beside = self._rule, (self._stream, self._beside[0], None, self._rounding, self._beside[1])
        made = composed_step(self._optimizer, self._arrays, named, options, beside, self._composition)
        made.check(named)
        self._made_of = made
        return lambda values: made.start(dict(zip(rule.hyper, values, strict=True)))


class _Host:
    """A step on host arrays."""

    def __init__(self, rule: Rule, options: tuple[Any, ...], groups: list[Any], lists: bool, hyper: Hyper) -> None:
        self._rule, self._options, self._lists = rule, options, lists
        self._parts = [(p, g, *s) for p, g, s in (on_host(group) for _, group in groups)]
        self._tensors = [x for group in self._parts for x in group if validation.is_tensor(x)]
        self._written = [x for group in self._parts for k, x in enumerate(group) if k != 1 and validation.is_tensor(x)]
        self._look(hyper)

    def _look(self, hyper: Hyper) -> None:
        """Check the arrays, and find their memory."""
        rule, named = self._rule, dict(zip(self._rule.hyper, hyper, strict=True))
        self._hyper = hyper  # which all of the arrays accept
        self._places = self._places_now()
        if self._lists:
            self._starts, _ = _host.ready_lists(rule, self._parts, named, self._options)
            return
        arrays = list(zip(("params", "grads", *rule.states), self._parts[0], strict=True))
        host, _ = _host.check(rule, arrays, named, self._options)
        self._starts = [_host.ready(rule, host, self._options)]

    def together(self) -> _host.Together | None:
        """The one kernel that does all, of arrays whose memory stays where it is."""
        start = self._starts[0] if len(self._starts) == 1 and not self._tensors else None
        return start if isinstance(start, _host.Together) else None

    def _places_now(self) -> list[tuple[int, int]]:
        """Where PyTorch's tensors lie, whose memory may be exchanged."""
        return [(x.data_ptr(), x.numel()) for x in self._tensors]

    def start(self, hyper: Hyper) -> None:
        if (self._tensors and self._places_now() != self._places) or (len(self._starts) > 1 and hyper != self._hyper):
            self._look(hyper)
        for start in self._starts:
            status = start(hyper)
            if status != OK:
                self._look(hyper)
                _host.accepted(status)
        if self._written:
            validation.tell_torch(*self._written)
