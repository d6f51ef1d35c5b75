"""The optimizers of the registry for PyTorch: one call of a compiled kernel for all parameters of a group.

    NAG, Adam, AdamW, NAdam, Lion, RMSprop, Adagrad, SGDScheduleFree, AdamWScheduleFree
    (and, by its name, an optimizer that was added to the registry)

They take the place of those of `torch.optim`: parameter groups, closures, hooks, schedulers, `GradScaler`, `state_dict`
(which can be exchanged with PyTorch's class of the same rule), FSDP2 and DDP.  PyTorch is imported by this module.
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
import math
import operator
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, ClassVar

from numba.core.dispatcher import Dispatcher

try:
    import torch
except ImportError as error:
    raise ImportError("nagd_numba.adapters.torch needs PyTorch >= 2.5: pip install torch") from error

from .. import validation
from ..kernels import segments
from ..optimizers.guard import Guard
from ..optimizers.schedule_free import evaluation_weight, training_weight
from .torch_composed import AVERAGE, AVERAGED, BESIDE, DOCUMENT, Beside, beside_of, exchanged
from .torch_forms import FORMS, Arguments, Form
from .torch_plan import Plan, joined, same
from .torch_vectors import HALF, Moved

__all__ = [
    "NAG",
    "Adagrad",
    "Adam",
    "AdamW",
    "AdamWScheduleFree",
    "Fused",
    "Lion",
    "NAdam",
    "RMSprop",
    "SGDScheduleFree",
]

_GRAD = operator.attrgetter("grad")


class Fused(torch.optim.Optimizer):
    """What the optimizers of this module have in common; they differ in their `form` alone."""

    form: ClassVar[Form]
    guard: Guard | None
    _exchanged = False  # are the parameters their averages now?

    def __init__(self, *args: Any, **keywords: Any) -> None:
        with validation.prefixed(self.form.name):
            given = self._bound(args, keywords)
        given.apply_defaults()
        options = given.arguments
        params, self.guard = options.pop("params"), options.pop("guard")
        self._checked({**options, **self.form.fixed})
        self._forget()
        super().__init__(params, {**options, **self.form.fixed})

    def _bound(self, args: Any, keywords: dict[str, Any]) -> inspect.BoundArguments:
        try:
            given = _signature(self.form).bind(*args, **keywords)
        except TypeError as error:
            options = ", ".join([*_signature(self.form).parameters][1:])
            raise TypeError(f"{error}; the options are {options}") from error
        guard = given.arguments.get("guard")
        if guard is not None and not isinstance(guard, Guard):
            raise TypeError(f"guard is {validation.type_of(guard)}; a nagd_numba.Guard is needed")
        return given

    def _forget(self) -> None:
        """Look at everything again in the next step."""
        self._plans: list[Plan] = []
        self._seen: list[Any] = []
        self._keys = (*self.form.options, *self.form.fixed, *BESIDE)
        self._raw: list[list[Any]] = []
        self._made: list[tuple[Arguments, Beside | None]] = []

    def _checked(self, group: dict[str, Any]) -> tuple[Arguments, Beside | None]:
        """What the options of a group are for its steps; raises for unfit ones."""
        made = self.form.checked(group), beside_of(self.form, group)
        if made[1] is not None and self.guard is not None:
            with validation.prefixed(self.form.name):
                raise ValueError(
                    "guard does not go with lower, upper, prox and average: use torch.nn.utils.clip_grad_norm_ and "
                    "torch.amp.GradScaler"
                )
        return made

    @property
    def _step_supports_amp_scaling(self) -> bool:
        """Does GradScaler leave `grad_scale` and `found_inf` to the step?"""
        return all(beside_of(self.form, group) is None for group in self.param_groups)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, with options of its own beside the defaults; it is checked before."""
        self._checked({**self.defaults, **param_group})
        self._forget()
        super().add_param_group(param_group)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "guard": self.guard}

    def __setstate__(self, state: dict[str, Any]) -> None:
        defaults = state.get("defaults", self.__dict__.get("defaults", {}))
        for group in state["param_groups"]:
            for key, value in {**BESIDE, **defaults}.items():
                group.setdefault(key, value)
            self.form.checked(group)
            beside_of(self.form, group)
        super().__setstate__(state)
        self._forget()
        for own in self.state.values():
            own.pop("mu_product", None)  # it follows from the number of steps
            for key in [x for x, value in own.items() if value is None]:
                del own[key]

    def state_dict(self) -> dict[str, Any]:
        """The state, as PyTorch's class of the same rule would give and take it."""
        self._not_exchanged()
        made: dict[str, Any] = super().state_dict()
        groups = {k: group for group in made["param_groups"] for k in group["params"]}
        for k, own in made["state"].items():
            if k in groups and "step" in own:  # one tensor counts for many parameters: here each has its own
                t = float(own["step"])
                more = {x: torch.tensor(y) for x, y in self.form.peer_state(groups[k], t).items()}
                own = {**own, "step": torch.tensor(t, dtype=torch.float32), **more}
            if AVERAGED in own:
                own = {**own, AVERAGED: torch.tensor(float(own[AVERAGED]), dtype=torch.float32)}
            made["state"][k] = own
        return made

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take a state, also one of PyTorch's class of the same rule; it is checked before."""
        self._not_exchanged()
        super().load_state_dict(state_dict)
        places = [k for group in state_dict["param_groups"] for k in group["params"]]
        params = [p for group in self.param_groups for p in group["params"]]
        for k, p in zip(places, params, strict=True):
            for key, x in state_dict["state"].get(k, {}).items():
                if p.dtype in HALF and key in self.form.states and x.dtype == torch.float32:  # PyTorch has rounded it
                    self.state[p][key] = x.to(p.device)

    def averaged(self) -> AbstractContextManager[None]:
        """A context manager in whose block the parameters are their averages, for an evaluation.

        Those of groups without `average`, and those that were never stepped, stay as they are; a step, `state_dict` and
        `load_state_dict` raise in the block.  Afterwards all are again what they were, to the last bit.

        Raises
        ------
        ValueError
            Where no group has an average.
        RuntimeError
            In such a block.
        """
        self._not_exchanged()
        groups = [group for group in self.param_groups if group["average"] is not None]
        if not groups:
            raise ValueError(f"{self.form.name}: no parameters have an average: {self.form.name}(..., average='mean')")
        params = [p for group in groups for p in group["params"] if AVERAGE in self.state.get(p, {})]
        return self._as_averages([(p, self.state[p][AVERAGE]) for p in params])

    @contextlib.contextmanager
    def _as_averages(self, pairs: list[tuple[Any, Any]]) -> Iterator[None]:
        self._not_exchanged()
        self._exchanged = True
        try:
            with exchanged(pairs):
                yield
        finally:
            self._exchanged = False

    def _not_exchanged(self) -> None:
        if self._exchanged:
            raise RuntimeError(f"{self.form.name}: the parameters are their averages here: leave the block first")

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Step all parameters that have a gradient, in place; returns what the closure returns.

        Parameters
        ----------
        closure : callable, optional
            Called first, with gradients enabled: it clears them, computes the loss and returns it.

        Raises
        ------
        TypeError, ValueError
            For gradients, options or states that do not fit, before anything is written.
        """
        self._not_exchanged()
        if torch.compiler.is_compiling():  # the call stands between two compiled graphs
            return _uncompiled_step(self, closure)
        return self._closed_step(closure)

    def _closed_step(self, closure: Callable[[], Any] | None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        with validation.prefixed(self.form.name):
            found = getattr(self, "found_inf", None)
            if found is None or not found.item():
                self._run()
        return loss

    def _run(self) -> None:
        scale, guard = getattr(self, "grad_scale", None), self.guard
        if scale is None:
            self._step(guard)
            return
        guard = Guard() if guard is None else guard
        if guard.growth_interval is not None:
            raise ValueError("guard has a growth_interval, and GradScaler changes the loss scale, too: use one of them")
        own = guard.grad_scale
        guard.grad_scale = own * float(scale)
        try:
            self._step(guard)
        finally:
            guard.grad_scale = own

    def _step(self, guard: Guard | None) -> None:
        groups = self.param_groups
        grads = [list(map(_GRAD, group["params"])) for group in groups]
        arguments = self._arguments()
        try:
            plans = self._taken(grads, guard)
        except Moved:
            self._plans = []
            plans = self._taken(grads, guard)
        for plan, (given, beside) in zip(plans, arguments, strict=True):
            for call in plan.calls:
                call.run(*given, guard, beside)
            for written in (plan.stepped, *plan.columns):
                torch.autograd.graph.increment_version(written)

    def _arguments(self) -> list[tuple[Arguments, Beside | None]]:
        """What each group's options make of the step's arguments, checked where they are not those of the last step."""
        keys = self._keys
        raw = [[group[key] for key in keys] for group in self.param_groups]
        if raw != self._raw:
            self._made = list(map(self._checked, self.param_groups))
            self._raw = raw if all(map(_constant, itertools.chain(*raw))) else []
        return self._made

    def _taken(self, grads: list[list[Any]], guard: Guard | None) -> list[Plan]:
        """The plans for the groups, those of the last step where they still hold, with these gradients."""
        missing = [[g is None for g in own] for own in grads]
        kept = len(self._plans) == len(missing) and same(list(self.state.values()), self._seen)
        if not (kept and all(map(Plan.holds, self._plans, self.param_groups, missing))):
            self._plans = []
            plans = [Plan(self.form, *x, self.state) for x in zip(self.param_groups, missing, strict=True)]
            self._written = segments.Bounds(*joined([plan.written for plan in plans]))
            for plan in plans:
                plan.avoid(self._written)
            self._plans, self._seen = plans, list(self.state.values())
        if self.guard is not None and any(call.others for plan in self._plans for call in plan.calls):
            raise ValueError(
                "guard is for parameters on the CPU whose elements lie close together: use "
                "torch.nn.utils.clip_grad_norm_ and torch.amp.GradScaler, or p.contiguous()"
            )
        if _of_all(guard) and any(plan.distributed for plan in self._plans):
            raise ValueError(
                "guard sees the gradients of this process alone, and the parameters are distributed: use "
                "torch.nn.utils.clip_grad_norm_"
            )
        if _of_all(guard) and sum(len(plan.calls) for plan in self._plans) > 1:
            raise ValueError(
                "guard sees to the gradients of one call, and these parameters take several (groups, or numbers of "
                "steps): use torch.nn.utils.clip_grad_norm_ and torch.amp.GradScaler, or one group"
            )
        for plan, own in zip(self._plans, grads, strict=True):
            plan.take(own, self._written)
        return self._plans


class ScheduleFree(Fused):
    """What the schedule-free optimizers have beside: two modes, in which the parameters are two points."""

    @torch.no_grad()
    def eval(self) -> None:
        """Make the parameters those to evaluate and to save, in place; nothing where they are."""
        self._change_mode(False, evaluation_weight)

    @torch.no_grad()
    def train(self) -> None:
        """Make the parameters those to train, in place; nothing where they are."""
        self._change_mode(True, training_weight)

    def _change_mode(self, train: bool, weight: Callable[[float], float]) -> None:
        (key,) = self.form.points
        for group in self.param_groups:
            if group.get("train_mode", True) != train:
                between = weight(self.form.momentum(group))
                for p in group["params"]:
                    z = self.state.get(p, {}).get(key)
                    if z is not None:
                        p.lerp_(z.to(p.device, p.dtype), between)
                group["train_mode"] = train

    def _step(self, guard: Guard | None) -> None:
        if not all(group.get("train_mode", True) for group in self.param_groups):
            raise RuntimeError("step after eval(): the parameters are those to evaluate; call train() first")
        super()._step(guard)


def _of_all(guard: Guard | None) -> bool:
    """Does what a guard does depend on all gradients together?"""
    return guard is not None and (guard.nonfinite != "propagate" or guard.clip_norm < math.inf)


def _constant(x: Any) -> bool:
    """Can the value of an option not change where it is, as that of a tensor or list can?"""
    return all(map(_constant, x)) if isinstance(x, tuple) else isinstance(x, int | float | str | Dispatcher | None)


# In compiled code; elsewhere the wrapper would cost 13 us of each step.
_uncompiled_step = torch._disable_dynamo(Fused._closed_step)


def _signature(form: Form) -> inspect.Signature:
    """Of the constructor, without `self`."""
    *options, guard = form.signature.parameters.values()
    more = [inspect.Parameter(x, inspect.Parameter.KEYWORD_ONLY, default=y) for x, y in BESIDE.items()]
    return inspect.Signature([*options, *more, guard])


def _made(form: Form) -> type[Fused]:
    return type(
        form.name,
        (ScheduleFree if form.optimizer.rule.interpolated else Fused,),
        {
            "form": form,
            "__doc__": form.document.replace("\nguard :", f"\n{DOCUMENT}\nguard :", 1),
            "__module__": __name__,
            "__signature__": _signature(form),
        },
    )


NAG = _made(FORMS["NAG"])
Adam = _made(FORMS["Adam"])
AdamW = _made(FORMS["AdamW"])
NAdam = _made(FORMS["NAdam"])
Lion = _made(FORMS["Lion"])
RMSprop = _made(FORMS["RMSprop"])
Adagrad = _made(FORMS["Adagrad"])
SGDScheduleFree = _made(FORMS["SGDScheduleFree"])
AdamWScheduleFree = _made(FORMS["AdamWScheduleFree"])
globals().update({name: _made(form) for name, form in FORMS.items() if name not in __all__})  # new in the registry
