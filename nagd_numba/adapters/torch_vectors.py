"""The memory of tensors, as a table for one call of a compiled kernel, which holds as long as nothing moves."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import validation
from ..kernels import elementwise, segments
from ..kernels.rule import Rule
from ..optimizers._host import use_parallel

DTYPES: dict[torch.dtype, np.dtype[Any]] = {
    torch.float32: np.dtype(np.float32),
    torch.float64: np.dtype(np.float64),
    torch.complex64: np.dtype(np.float32),
    torch.complex128: np.dtype(np.float64),
}
_PLAIN = {Tensor, torch.nn.Parameter, torch.nn.Buffer}
_KIND = operator.attrgetter("dtype", "shape", "layout")


def local(x: Tensor) -> Tensor:
    """The part of a distributed tensor that this process has; any other tensor as it is."""
    return x if x.__class__ in _PLAIN else getattr(x, "_local_tensor", x)


def flat(x: Tensor) -> Tensor:
    """A vector of real numbers on the memory of a tensor whose elements lie close together."""
    x = x.detach()
    if x.is_complex():
        x = torch.view_as_real(x)
    return x.as_strided((x.numel(),), (1,))


def dense(x: Tensor) -> bool:
    """Do the elements fill a piece of memory, in some order of the dimensions?"""
    reach = 1
    for stride, length in sorted((s, n) for s, n in zip(x.stride(), x.shape, strict=True) if n > 1):
        if stride != reach:
            return False
        reach *= length
    return True


def laid_out(x: Tensor, like: Tensor) -> Tensor:
    """`x`, or a copy of it, with the strides of another tensor and with the numbers themselves in memory."""
    if x.stride() == like.stride() and not x.is_neg() and not x.is_conj():
        return x
    return torch.empty_like(like).copy_(x)


class Vectors:
    """Dense parameters on the host of one dtype, with their states, for which one kernel is called.

    tensors   the parameters, then each state, in lists
    written   the addresses of those with elements
    lengths   of each of these parameters, in bytes
    """

    def __init__(self, tensors: Sequence[Sequence[Tensor]]) -> None:
        self.tensors = [list(column) for column in tensors]
        params = self.tensors[0]
        self.dtype = DTYPES[params[0].dtype]
        real = 2 if params[0].is_complex() else 1
        self._kinds = list(map(_KIND, params))
        self._strides = list(map(Tensor.stride, params))
        self._complex = real == 2
        self._addresses = [list(map(Tensor.data_ptr, column)) for column in self.tensors]
        sizes = np.array([real * x.numel() for x in params], np.int64)
        self._filled = np.flatnonzero(sizes)
        self.lengths = sizes[self._filled] * self.dtype.itemsize
        written = [np.array(column, np.int64)[self._filled] for column in self._addresses]
        self._table = segments.Table(written, sizes[self._filled])
        self.written = np.concatenate(written)
        self.total = int(sizes.sum())

    def moved(self) -> bool:
        """Does any of the parameters or states lie elsewhere now?"""
        return any(
            list(map(Tensor.data_ptr, column)) != was for column, was in zip(self.tensors, self._addresses, strict=True)
        )

    def fitting(self, grads: list[Tensor]) -> list[Tensor]:
        """Gradients as the kernel needs them: dense, in the order of the parameters; raises for unfit ones."""
        if list(map(_KIND, grads)) != self._kinds:
            for p, g in zip(self.tensors[0], grads, strict=True):
                check_gradient(p, g)
        if self._complex or list(map(Tensor.stride, grads)) != self._strides or any(map(Tensor.is_neg, grads)):
            return [laid_out(g, p) for g, p in zip(grads, self.tensors[0], strict=True)]
        return grads

    def read(self, grads: list[Tensor]) -> np.ndarray:
        """Enter the gradients into the table; returns their addresses."""
        addresses = np.array(list(map(Tensor.data_ptr, grads)), np.int64)[self._filled]
        self._table.places[segments.GRADS] = addresses
        return addresses

    def run(self, rule: Rule, options: tuple[Any, ...], hyper: tuple[float, ...]) -> None:
        """Step them; the gradients were entered."""
        if self.total == 0:
            return
        kernel = segments.segments_kernel(rule, options, self.dtype, use_parallel(self.total))
        if kernel(self._table.places, self._table.ends, hyper) != elementwise.OK:
            rule.scalars(hyper, self.dtype, options)  # says what is wrong with them
            raise RuntimeError("a kernel refused what had passed every check: please report this")


def _described(x: Tensor) -> str:
    return f"{str(x.dtype).removeprefix('torch.')} of shape {tuple(x.shape)}"


def check_gradient(p: Tensor, g: Tensor) -> None:
    """Raise for a gradient that is not dense, or not of the type and shape of its parameter."""
    if g.layout != torch.strided:
        raise TypeError(
            f"the gradient of a parameter of shape {tuple(p.shape)} is sparse ({g.layout}); a dense one is needed: "
            f"sparse=False in the embedding, or p.grad = p.grad.to_dense()"
        )
    if g.dtype != p.dtype or g.shape != p.shape:
        raise TypeError(f"the gradient of a parameter is {_described(g)}, and the parameter {_described(p)}")
    if g.__class__ not in _PLAIN:
        raise TypeError(f"the gradient of a parameter is {validation.type_of(g)}; a torch.Tensor is needed")


def plain(x: Tensor) -> bool:
    """Is it a tensor of no other class, whose numbers are in memory?"""
    return x.__class__ in _PLAIN and x.layout == torch.strided
