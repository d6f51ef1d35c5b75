"""A handler in a JAX program: registered with XLA, and called on flat lists of arrays."""

from __future__ import annotations

import ctypes
import functools
import os
import threading
from collections.abc import Sequence
from typing import Any

import jax
import jaxlib
import numpy as np

from .frame import Offsets, offsets
from .handler import Kind, compiled
from .header import Unknown, header

_lock = threading.Lock()
_kept: list[Any] = []  # the compiled functions, which XLA knows by their address


@functools.cache
def interface() -> Offsets:
    """XLA's interface as this jaxlib has it; raises where it is not one that is understood."""
    if os.name != "posix":
        raise ImportError("nagd_numba.adapters.optax needs Linux or macOS: its loops run on the threads of POSIX")
    try:
        return offsets(header(jax.ffi.include_dir()))
    except Unknown as error:
        raise ImportError(
            f"nagd_numba.adapters.optax cannot use XLA as jaxlib {jaxlib.__version__} has it: of its header "
            f"xla/ffi/api/c_api.h, {error}. jax 0.10 is known to work."
        ) from error


def register(kind: Kind) -> str:
    """The name of a handler in programs; compiled, and made known to XLA, on its first use."""
    with _lock:
        return _register(kind)


@functools.cache
def _register(kind: Kind) -> str:
    made = compiled(kind, interface())
    jax.ffi.register_ffi_target(kind.name, jax.ffi.pycapsule(ctypes.c_void_p(made.address)), platform="cpu")
    _kept.append(made)
    return kind.name


def call(kind: Kind, hyper: Sequence[Any], arrays: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """The results of one call of a handler: lists of arrays, as `Kind` counts them.

    `hyper` has, for each hyper-parameter of the rule, a float or an array of one element; `arrays` are the operands'
    lists, each as long as there are parameters.  An array that is given twice for a number is one operand.
    """
    numbers: list[Any] = []
    places = []
    for x in hyper:
        known = [k for k, y in enumerate(numbers) if y is x]
        if isinstance(x, float):
            places.append(-1)
        elif known:
            places.append(known[0])
        else:
            places.append(len(numbers))
            numbers.append(x)
    count = len(arrays[0])
    shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype) for array in kind.aliases for x in arrays[array]]
    aliases = {
        len(numbers) + array * count + k: result * count + k
        for result, array in enumerate(kind.aliases)
        for k in range(count)
    }
    function = jax.ffi.ffi_call(
        register(kind), shapes, vmap_method="broadcast_all", input_output_aliases=aliases
    )
    made = function(
        *numbers,
        *(x for array in arrays for x in array),
        hyper=np.array([x if isinstance(x, float) else 0.0 for x in hyper], np.float64),
        traced=np.array(places, np.int64),
    )
    return [list(made[k * count : (k + 1) * count]) for k in range(kind.results)]
