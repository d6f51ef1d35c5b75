"""A handler in a JAX program: registered with XLA, and called on flat lists of arrays."""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Sequence
from typing import Any

import jax
import jaxlib
import numpy as np
from numba.core.compiler_lock import global_compiler_lock

from ..kernels.xla.frame import Offsets, offsets
from ..kernels.xla.handler import Kind, compiled
from ..kernels.xla.header import Unknown, header

OLDEST = (0, 8)  # of jaxlib
MOST = 64  # parameters of a call: XLA compiles one with 1,000 in 30 seconds, and 16 with 64 each in one second
_kept: list[Any] = []  # the compiled functions, which XLA knows by their address


@functools.cache
def interface() -> Offsets:
    """XLA's interface as this jaxlib has it; raises where it is not one that is understood."""
    if tuple(map(int, jaxlib.__version__.split(".")[:2])) < OLDEST:
        raise ImportError(
            f"nagd_numba.adapters.optax needs jax >= 0.8, and this is jaxlib {jaxlib.__version__}, in which XLA ends "
            f"the process over a program that has a matrix product beside a custom call: pip install -U jax"
        )
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
    with global_compiler_lock:  # a lock of our own could be waited for by who holds it
        return _register(kind)


@functools.cache
def _register(kind: Kind) -> str:
    made = compiled(kind, interface())
    jax.ffi.register_ffi_target(kind.name, jax.ffi.pycapsule(ctypes.c_void_p(made.address)), platform="cpu")
    _kept.append(made)
    return kind.name


def call(kind: Kind, hyper: Sequence[Any], arrays: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """The results of a handler: lists of arrays, as `Kind` counts them; one call for `MOST` parameters.

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
    attributes = {
        "hyper": np.array([x if isinstance(x, float) else 0.0 for x in hyper], np.float64),
        "traced": np.array(places, np.int64),
    }
    results: list[list[Any]] = [[] for _ in range(kind.results)]
    for first in range(0, len(arrays[0]), MOST):
        part = [array[first : first + MOST] for array in arrays]
        for whole, made in zip(results, _one_call(kind, numbers, part, attributes), strict=True):
            whole.extend(made)
    return results


def _one_call(
    kind: Kind, numbers: Sequence[Any], arrays: Sequence[Sequence[Any]], attributes: dict[str, Any]
) -> list[list[Any]]:
    count = len(arrays[0])
    shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype) for array in kind.aliases for x in arrays[array]]
    aliases = {
        len(numbers) + array * count + k: result * count + k
        for result, array in enumerate(kind.aliases)
        for k in range(count)
    }
    function = jax.ffi.ffi_call(register(kind), shapes, vmap_method="broadcast_all", input_output_aliases=aliases)
    made = function(*numbers, *(x for array in arrays for x in array), **attributes)
    return [list(made[k * count : (k + 1) * count]) for k in range(kind.results)]
