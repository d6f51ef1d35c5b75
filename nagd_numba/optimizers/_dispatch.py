"""The Python entry point of a step, and where it goes: to the CPU kernels or to CUDA, for one array or for lists.

Arrays that a kernel was called with before go straight to that kernel; all others through every check.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy import ndarray

from .. import validation
from ..flat import FlatParams
from ..gpu.repeats import addresses_of, flattened, known
from ..kernels.array_call import ArrayCall, Call
from ..kernels.jit import SIMULATOR
from ..kernels.python_objects import readable
from ..kernels.rule import Range, Rule
from ..kernels.segments import Step
from ..kernels.statuses import OK
from . import _stored
from ._host import apply, apply_lists
from .bounds import is_array
from .complex_arrays import in_parts, is_complex
from .composed_arguments import LISTS, Composition
from .composition import step_composed
from .guard import Guard
from .optimizer import Optimizer
from .storage import Int8State, place_of

_STEPS = Range(low=1.0, below=2.0**53, whole=True)  # numbers of steps: whole as floats, too


Ready = dict[tuple[Any, ...], Call]  # steps that may be called on plain arrays with no check before


def python_step(optimizer: Optimizer, ready: Ready | None = None) -> Callable[..., None]:
    """`run(params, grads, states, hyper, given, *PYTHON_ONLY)`: one step of an optimizer.

    `given` is a tuple of the choices and flags (`Optimizer.fixed`), and of whether `Optimizer.branch` is 0 if there is
    one.  `ready` takes what `kernels.array_call` makes for each.
    """
    ready = {} if ready is None else ready
    rule, count, name = optimizer.rule, len(optimizer.fixed), optimizer.rule.name
    calls: dict[tuple[Any, ...], ArrayCall | None] = {}
    errors = validation.prefixed(optimizer.name)

    def run(
        params: Any,
        grads: Any,
        states: Any,
        hyper: Any,
        given: Any,
        stream: Any,
        master: Any,
        guard: Any,
        rounding: Any,
        compensation: Any,
        composition: Composition | None,
    ) -> None:
        try:
            plain = stream is master is guard is rounding is compensation is composition is None
            if params.__class__ is ndarray and plain:
                try:
                    call = ready[given]
                    if call(params, grads, states, hyper) == OK:
                        return
                    if not any(map(is_array, hyper)):
                        numbers = tuple([x if x.__class__ is float else validation.real("", x) for x in hyper])
                        if call(params, grads, states, numbers) == OK:  # they were whole numbers, say
                            return
                except (KeyError, TypeError):  # not met before, or what no dictionary takes
                    pass
                if params.dtype.kind == "c":
                    run_parts(params, grads, states, hyper, given, (None,) * 5, None)
                    return
                if not any(map(is_array, hyper)):
                    step = update(rule, params, grads, states, named(hyper), options_of(given))
                    if step is not None and readable():
                        if given not in calls:
                            calls[given] = None  # a single step is not worth what compiles once more
                            return
                        made = calls[given] = calls[given] or ArrayCall(len(rule.states), len(rule.hyper))
                        made.enable(step, params.dtype)
                        ready[given] = made.call
                    return
            if is_complex(params):
                beside = stream, master, guard, rounding, compensation
                run_parts(params, grads, states, hyper, given, beside, composition)
                return
            if composition is not None or any(map(is_array, hyper)):
                beside = stream, master, guard, rounding, compensation
                options = options_of((*given[:count], False)[: len(given)])  # the kernel for any weight decay
                step_composed(optimizer, (params, grads, *states), named(hyper), options, beside, composition)
                return
            if params.__class__ is FlatParams:
                params, grads, *states = (x.flat if x.__class__ is FlatParams else x for x in (params, grads, *states))
            key: Any = None
            if guard is rounding is compensation is None:
                group = (params, grads, *states, master)
                if params.__class__ in LISTS:
                    group = flattened(group)
                    key = (name, given, len(params), addresses_of(group)) if group else None
                else:
                    key = (name, given, *map(id, group))
                repeat = known.get(key)  # device arrays that were stepped before
                if repeat is not None and repeat.step(group, hyper, stream):
                    return
            extra = master, key, guard, rounding, compensation
            update(rule, params, grads, states, named(hyper), options_of(given), stream, *extra)
        except (TypeError, ValueError) as error:  # entering a context would cost 0.2 us of every launch
            errors.__exit__(type(error), error, error.__traceback__)
            raise

    def run_parts(
        params: Any, grads: Any, states: Any, hyper: Any, given: Any, beside: Any, composition: Composition | None
    ) -> None:
        """The step of the real and imaginary parts."""
        arrays, numbers, other, average = in_parts(optimizer.arrays, (params, grads, *states), hyper, composition)
        rest = *beside, other
        run(arrays[0], arrays[1], arrays[2:], numbers, given, *rest)
        if average is not None and composition is not None and composition.average is not None:
            composition.average.steps = average.steps

    def named(hyper: Any) -> dict[str, Any]:
        return dict(zip(rule.hyper, hyper, strict=True))

    def options_of(given: tuple[Any, ...]) -> tuple[Any, ...]:
        return optimizer.options(dict(zip(optimizer.fixed, given, strict=False)), *given[count:])

    return run


def step_number(t: Any, function: str) -> Any:
    """The number of a step as a float, for a function of that name; raises for anything but a whole number.

    An array on a device is left as it is.
    """
    if t.__class__ is int and 0 < t < 1 << 53:
        return float(t)
    if validation.is_device_array(t):  # counted there
        return t
    try:
        if isinstance(t, bool):
            raise TypeError("a truth value")
        number = operator.index(t)
    except TypeError as error:
        raise TypeError(f"{function}: t is {t!r}; a whole number is needed: 1 for the first step") from error
    if not 0 < number < 1 << 53:
        raise ValueError(f"{function}: t is {validation.shown(number)}; {_STEPS} is needed")
    return float(number)


def choice_number(optimizer: Optimizer, name: str, x: Any) -> float:
    """A choice that is a hyper-parameter of the rule, as its number."""
    try:
        return optimizer.numbers[name][x]
    except (KeyError, TypeError):
        with validation.prefixed(optimizer.name):
            return float(optimizer.choice(name, x))


def rule_constants(optimizer: Optimizer, dtype: Any, **settings: Any) -> tuple[Any, ...]:
    """What the scalar form of a rule needs of the settings of its step, checked; `dtype` is its type."""
    assert optimizer.constants is not None
    function = optimizer.constants.__name__
    rule = optimizer.rule
    hyper = {x: step_number(settings[x], function) if x == "t" else settings[x] for x in rule.hyper}
    with validation.prefixed(function):
        kind = np.dtype(dtype)
        if kind not in validation.DTYPES:
            raise TypeError(f"dtype is {dtype!r}; np.float32 or np.float64 is needed")
        options = optimizer.options({x: settings[x] for x in optimizer.fixed if x in settings})
        hyper |= {x: optimizer.choice(x, settings[x]) for x in optimizer.choices if x in rule.hyper}
        return rule.scalars(validation.hyper_parameters(hyper, kind, rule.range_of), kind, options)


def update(
    rule: Rule,
    params: Any,
    grads: Any,
    states: Sequence[Any],
    hyper: dict[str, Any],
    options: tuple[Any, ...],
    stream: Any = None,
    master: Any = None,
    key: Any = None,
    guard: Any = None,
    rounding: Any = None,
    compensation: Any = None,
) -> Step | None:
    """Update `params` and `states` in place by `rule`, after checking everything.

    `key` is what `gpu.repeats.known` will be asked for where the same is to be done again.  Returns the step of
    contiguous host vectors if that ran, else None.
    """
    if guard is not None:
        if rounding is not None or compensation is not None or any(isinstance(x, Int8State) for x in _flat(states)):
            raise ValueError("guard is for states of full precision, without rounding and compensation; leave it out")
        _guarded(guard, rule, params, grads, states, hyper, options, stream, master)
        return None
    groups, lists, on_device = located(rule, params, grads, states, master, stream, compensation)
    if not groups:
        validation.hyper_parameters(hyper, validation.DTYPES[0], rule.range_of)
    elif on_device:
        if _stored.on_device_wanted(groups, rounding):
            _stored.apply_on_device(rule, groups, hyper, options, rounding, stream)
            return None
        key = None if lists and params.__class__ not in LISTS else key  # it says nothing of another kind of list
        _apply_on_device(rule, options, groups, hyper, stream, key, lists)
    elif _stored.wanted(groups, rounding):
        _stored.apply(rule, groups, hyper, options, rounding)
    elif lists:
        apply_lists(rule, [(p, g, *s) for p, g, s in (on_host(group) for _, group in groups)], hyper, options)
    else:
        return apply(rule, *on_host(groups[0][1]), hyper, options)
    return None


def _apply_on_device(
    rule: Rule, options: tuple[Any, ...], groups: list[Any], hyper: dict[str, Any], stream: Any, key: Any, lists: bool
) -> None:
    from ..gpu import in_memory, launch

    if any(map(validation.is_device_array, hyper.values())):
        in_memory.apply(rule, options, groups, hyper, stream, lists)
    else:
        launch.apply(rule, options, groups, tuple(hyper.values()), stream, key, lists)


def _guarded(
    guard: Any,
    rule: Rule,
    params: Any,
    grads: Any,
    states: Sequence[Any],
    hyper: dict[str, Any],
    options: tuple[Any, ...],
    stream: Any,
    master: Any,
) -> None:
    if not isinstance(guard, Guard):
        raise TypeError(f"guard is {validation.type_of(guard)}; a nagd_numba.Guard is needed")
    if isinstance(params, list | tuple):
        groups = _groups(rule, params, grads, states, master)
    else:
        groups = [(("params", "grads", *rule.states, "master"), (params, grads, *states, master))]
    if not groups:
        validation.hyper_parameters(hyper, validation.DTYPES[0], rule.range_of)
    elif _on_device(groups, stream):
        guard.step_on_device(rule, groups, hyper, options, stream)
    elif master is not None:
        raise ValueError(
            "master beside a guard needs CUDA arrays of half precision; got host arrays. Omit one of them."
        )
    else:
        parts = [on_host(group) for _, group in groups]
        guard.step(rule, [(p, g, *s) for p, g, s in parts], hyper, options)


def _groups(
    rule: Rule, params: Any, grads: Any, states: Sequence[Any], master: Any, compensation: Any = None
) -> list[Any]:
    """The arrays at each place of the lists, with their names; raises where the lists differ in length."""
    last, extra = _extra(master, compensation)
    columns = {"params": params, "grads": grads, **dict(zip(rule.states, states, strict=True))}
    columns[last] = [None] * len(params) if extra is None else extra
    for name, column in columns.items():
        if not isinstance(column, list | tuple) or len(column) != len(params):
            said = f"has {len(column)}" if isinstance(column, list | tuple) else f"is {validation.type_of(column)}"
            raise TypeError(
                f"params is a list of {len(params)} and {name} {said}. Pass lists of one length, or one array for each "
                f"argument: np.asarray(params)"
            )
    return [
        (validation.numbered(tuple(columns), k), group) for k, group in enumerate(zip(*columns.values(), strict=True))
    ]


def _extra(master: Any, compensation: Any) -> tuple[str, Any]:
    """The array beside parameters of half precision, with its name."""
    if master is not None and compensation is not None:
        raise ValueError(
            "master and compensation are two ways to keep what half precision loses; leave out one of them"
        )
    return ("master", master) if compensation is None else ("compensation", compensation)


def located(
    rule: Rule, params: Any, grads: Any, states: Sequence[Any], master: Any, stream: Any, compensation: Any = None
) -> tuple[list[Any], bool, bool]:
    """The arrays of a step with their names, whether they came in lists, and whether they are on a device."""
    lists = isinstance(params, list | tuple)
    if lists:
        groups = _groups(rule, params, grads, states, master, compensation)
    else:
        last, extra = _extra(master, compensation)
        groups = [(("params", "grads", *rule.states, last), (params, grads, *states, extra))]
    return groups, lists, bool(groups) and _on_device(groups, stream)


def _on_device(groups: list[Any], stream: Any) -> bool:
    """Are all arrays on a device?  Raises where only some are, and for what has a meaning only there."""
    named = [
        (name, place_of(x)) for names, group in groups for name, x in zip(names, group, strict=True) if x is not None
    ]
    if validation.any_on_device(named) and not SIMULATOR:
        return True
    if stream is not None and not SIMULATOR:
        raise ValueError("stream needs CUDA arrays; got host arrays. Omit stream.")
    return False


def _flat(states: Sequence[Any]) -> list[Any]:
    """The states, out of lists."""
    return [y for x in states for y in (x if isinstance(x, list | tuple) else (x,))]


def on_host(group: tuple[Any, ...]) -> tuple[Any, Any, tuple[Any, ...]]:
    """Params, grads, states; the simulator's device arrays lie in host memory, where the CPU kernels work on them."""
    params, grads, *states = map(validation.unsimulated, group[:-1])
    return params, grads, tuple(states)
