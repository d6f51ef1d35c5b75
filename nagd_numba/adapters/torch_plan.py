"""The parameters of one group, sorted into calls: kept from step to step as long as the same tensors have gradients."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import validation
from ..kernels import segments
from ..optimizers.guard import Guard
from .torch_composed import AVERAGE, AVERAGED, CONSTRAINTS, Beside, start_of_average
from .torch_forms import Form
from .torch_vectors import (
    DTYPES,
    HALF,
    PLAIN,
    Vectors,
    check_gradient,
    dense,
    flat,
    laid_out,
    literal,
    local,
    plain,
    same_strides,
    separate,
)


class Call:
    """Parameters that have taken as many steps: one call of a kernel for each dtype, one of the step for the others.

    The others are those on a CUDA device, and those whose elements do not lie close together.
    """

    def __init__(
        self,
        form: Form,
        places: Sequence[int],
        tensors: list[list[Tensor]],
        step: Tensor | None,
        averaged: Tensor | None = None,
    ) -> None:
        """`tensors` are lists of the parameters and of each state, then of the averages, if there are any.

        `step` is the number of steps taken, or None; `averaged` that of steps with an average, or None.
        """
        self.form, self.step, self.averaged = form, step, averaged
        self.places, self.tensors = list(places), tensors
        kinds: dict[Any, list[int]] = {}
        for k, p in enumerate(tensors[0]):
            kinds.setdefault(p.dtype if p.device.type == "cpu" and dense(p) else None, []).append(k)
        self.others = kinds.pop(None, [])
        self.members = list(kinds.values())
        self.vectors = [Vectors([[column[k] for k in own] for column in tensors]) for own in self.members]
        self.grads: list[Tensor] = []

    def written(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """The addresses and lengths of all memory on the host that is written."""
        made = [(own.written, np.tile(own.lengths, len(self.tensors))) for own in self.vectors]
        for k in self.others:
            spans = [_span(column[k]) for column in self.tensors if column[k].device.type == "cpu"]
            made += [(np.array([first]), np.array([length])) for first, length in spans]
        return made

    def take(self, grads: list[Tensor], written: segments.Bounds) -> None:
        """Check the gradients, which may not lie in memory that is written, and keep them for `run`."""
        self.grads = grads
        for own, vectors in zip(self.members, self.vectors, strict=True):
            chosen = grads if len(own) == len(grads) else [grads[k] for k in own]
            fitting = vectors.take(chosen)
            if fitting is not chosen:
                self._replace(own, fitting)
        for k in self.others:
            check_gradient(self.tensors[0][k], grads[k])
            self._replace([k], [laid_out(grads[k], self.tensors[0][k])])
            if grads[k].device.type == "cpu" and _touched(written, self.grads[k]):
                raise ValueError("a gradient overlaps parameters or states in memory; each needs its own")

    def _replace(self, places: Sequence[int], grads: Sequence[Tensor]) -> None:
        self.grads = list(self.grads)
        for k, g in zip(places, grads, strict=True):
            self.grads[k] = g

    def run(
        self,
        arguments: tuple[dict[str, Any], tuple[Any, ...]],
        settings: dict[str, Any],
        guard: Guard | None,
        beside: Beside | None = None,
    ) -> None:
        """One step, of gradients that were taken.

        The others know no guard but one that is a loss scale and nothing else.  A guard is not with a `beside`.
        """
        hyper, options = arguments
        rule = self.form.optimizer.rule
        if self.step is not None:
            hyper = hyper | {"t": float(self.step) + 1.0} if "t" in hyper else hyper
        if beside is not None:
            rule, settings = beside.rule, {**settings, **beside.keywords}
            hyper = {**hyper, **beside.weighted(0 if self.averaged is None else float(self.averaged))}
        if guard is None:
            values = tuple(float(hyper[x]) for x in rule.hyper)
            for vectors in self.vectors:
                vectors.run(rule, options, values)
            self._step_of_library(self.others, settings, hyper, None)
        else:
            guarded = [k for own in self.members for k in own]
            self._step_of_library(guarded, settings, hyper, guard)
            self._replace(self.others, [self.grads[k] * (1.0 / guard.grad_scale) for k in self.others])
            self._step_of_library(self.others, settings, hyper, None)
        if self.step is not None and not (guard is not None and guard.skipped):
            self.step += 1
        if self.averaged is not None:
            self.averaged += 1
        self.grads = []

    def _step_of_library(
        self, chosen: Sequence[int], settings: dict[str, Any], hyper: dict[str, Any], guard: Guard | None
    ) -> None:
        if not chosen:
            return
        params, *states, grads = [
            [_array(column[k], self.tensors[0][k]) for k in chosen] for column in (*self.tensors, self.grads)
        ]
        counted = {"t": int(hyper["t"])} if "t" in self.form.optimizer.settings else {}
        if self.averaged is not None:
            settings = {**settings, "average": (states.pop(), hyper["average_weight"])}
        named = dict(zip(self.form.optimizer.rule.states, states, strict=True))
        self.form.optimizer.step(params, grads, **named, **settings, **counted, guard=guard)


def _array(x: Tensor, p: Tensor) -> Tensor:
    """A tensor that belongs to a parameter, as the step of the library takes it."""
    if dense(p):
        return flat(x)
    return torch.view_as_real(x.detach()) if x.is_complex() else x.detach()


class Plan:
    """The calls for a group, given which of its parameters have gradients."""

    def __init__(self, form: Form, group: dict[str, Any], missing: list[bool], state: Any) -> None:
        self.params, self.missing = list(group["params"]), missing
        self.form = form
        self.keys = form.states if group.get("average") is None else (*form.states, AVERAGE)
        self.places = [k for k, without in enumerate(missing) if not without]
        self.stepped = [self.params[k] for k in self.places]
        self.distributed = any(local(p) is not p for p in self.stepped)
        for p in self.stepped:
            self._begin(p, state[p], group)
        self.own = [state[p] for p in self.stepped]
        self.columns = [[own[key] for own in self.own] for key in self.keys]
        self.calls = self._calls()
        self.written = joined([x for call in self.calls for x in call.written()])
        if segments.Bounds(*self.written).overlap:  # as with PyTorch: one after the other
            self.calls = self._calls(alone=True)
            for call in self.calls:
                if segments.Bounds(*joined(call.written())).overlap:
                    raise ValueError("a parameter and its state overlap in memory; each needs its own")

    def avoid(self, written: segments.Bounds) -> None:
        """Refuse gradients that lie in this memory."""
        for call in self.calls:
            for vectors in call.vectors:
                vectors.avoid(written)

    def holds(self, group: dict[str, Any], missing: list[bool]) -> bool:
        """Are these the tensors of the group still, in the same memory?"""
        return (
            missing == self.missing
            and (group.get("average") is None) == (self.keys == self.form.states)
            and same(group["params"], self.params)
            and all(
                same([own.get(key) for own in self.own], column)
                for key, column in zip(self.keys, self.columns, strict=True)
            )
            and all(
                count is None or all(own.get(key) is count for own in self._own_of(call))
                for call in self.calls
                for key, count in (("step", call.step), (AVERAGED, call.averaged))
            )
        )

    def take(self, grads: list[Any], written: segments.Bounds) -> None:
        """Check the gradients of the group, None where there is none, and keep them for the calls."""
        there = grads if len(self.places) == len(grads) else [grads[k] for k in self.places]
        if not set(map(type, there)) <= PLAIN:
            there = list(map(local, there))
        for call in self.calls:
            call.take(there if len(self.calls) == 1 else [there[k] for k in call.places], written)

    def _own_of(self, call: Call) -> list[dict[str, Any]]:
        return self.own if len(call.places) == len(self.own) else [self.own[k] for k in call.places]

    def _begin(self, p: Tensor, own: dict[str, Any], group: dict[str, Any]) -> None:
        """Give a parameter the states that it lacks, in its own layout."""
        part = local(p)
        if not plain(part):
            raise TypeError(f"a parameter is {validation.type_of(p)}; a torch.Tensor is needed")
        if part.device.type not in ("cpu", "cuda"):
            raise TypeError(f"a parameter is on {part.device}; the CPU or a CUDA device is needed")
        if part.device.type == "cpu" and part.dtype not in DTYPES:
            raise TypeError(
                f"a parameter is {str(part.dtype).removeprefix('torch.')} on the CPU; float32 or float64 is needed, or "
                f"complex64 or complex128: model.float()"
            )
        if not literal(part) or not separate(part):
            raise ValueError(
                f"a parameter of shape {tuple(p.shape)} is an expanded, negated or conjugated view, whose memory holds "
                f"other numbers; one with memory of its own is needed: torch.nn.Parameter(p.detach().clone())"
            )
        if part.is_inference() and not torch.is_inference_mode_enabled():
            raise ValueError("a parameter was made in inference mode; make it outside, or p.clone() it there")
        # The first velocity is then the gradient, the signs of zeros included, as in torch.optim.SGD.
        start = -0.0 if group.get("convention") == "torch" else 0.0
        dtype = torch.float32 if part.dtype in HALF else part.dtype
        if AVERAGE in self.keys:
            if part.dtype in HALF:
                raise TypeError(f"average is for float32, float64 and complex parameters; one is {part.dtype}")
            start_of_average(p, own)
        if part.is_complex() and any(group.get(x) is not None for x in CONSTRAINTS):
            raise TypeError(f"{', '.join(CONSTRAINTS)} are for real parameters, and one is {part.dtype}")
        for key in self.keys:
            if key not in own and key in self.form.points:
                own[key] = p.detach().to(dtype, copy=True, memory_format=torch.preserve_format)
            elif key not in own:
                value = complex(start, start) if part.is_complex() else start
                own[key] = torch.full_like(p, value, dtype=dtype, memory_format=torch.preserve_format)
            elif own[key].shape != p.shape or own[key].is_complex() != p.is_complex():
                raise ValueError(
                    f"the state {key} has shape {tuple(own[key].shape)} and type {own[key].dtype}, and its parameter "
                    f"{tuple(p.shape)} and {p.dtype}: load a state of the same network"
                )
            elif not _fits(local(own[key]), part, dtype):
                own[key] = torch.empty_like(p, dtype=dtype, memory_format=torch.preserve_format).copy_(own[key])
        if self.form.counted:
            own.setdefault("step", 0)

    def _calls(self, alone: bool = False) -> list[Call]:
        parts = [list(map(local, column)) for column in (self.stepped, *self.columns)]
        together: dict[Any, list[int]] = {}
        for k, own in enumerate(self.own):
            averaged = float(own[AVERAGED]) if AVERAGE in self.keys else -1.0
            together.setdefault((float(own.get("step", 0)), averaged, k if alone else 0), []).append(k)
        calls = []
        for (t, averaged, _), places in together.items():
            step = torch.tensor(t, dtype=torch.float32) if self.form.counted else None
            count = None if averaged < 0 else torch.tensor(averaged, dtype=torch.float32)
            for key, x in (("step", step), (AVERAGED, count)):
                if x is not None:
                    for k in places:
                        self.own[k][key] = x
            calls.append(Call(self.form, places, [[column[k] for k in places] for column in parts], step, count))
        return calls


def _fits(state: Tensor, p: Tensor, dtype: torch.dtype) -> bool:
    """Is a state of this type, with memory for each element, beside its parameter?"""
    if not plain(state) or not literal(state) or state.dtype != dtype or state.device != p.device:
        return False
    return same_strides(state, p) if dense(p) else separate(state)


def _span(x: Tensor) -> tuple[int, int]:
    """Where the memory of a tensor begins, and its length up to its last element, in bytes."""
    if x.numel() == 0:
        return x.data_ptr(), 0
    last = sum(stride * (length - 1) for stride, length in zip(x.stride(), x.shape, strict=True))
    return x.data_ptr(), (last + 1) * x.element_size()


def _touched(written: segments.Bounds, x: Tensor) -> bool:
    """Is any of this memory within the bounds of a tensor?"""
    return bool(written.touched_by(*map(np.array, zip(_span(x), strict=True))).any())


def joined(pieces: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """The addresses and the lengths of all pieces, but the empty ones."""
    if not pieces:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    addresses, lengths = (np.concatenate(x) for x in zip(*pieces, strict=True))
    return addresses[lengths > 0], lengths[lengths > 0]


def same(xs: Sequence[Any], ys: Sequence[Any]) -> bool:
    """Are they the same objects?"""
    return len(xs) == len(ys) and all(map(operator.is_, xs, ys))
