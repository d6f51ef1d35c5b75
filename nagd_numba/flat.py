"""`FlatParams`: named, shaped views on one flat vector."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .validation import prefixed

Layout = Sequence[tuple[str, tuple[int, ...]]]


class FlatParams(Mapping[str, Any]):
    """Named, shaped views on one flat vector, for code that computes with matrices and steps on a vector.

    The views share the memory of `flat`: writing to either changes both.

    Parameters
    ----------
    layout : sequence of (name, shape)
        In the order in which they lie in memory.
    dtype : dtype
        Of the vector that is made, zeros, when no `flat` is given.
    flat : array, optional
        A contiguous vector to lay the views on, NumPy or a device array that can be sliced and reshaped.

    Raises
    ------
    TypeError, ValueError
        For a shape that is not of whole numbers, a name given twice, a negative dimension, or a `flat` that is not a
        contiguous vector of the total size.

    Examples
    --------
    >>> import numpy as np
    >>> import nagd_numba
    >>> p = nagd_numba.FlatParams([("W", (2, 3)), ("b", (3,))])
    >>> g, v = p.like(), p.like()
    >>> g["W"][...] = 1.0
    >>> _ = nagd_numba.step(p.flat, g.flat, v.flat, lr=0.5, momentum=0.0)
    >>> p["W"]
    array([[-0.5, -0.5, -0.5],
           [-0.5, -0.5, -0.5]], dtype=float32)
    >>> p.flat.size
    9
    """

    @prefixed("FlatParams")
    def __init__(self, layout: Layout, dtype: Any = np.float32, flat: Any = None) -> None:
        self.layout = tuple((str(name), _shape(name, shape)) for name, shape in layout)
        names = [name for name, _ in self.layout]
        for name, shape in self.layout:
            if names.count(name) > 1:
                raise ValueError(f"layout names {name!r} twice; each name must be its own")
            if any(n < 0 for n in shape):
                raise ValueError(f"layout gives {name!r} the shape {shape}; dimensions must be >= 0")
        size = sum(math.prod(shape) for _, shape in self.layout)
        if flat is None:
            flat = np.zeros(size, dtype)
        if not hasattr(flat, "shape") or not hasattr(flat, "dtype"):
            raise TypeError(f"flat is {type(flat).__name__}; an array is needed: np.asarray(flat, dtype=np.float32)")
        if tuple(flat.shape) != (size,):
            raise ValueError(f"flat has shape {tuple(flat.shape)}; this layout needs a vector of {size} elements")
        if isinstance(flat, np.ndarray) and not flat.flags.c_contiguous:
            raise ValueError("flat is strided; views of any shape need a contiguous vector: np.ascontiguousarray(flat)")
        self.flat = flat
        self._views: dict[str, Any] = {}
        start = 0
        for name, shape in self.layout:
            stop = start + math.prod(shape)
            self._views[name] = flat[start:stop].reshape(shape)
            start = stop

    def __getitem__(self, name: str) -> Any:
        return self._views[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)

    def __repr__(self) -> str:
        return f"FlatParams({list(self.layout)}, dtype={self.flat.dtype})"

    def like(self, flat: Any = None) -> FlatParams:
        """The same layout on another vector: on `flat`, or on new zeros."""
        return FlatParams(self.layout, self.flat.dtype, flat)


def _shape(name: Any, shape: Any) -> tuple[int, ...]:
    try:
        return tuple(operator.index(n) for n in ([shape] if isinstance(shape, int) else shape))
    except TypeError as error:
        raise TypeError(f"layout gives {name!r} the shape {shape!r}; a tuple of whole numbers is needed") from error
