"""Masks: which elements a step works on."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..flat import FlatParams
from .composed_arguments import LISTS


def masks_of(mask: Any, lists: bool, count: int) -> tuple[str, list[Any]]:
    """The kind of the masks, and one for each place of lists, or None."""
    if mask is None:
        return "", [None] * count
    given = places_of_masks(mask, lists, count)
    masks = [np.asarray(getattr(x, "flat", x) if isinstance(x, FlatParams) else x) for x in given]
    kinds = set()
    for k, x in enumerate(masks):
        name = f"mask[{k}]" if lists else "mask"
        if x.dtype in (np.bool_, np.uint8):
            kinds.add("bytes")
        elif x.dtype.kind in "iu" and x.ndim == 1:
            kinds.add("places")
        else:
            raise TypeError(
                f"{name} has dtype {x.dtype} and shape {x.shape}; an array of bool or uint8 of the shape of params "
                f"is needed, or a vector of the places (int64) of the elements to step"
            )
    if len(kinds) > 1:
        raise TypeError("mask has arrays of bytes and of places; one kind is needed for all")
    return kinds.pop() if kinds else "", masks


def places_of_masks(mask: Any, lists: bool, count: int) -> list[Any]:
    """The mask of each place of lists."""
    if lists != isinstance(mask, LISTS) or (lists and len(mask) != count):
        raise TypeError("mask must be as params is: an array, or a list of as many arrays")
    return list(mask) if lists else [mask]


def mask_of(mask: Any, params: tuple[str, np.ndarray], kind: str) -> np.ndarray | None:
    """A mask in the form of kernels, checked against its parameters."""
    name, x = params
    label = name.replace("params", "mask")
    if mask is None:
        return None
    if kind == "bytes":
        if mask.shape != x.shape:
            raise ValueError(f"{label} has shape {mask.shape} and {name} {x.shape}; one shape is needed")
        as_bytes: np.ndarray = mask.view(np.uint8)
        return as_bytes
    places: np.ndarray = mask.astype(np.int64)
    if places.size and not (places[0] >= 0 and places[-1] < x.size and np.all(places[1:] > places[:-1])):
        raise ValueError(
            f"{label} has places out of order or out of range; whole numbers from 0 to below {x.size} are needed, each "
            f"once, ascending: np.unique({label})"
        )
    return places


def part_of(mask: np.ndarray | None, first: int, stop: int, kind: str) -> np.ndarray | None:
    """The mask of a part of a vector."""
    if mask is None or kind == "bytes":
        return mask if mask is None else mask[first:stop]
    low, high = np.searchsorted(mask, (first, stop))
    moved: np.ndarray = mask[low:high] - first
    return moved
