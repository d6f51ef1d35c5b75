"""scikit-learn's lists of matrices, `coefs_` and `intercepts_`, as views of one flat vector and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..flat import FlatParams
from ..mlp import layout


def views(sizes: Sequence[int], flat: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The weights and the biases of each layer in the vector."""
    named = FlatParams(layout.named_shapes(sizes), flat.dtype, flat)
    layers = range(1, len(sizes))
    return [named[f"W{layer}"] for layer in layers], [named[f"b{layer}"] for layer in layers]


def packed(coefs: Any, intercepts: Any, write: bool = False) -> tuple[tuple[int, ...], np.ndarray]:
    """The sizes of the network with these weights and biases, and all of them in one vector.

    That is the vector which they are views of; a new one where users have assigned others.
    """
    matrices, vectors = [np.asarray(x) for x in coefs], [np.asarray(x) for x in intercepts]
    sizes = (*matrices[0].shape[:1], *(x.shape[-1] for x in matrices if x.ndim))
    for index, matrix in enumerate(matrices):
        shape = sizes[index : index + 2]
        if matrix.shape != shape or len(vectors) != len(matrices) or vectors[index].shape != shape[1:]:
            raise ValueError(
                f"coefs_ have the shapes {[x.shape for x in matrices]} and intercepts_ {[x.shape for x in vectors]}; "
                f"(inputs, outputs) and (outputs,) are needed for each layer, whose outputs are the next one's inputs"
            )
    parts = matrices + vectors
    dtype = np.dtype(np.float32 if all(x.dtype == np.float32 for x in parts) else np.float64)
    size = layout.parameter_count(sizes)
    base = matrices[0].base
    if type(base) is np.ndarray and base.shape == (size,) and base.dtype == dtype and base.flags.c_contiguous:
        there = [view for kind in views(sizes, base) for view in kind]
        if all(map(is_at, parts, there)) and (base.flags.writeable or not write):
            return sizes, base
    flat = np.empty(size, dtype)
    for view, part in zip([view for kind in views(sizes, flat) for view in kind], parts, strict=True):
        view[...] = part
    return sizes, flat


def is_at(x: Any, place: np.ndarray) -> bool:
    """Does `x` lie where `place` does, element for element?"""
    start, other = x.__array_interface__["data"][0], place.__array_interface__["data"][0]
    return bool(start == other and x.dtype == place.dtype and x.flags.c_contiguous)
