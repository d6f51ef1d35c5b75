"""The memory of tensors, as a table for one call of a compiled kernel, which holds as long as nothing moves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import validation
from ..kernels import dlpack, segments, statuses
from ..kernels.rule import Rule

DTYPES: dict[torch.dtype, np.dtype[Any]] = {
    torch.float32: np.dtype(np.float32),
    torch.float64: np.dtype(np.float64),
    torch.complex64: np.dtype(np.float32),
    torch.complex128: np.dtype(np.float64),
}
HALF = (torch.float16, torch.bfloat16)  # on a CUDA device, with float32 states
PLAIN = {Tensor, torch.nn.Parameter, torch.nn.Buffer}


def local(x: Tensor) -> Tensor:
    """The part of a distributed tensor that this process has; any other tensor as it is."""
    return x if x.__class__ in PLAIN else getattr(x, "_local_tensor", x)


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


def separate(x: Tensor) -> bool:
    """Has each element memory of its own?  (Some interleaved ones are taken to share it.)"""
    reach = 0
    for stride, length in sorted((s, n) for s, n in zip(x.stride(), x.shape, strict=True) if n > 1):
        if stride <= reach:
            return False
        reach += stride * (length - 1)
    return True


def literal(x: Tensor) -> bool:
    """Are the numbers in memory those of the tensor, not negated or conjugated ones?"""
    return not x.is_neg() and not x.is_conj()


def laid_out(x: Tensor, like: Tensor) -> Tensor:
    """`x`, or a copy of it, literal and with the strides of another tensor if that is dense."""
    if not dense(like):
        return x.resolve_conj().resolve_neg()
    if same_strides(x, like) and literal(x):
        return x
    return torch.empty_like(like).copy_(x)


class Moved(Exception):
    """Parameters or states are not where they were: everything must be looked at again."""


class Vectors:
    """Dense parameters on the host of one dtype, with their states, for which one kernel is called.

    tensors   the parameters, then each state, in lists
    written   the addresses of all of these
    lengths   of each parameter, in bytes
    """

    def __init__(self, tensors: Sequence[Sequence[Tensor]]) -> None:
        self.tensors = [list(column) for column in tensors]
        params = self.tensors[0]
        self.dtype = DTYPES[params[0].dtype]
        self._complex = params[0].is_complex()
        sizes = np.array([x.numel() * (2 if self._complex else 1) for x in params], np.int64)
        self.lengths = sizes * self.dtype.itemsize
        addresses = [list(map(Tensor.data_ptr, column)) for column in self.tensors]
        self.written = np.array(addresses, np.int64).reshape(-1)
        self.total = int(sizes.sum())
        self._table = segments.Table(addresses, sizes)
        self._shapes, self._strides = [tuple(x.shape) for x in params], list(map(Tensor.stride, params))
        describe = dlpack.describer(Tensor)
        self._examiner = describe and dlpack.Examiner(
            describe,
            self._shapes,
            self._strides,
            np.dtype(f"c{2 * self.dtype.itemsize}") if self._complex else self.dtype,
            self._table.places,
            self.lengths,
        )

    def avoid(self, written: segments.Bounds) -> None:
        """Refuse gradients that lie in this memory."""
        self._written = written
        if self._examiner:
            self._examiner.avoid(written.starts, written.stops)

    def take(self, grads: list[Tensor]) -> list[Tensor]:
        """Check gradients and note where they are; returns them, or copies that are laid out as the parameters.

        What is returned must be kept until the step is done.  Raises `Moved` where a parameter or a state has.
        """
        params, *states = self.tensors
        if self._complex or any(map(Tensor.is_neg, grads)):
            grads = list(map(laid_out, grads, params))
        try:
            status = self._examined([params, grads, *states])
            if status > 0:
                for p, g in zip(params, grads, strict=True):
                    check_gradient(p, g)
                grads = list(map(laid_out, grads, params))
                status = self._examined([params, grads, *states])
        except RuntimeError:  # what has no memory: a sparse tensor, say
            for p, g in zip(params, grads, strict=True):
                check_gradient(p, g)
            raise
        if status == dlpack.MOVED:
            raise Moved
        if status == dlpack.OVERLAP:
            raise ValueError("a gradient overlaps parameters or states in memory; each needs its own")
        if status != dlpack.OK:
            raise RuntimeError("gradients that had passed every check do not fit: please report this")
        return grads

    def _examined(self, lists: list[list[Tensor]]) -> int:
        """What `dlpack.examine` returns."""
        if self._examiner:
            return self._examiner(lists)
        params, grads, *states = lists
        places = self._table.places
        written = [places[0], *places[segments.GRADS + 1 :]]
        if any(
            list(map(Tensor.data_ptr, x)) != row.tolist() for x, row in zip([params, *states], written, strict=True)
        ):
            return dlpack.MOVED
        for k, (p, g) in enumerate(zip(params, grads, strict=True)):
            if g.dtype != p.dtype or g.shape != p.shape or not same_strides(g, p):
                return k + 1
        addresses = np.array(list(map(Tensor.data_ptr, grads)), np.int64)
        if (self._written.touched_by(addresses, self.lengths) & (self.lengths > 0)).any():
            return dlpack.OVERLAP
        places[segments.GRADS] = addresses
        return dlpack.OK

    def run(self, rule: Rule, options: tuple[Any, ...], hyper: tuple[float, ...]) -> None:
        """Step them; the gradients were taken."""
        if self.total == 0:
            return
        if segments.step_of(rule, options, self.dtype)(self._table, hyper) != statuses.OK:
            rule.scalars(hyper, self.dtype, options)  # says what is wrong with them
            raise RuntimeError("a kernel refused what had passed every check: please report this")


def same_strides(x: Tensor, y: Tensor) -> bool:
    """Are the elements of two tensors of one shape in the same order?"""
    return all(a == b or n < 2 for a, b, n in zip(x.stride(), y.stride(), x.shape, strict=True))


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
    if g.__class__ not in PLAIN:
        raise TypeError(f"the gradient of a parameter is {validation.type_of(g)}; a torch.Tensor is needed")


def plain(x: Tensor) -> bool:
    """Is it a tensor of no other class, whose numbers are in memory?"""
    return x.__class__ in PLAIN and x.layout == torch.strided
