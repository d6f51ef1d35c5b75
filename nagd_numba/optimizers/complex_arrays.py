"""Steps of complex parameters: those of their real and imaginary parts, on the same memory.

As in PyTorch, whose Adam and kin step `torch.view_as_real` of a parameter: second moments, signs and roots are those of
each part by itself, and are kept as complex numbers.  SGD, Nesterov's method and FISTA are linear in the gradient, so
that there it makes no difference.

The gradient is that with respect to both parts: for a real `f` of `z = x + i y`

    g = df/dx + i df/dy = 2 df/d(conj z)

which is what PyTorch's autograd gives, and the direction in which `f` grows most.  (JAX gives `df/dx - i df/dy`, its
conjugate; so does `df/dz` of calculus, times 2: pass `np.conj(...)` of those.)
"""

from __future__ import annotations

import copy
import sys
from typing import Any, NamedTuple

import numpy as np

from .. import validation
from ..flat import FlatParams
from .average import Average
from .composed_arguments import LISTS, Composition

DTYPES = np.dtype(np.complex64), np.dtype(np.complex128)


def is_complex(x: Any) -> bool:
    """Is it a complex array of the host, or a list that begins with one?"""
    if isinstance(x, LISTS):
        return len(x) > 0 and is_complex(x[0])
    if isinstance(x, FlatParams):
        return is_complex(x.flat)
    if issubclass(type(x), np.ndarray):
        return validation.plain_view(x).dtype in DTYPES
    return validation.is_tensor(x) and x.is_complex() and not validation.is_device_array(x)


def as_real(name: str, x: Any) -> Any:
    """The parts of complex numbers on the same memory, in one more dimension; real arrays as they are."""
    if isinstance(x, LISTS):
        return type(x)(as_real(f"{name}[{k}]", y) for k, y in enumerate(x))
    if not is_complex(x):
        return x
    if isinstance(x, FlatParams):
        layout = [(part, (*shape, 2)) for part, shape in x.layout]
        flat = as_real(name, x.flat)
        return FlatParams(layout, flat.dtype, flat.reshape(-1))
    if issubclass(type(x), np.ndarray):
        x = validation.plain_view(x)
        parts = x.real  # of the same strides, and as writeable
        return np.lib.stride_tricks.as_strided(parts, (*x.shape, 2), (*x.strides, x.itemsize // 2))
    if x.is_conj():
        raise ValueError(f"{name} is a conjugated view, whose memory holds other numbers; pass {name}.resolve_conj()")
    torch: Any = sys.modules["torch"]
    return torch.view_as_real(x.detach())


def in_parts(
    names: tuple[str, ...], arrays: tuple[Any, ...], hyper: tuple[Any, ...], composition: Composition | None
) -> tuple[tuple[Any, ...], tuple[Any, ...], Composition | None, Average | None]:
    """The arrays, numbers and composition of a step of the parts, and an average whose steps are to be told.

    Raises for arrays that are not of one dtype and shape, and for bounds and maps.
    """
    _alike(names, arrays)
    rates = tuple(doubled(x) if isinstance(x, (np.ndarray, *LISTS)) else x for x in hyper)
    parts = tuple(as_real(name, x) for name, x in zip(names, arrays, strict=True))
    if composition is None:
        return parts, rates, None, None
    for name in ("lower", "upper", "prox", "prox_weight"):
        if getattr(composition, name) is not None:
            raise ValueError(f"{name} does not go with complex params: complex numbers have no order")
    average = composition.average
    if isinstance(average, Average):
        average = copy.copy(average)
        average.value = as_real("average", average.value)
    elif isinstance(average, tuple) and len(average) == 2:  # an array and its weight
        average = as_real("average", average[0]), average[1]
    kept = average if isinstance(average, Average) else None
    return parts, rates, composition._replace(mask=_mask(composition.mask), average=average), kept


def doubled(x: Any) -> Any:
    """Each element of an array, or of those of a list, for both parts."""
    if isinstance(x, LISTS):
        return type(x)(map(doubled, x))
    return np.repeat(x[..., None], 2, axis=-1) if isinstance(x, np.ndarray) else x


def _mask(mask: Any) -> Any:
    if isinstance(mask, LISTS):
        return type(mask)(map(_mask, mask))
    if mask is None:
        return None
    mask = np.asarray(mask.flat if isinstance(mask, FlatParams) else mask)
    if mask.dtype in (np.bool_, np.uint8):
        return doubled(mask)
    return (2 * mask[:, None] + np.arange(2, dtype=mask.dtype)).reshape(-1) if mask.ndim == 1 else mask


class _Kind(NamedTuple):
    dtype: Any
    shape: tuple[int, ...]


def _alike(names: tuple[str, ...], arrays: tuple[Any, ...]) -> None:
    """Raise unless all are of one dtype and shape, which their parts do not tell."""
    if isinstance(arrays[0], LISTS):
        for k, group in enumerate(zip(*arrays, strict=False)):  # who takes them sees to the lengths
            _alike(tuple(f"{name}[{k}]" for name in names), group)
        return
    named = []
    for name, x in zip(names, arrays, strict=True):
        x = x.flat if isinstance(x, FlatParams) else x
        if not hasattr(x, "dtype") or not hasattr(x, "shape"):
            raise TypeError(
                f"{name} is {validation.type_of(x)}; an array of complex numbers is needed, as {names[0]} is"
            )
        named.append((name, _Kind(np.dtype(str(x.dtype).removeprefix("torch.")), tuple(x.shape))))
    if any(kind.dtype in DTYPES for _, kind in named):
        validation.same_kind(named)
