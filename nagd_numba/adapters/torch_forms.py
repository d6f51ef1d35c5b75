"""What the optimizers are called in PyTorch: classes, options of parameter groups, and states.

Names follow `torch.optim` where it has the same rule, so that state dicts can be exchanged; everything else follows
from the registry.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from .. import validation
from ..kernels.jit import plain
from ..optimizers import nadam
from ..optimizers.optimizer import Optimizer
from ..optimizers.registry import OPTIMIZERS
from . import docs

BETAS = ("beta1", "beta2")
# The hyper-parameters of a rule by name, with `t = 1`, and its options; the settings of the step that they are made of
Arguments = tuple[tuple[dict[str, Any], tuple[Any, ...]], dict[str, Any]]


@dataclass(frozen=True)
class Form:
    """An optimizer as a class for PyTorch.

    name       of the class
    optimizer  its declaration
    peer       the class of `torch.optim` with the same rule, or ""
    keys       states of the rule, and their keys in PyTorch's state
    renamed    settings of the step, and their keys in a parameter group
    fixed      keys of the peer's groups that this rule has not, and the values with which the peer is this rule
    """

    name: str
    optimizer: Optimizer
    peer: str = ""
    keys: Mapping[str, str] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)

    @property
    def counted(self) -> bool:
        """Has the state a number of steps?"""
        return self.optimizer.rule.counts_steps or self.peer not in ("", "SGD")

    @cached_property
    def states(self) -> tuple[str, ...]:
        """The keys of the states of the rule, in its order."""
        return tuple(self.keys.get(x, x) for x in self.optimizer.rule.states)

    @cached_property
    def points(self) -> tuple[str, ...]:
        """The keys of the states that begin as copies of the parameters."""
        return tuple(self.keys.get(x, x) for x in self.optimizer.points)

    def momentum(self, group: Mapping[str, Any]) -> float:
        """How near the parameters lie to the point that is evaluated, in a rule that is `interpolated`."""
        assert self.optimizer.rule.interpolated is not None
        name = self.optimizer.rule.interpolated[1]
        return float(group["betas"][name == "beta2"] if name in BETAS else group[self.renamed.get(name, name)])

    @cached_property
    def options(self) -> dict[str, Any]:
        """The options of a parameter group and their defaults, in order."""
        defaults = {x.name: x.default for x in inspect.signature(self.optimizer.step).parameters.values()}
        made: dict[str, Any] = {}
        for name in self.optimizer.settings:
            if name in BETAS:
                made["betas"] = tuple(defaults[x] for x in BETAS)
            elif name != "t":
                made[self.renamed.get(name, name)] = defaults[name]
        return made

    @property
    def signature(self) -> inspect.Signature:
        """Of the constructor, without `self`."""
        kinds = inspect.Parameter
        options = [kinds(x, kinds.POSITIONAL_OR_KEYWORD, default=default) for x, default in self.options.items()]
        guard = kinds("guard", kinds.KEYWORD_ONLY, default=None)
        return inspect.Signature([kinds("params", kinds.POSITIONAL_OR_KEYWORD), *options, guard])

    def _settings(self, group: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of the step by name, of a parameter group; without `t`."""
        made: dict[str, Any] = {}
        for name in self.optimizer.settings:
            if name in BETAS:
                made[name] = group["betas"][name == "beta2"]
            elif name != "t":
                made[name] = group[self.renamed.get(name, name)]
            if self.optimizer.is_number(name) and name in made and made[name].__class__ is not float:
                made[name] = _number(name, made[name])
        return self.optimizer.filled(made)

    def checked(self, group: Mapping[str, Any]) -> Arguments:
        """What the options of a parameter group are for the rule; raises for one that is out of its range."""
        with validation.prefixed(self.name):
            betas = group.get("betas", BETAS)
            if not isinstance(betas, tuple | list) or len(betas) != len(BETAS):
                raise TypeError(f"betas is {betas!r}; a pair of numbers is needed")
            for key, value in self.fixed.items():
                if group.get(key, value) != value:
                    raise ValueError(
                        f"{key} is {group[key]!r}, which this rule has not; {value!r} is needed: use torch.optim."
                        f"{self.peer}"
                    )
            settings = self._settings(group)
            return self.optimizer.arguments(settings), settings

    def peer_state(self, group: Mapping[str, Any], t: float) -> dict[str, float]:
        """What the peer keeps in the state and this rule computes anew, after step `t`."""
        if self.peer == "NAdam" and group["variant"] == "torch":
            return {"mu_product": float(plain(nadam.product)(group["betas"][0], t, nadam.TORCH))}
        return {}

    def _modes(self) -> str:
        if self.optimizer.rule.interpolated is None:
            return ""
        name = self.optimizer.rule.interpolated[1]
        return _MODES.format(momentum="`betas`" if name in BETAS else f"`{self.renamed.get(name, name)}`")

    @cached_property
    def document(self) -> str:
        """The docstring of the class, made of the step's."""
        step = self.optimizer.step
        settings = {self.renamed.get(x, x): x for x in self.optimizer.settings}
        options = docs.parameters(step, [x for option in self.options for x in (settings.get(option, option), *BETAS)])
        for option, name in settings.items():
            options = options.replace(f"{name} :", f"{option} :")
        exchange = f"  State dicts can be exchanged with `torch.optim.{self.peer}`." if self.peer else ""
        return _DOCUMENT.format(
            rule=docs.title(step),
            formula=docs.formula(step),
            options=options.replace(", ".join(BETAS) + " : float", "betas : (float, float)"),
            exchange=exchange,
            modes=self._modes(),
            name=self.name,
        )


def _number(name: str, x: Any) -> float | None:
    """A number, also one in a tensor of one element."""
    if x is None:
        return None
    if hasattr(x, "numel") and x.numel() != 1:
        raise ValueError(f"{name} is a tensor of {x.numel()} elements; a number is needed")
    return validation.real(name, x.item() if hasattr(x, "numel") else x)


_DOCUMENT = """{rule} as a `torch.optim.Optimizer`.

{formula}

Parameters
----------
params : iterable of torch.Tensor or dict
    Tensors, or parameter groups with options of their own, as for every optimizer of PyTorch; modified in place by
    `step`.  On the CPU float32, float64, complex64 or complex128 of any strides; on CUDA float32, float64, and with
    float32 states float16 and bfloat16.
{options}
guard : nagd_numba.Guard, optional
    Clips the gradients of a group, divides them by a loss scale, watches over those that are not finite.

Raises
------
TypeError, ValueError
    For an option out of its range when a group is added, for a gradient that is sparse or of another type in `step`:
    before anything is written.

Notes
-----
One call of a compiled kernel steps all parameters of a group that are of one type and have taken as many steps, with
the bits of the step of this library.{exchange}{modes}

Examples
--------
>>> import torch
>>> from nagd_numba.adapters.torch import {name}
>>> x = torch.nn.Parameter(torch.tensor([3.0, -1.0]))
>>> optimizer = {name}([x], lr=0.01)
>>> for _ in range(5):
...     optimizer.zero_grad()
...     (x**2).sum().backward()
...     optimizer.step()
>>> bool((x.detach().abs() < torch.tensor([3.0, 1.0])).all())
True
"""

_MODES = """

`eval()` makes the parameters those to evaluate and to save, `train()` those to train, which they are at first; `step`
raises a RuntimeError after `eval()`.  The mode is kept in the parameter groups, as `train_mode`.

It needs no scheduler.  One that lets `lr` fall may be used.  One that lets it grow may be, too, but the weights of the
average are those of `warmup_steps` alone, where the package `schedulefree` weighs each step by the largest rate so far.
None may change {momentum}, as `OneCycleLR` and `CyclicLR` do unless `cycle_momentum=False`: the point to evaluate
follows from the parameters and `z` by that number, and would be another after each change."""

_MOMENTS = {"m": "exp_avg", "v": "exp_avg_sq"}
_PEERS: dict[str, dict[str, Any]] = {
    "nesterov": {"name": "NAG", "peer": "SGD", "keys": {"vel": "momentum_buffer"}, "fixed": {"dampening": 0}},
    "adam": {
        "name": "Adam",
        "peer": "Adam",
        "keys": _MOMENTS,
        "fixed": {"amsgrad": False, "decoupled_weight_decay": False},
    },
    "adamw": {
        "name": "AdamW",
        "peer": "AdamW",
        "keys": _MOMENTS,
        "fixed": {"amsgrad": False, "decoupled_weight_decay": True},
    },
    "nadam": {
        "name": "NAdam",
        "peer": "NAdam",
        "keys": _MOMENTS,
        "renamed": {"decoupled": "decoupled_weight_decay"},
        "fixed": {"momentum_decay": 0.004},
    },
    "lion": {"name": "Lion", "keys": {"m": "exp_avg"}},
    "rmsprop": {
        "name": "RMSprop",
        "peer": "RMSprop",
        "keys": {"v": "square_avg"},
        "fixed": {"momentum": 0, "centered": False},
    },
    "adagrad": {"name": "Adagrad", "peer": "Adagrad", "keys": {"v": "sum"}},
    "schedule_free_sgd": {"name": "SGDScheduleFree"},
    "schedule_free_adamw": {"name": "AdamWScheduleFree", "keys": {"v": "exp_avg_sq"}},
}


def _form(name: str) -> Form:
    given = {"name": name.capitalize()} | _PEERS.get(name, {})
    return Form(optimizer=OPTIMIZERS[name], **given)


# FISTA is not for networks.
FORMS: dict[str, Form] = {form.name: form for form in map(_form, OPTIMIZERS) if form.optimizer.methods}
