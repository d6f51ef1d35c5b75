"""Steps of Keras' variables on PyTorch: in place, on the memory of their tensors."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from keras.src.backend.common.stateless_scope import in_stateless_scope
from torch import Tensor

from ..kernels import segments
from ..optimizers.optimizer import Optimizer
from . import keras_copies
from .keras_copies import Settings, fitting
from .torch_forms import Arguments, Form
from .torch_plan import Call, joined, same
from .torch_vectors import Moved


class Steps(keras_copies.Steps):
    """The steps of one optimizer; where the tensors are is kept from step to step."""

    def __init__(self, optimizer: Optimizer) -> None:
        super().__init__(optimizer)
        self._form = Form(optimizer.rule.name, optimizer)
        self._tensors: list[list[Tensor]] = []
        self._first: dict[str, Any] = {}
        self._checked: tuple[dict[str, Any], tuple[Any, ...]]
        self._arguments: Arguments

    def ready(
        self,
        variables: list[Any],
        states: list[list[Any]],
        grads: list[Any],
        settings: Settings,
        learning_rate: Any,
        iterations: Any,
    ) -> Callable[[], None]:
        """What steps the variables, to be called; everything is checked before this returns."""
        if in_stateless_scope():  # the variables stand for tensors of the caller, which are his
            return super().ready(variables, states, grads, settings, learning_rate, iterations)
        rate, steps = (float(getattr(x, "_value", x)) for x in (learning_rate, iterations))
        first = settings(rate, 1, math)  # what does not change from step to step is checked once
        if first != self._first:
            self._checked = self.optimizer.arguments(first)
            self._first = first
        given = settings(rate, 1 + int(steps), math)
        hyper, options = self._checked
        now = {x: given[x] if self.optimizer.is_number(x) else y for x, y in hyper.items()}
        self._arguments = (now, options), {x: y for x, y in given.items() if x != "t"}
        # What `value` returns here, but it looks for scopes first, which takes longer than the step.
        tensors = [[x._value for x in column] for column in (variables, *states)]
        fit = [
            g if g.dtype == p.dtype and g.shape == p.shape else fitting(g, variable)
            for g, p, variable in zip(grads, tensors[0], variables, strict=True)
        ]
        self._take(tensors, fit)
        run: Callable[[], None] = self._run
        return run

    def _take(self, tensors: list[list[Tensor]], grads: list[Tensor]) -> None:
        """Check the gradients and keep them; look at all tensors anew where they are not those of the last step."""
        with torch.no_grad():
            if len(tensors) != len(self._tensors) or not all(map(same, tensors, self._tensors)):
                self._look(tensors)
            try:
                self._call.take(grads, self._written)
            except Moved:
                self._look(tensors)
                self._call.take(grads, self._written)

    def _look(self, tensors: list[list[Tensor]]) -> None:
        self._tensors = []
        params, *states = tensors
        for column in states:
            for p, x in zip(params, column, strict=True):
                if x.stride() != p.stride():  # Keras makes states contiguous, whatever the parameter is
                    x.data = torch.empty_like(p, dtype=x.dtype).copy_(x)
        self._call = Call(self._form, range(len(params)), tensors, None)
        self._written = segments.Bounds(*joined(self._call.written()))
        if self._written.overlap:
            raise ValueError("two variables share memory; each needs its own")
        for vectors in self._call.vectors:
            vectors.avoid(self._written)
        self._tensors = tensors

    @torch.no_grad()
    def _run(self) -> None:
        self._call.run(*self._arguments, None)
        for column in self._tensors:
            torch.autograd.graph.increment_version(column)
