"""What an optimizer is: an update rule, its public step, and how the parameters of the step become those of the rule.

Every other way to call the step follows from this declaration and the step's signature: the checks behind the Python
entry point (`_dispatch`), `@njit` callers (`_overload`), C functions (`nagd_numba.c`), training (`nagd_numba.mlp`).
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from .. import validation
from ..kernels.jit import plain
from ..kernels.rule import Rule

# Parameters of every step beside its rule.
COMPOSITION = ("mask", "lower", "upper", "prox", "prox_weight", "average", "groups")
# Those that compiled callers leave out.
PYTHON_ONLY = ("stream", "master", "guard", "rounding", "compensation", *COMPOSITION)


@dataclass(frozen=True)
class Method:
    """A name under which networks are trained: in `MLP.fit`, `fit_many` and the command line.

    name           what it is called there
    label          what it is called in plots
    options        options of the rule that are not its defaults, by name
    hyper          hyper-parameters that are not the rule's defaults, by name
    momentum       the hyper-parameter that a schedule of the momentum sets, or None
    momentum_next  the one that it sets to the momentum of the next update, or None
    lr             the option of the command line that is its learning rate: "lr" or "adam_lr"
    """

    name: str
    label: str
    options: Mapping[str, Any] = field(default_factory=dict)
    hyper: Mapping[str, float] = field(default_factory=dict)
    momentum: str | None = None
    momentum_next: str | None = None
    lr: str = "adam_lr"


@dataclass(frozen=True, eq=False)
class Optimizer:
    """A rule with its public functions.

    The parameters of the step are `params`, `grads`, the rule's states, then numbers (hyper-parameters of the rule of
    the same name), choices and flags (options of the rule, or hyper-parameters, of the same name), and `PYTHON_ONLY`.

    rule       the update rule
    step       the public step on arrays
    update     the public scalar form
    constants  the public function that makes what `update` needs of the hyper-parameters, if it needs it made
    choices    the parameters that are one of several names, and these; a number from 0 on in C and in the rule
    follows    numbers that are None by default, and the number that they are then equal to
    derived    options that are not parameters: functions of flags by name (compiled and called from Python), and of
               `zero`, which tells whether the hyper-parameter `branch` is 0
    branch     the hyper-parameter whose being 0 chooses between kernels; the kernel for one that is not 0 does the
               same where it is 0 in a device's memory
    c_name     the name of the C function, by default the name of the step
    methods    what networks are trained with; none where the states do not begin with zeros
    """

    rule: Rule
    step: Callable[..., Any]
    update: Callable[..., Any]
    constants: Callable[..., Any] | None = None
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    follows: Mapping[str, str] = field(default_factory=dict)
    derived: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    branch: str | None = None
    c_name: str = ""
    methods: tuple[Method, ...] = ()

    @property
    def name(self) -> str:
        """The name of the public step."""
        return str(self.step.__name__)

    @cached_property
    def public(self) -> dict[str, Callable[..., Any]]:
        """The public functions, by name."""
        functions = (self.step, self.update, self.constants)
        return {plain(x).__name__: x for x in functions if x is not None}

    @cached_property
    def arrays(self) -> tuple[str, ...]:
        """The parameters that are arrays."""
        return ("params", "grads", *self.rule.states)

    @cached_property
    def settings(self) -> tuple[str, ...]:
        """The parameters of the step behind the arrays, in its order, without `PYTHON_ONLY`."""
        return self.settings_of(self.step)

    def settings_of(self, function: Callable[..., Any]) -> tuple[str, ...]:
        """The same of `step` or `constants`."""
        others = {*self.arrays, *PYTHON_ONLY, "dtype"} - {*self.rule.options}  # FISTA has a `prox` of its own
        return tuple(x for x in inspect.signature(function).parameters if x not in others)

    def is_number(self, name: str) -> bool:
        """Is this setting a number?  (Else it is a choice or a flag.)"""
        return name in self.rule.hyper and name not in self.choices

    @cached_property
    def fixed(self) -> tuple[str, ...]:
        """The choices and flags, in the order of the step: constants in compiled callers."""
        return tuple(x for x in self.settings if not self.is_number(x))

    def options(self, fixed: Mapping[str, Any], zero: bool = False) -> tuple[Any, ...]:
        """The rule's options for these choices and flags, checked; those that are left out have their defaults."""
        checked: dict[str, Any] = {"zero": zero}
        for name, x in fixed.items():
            checked[name] = self.choice(name, x) if name in self.choices else validation.flag(name, x)
        made = []
        for name, values in self.rule.options.items():
            if name in self.derived:
                function = plain(self.derived[name])
                made.append(function(*(checked[x] for x in parameters(function))))
            else:
                made.append(checked.get(name, values[0]))
        return tuple(made)

    def filled(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of a step, with those that are None and follow another equal to it."""
        others = {name: settings[other] for name, other in self.follows.items() if settings[name] is None}
        return {**settings, **others}

    def arguments(self, settings: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[Any, ...]]:
        """The hyper-parameters of the rule by name, and its options, of filled settings; raises for unfit ones.

        A `t` that is not among the settings is 1.
        """
        rule, dtype = self.rule, validation.DTYPES[0]
        hyper = {x: settings.get("t", 1.0) if x == "t" else settings[x] for x in rule.hyper}
        hyper |= {x: self.choice(x, settings[x]) for x in self.choices if x in hyper}
        zero = self.branch is not None and hyper[self.branch] == 0
        options = self.options({x: settings[x] for x in self.fixed}, zero)
        rule.scalars(validation.hyper_parameters(hyper, dtype, rule.range_of), dtype, options)
        return hyper, options

    @property
    def points(self) -> tuple[str, ...]:
        """The states that are points as the parameters are, and begin as copies of them."""
        if self.rule.interpolated is not None:
            return self.rule.interpolated[:1]
        return () if self.methods else self.rule.states

    @cached_property
    def numbers(self) -> dict[str, dict[str, float]]:
        """The number of every name of every choice."""
        return {name: {x: float(k) for k, x in enumerate(names)} for name, names in self.choices.items()}

    def choice(self, name: str, x: Any) -> int:
        """The number of a choice; raises for a name that is not one of its names."""
        return validation.choice(name, x, self.choices[name])

    def method_options(self, method: Method) -> tuple[Any, ...]:
        """The rule's options for training with a method."""
        return tuple(method.options.get(name, values[0]) for name, values in self.rule.options.items())


@functools.cache
def parameters(function: Callable[..., Any]) -> tuple[str, ...]:
    """The names of a function's parameters."""
    return tuple(inspect.signature(plain(function)).parameters)


def bare_signature(function: Callable[..., Any]) -> inspect.Signature:
    """A function's parameters and defaults, without annotations: what generated code can repeat."""
    signature = inspect.signature(function)
    bare = [x.replace(annotation=inspect.Parameter.empty) for x in signature.parameters.values()]
    return signature.replace(parameters=bare, return_annotation=inspect.Signature.empty)
