"""What users give for a solve on a device, and every message about what it does not fit."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import typeof, types
from numba.extending import is_jitted
from numba.np.numpy_support import from_dtype

from ...gpu import compiler, device_array, target
from ...gpu.device_array import DeviceMemory
from ...kernels.jit import plain
from ...validation import is_device_array, type_of
from ..specialize import DIFFERENCES, INPLACE, Functions
from ..user_functions import form_of

_VECTOR = types.Array(types.float64, 1, "A")


def is_compiled(function: Any) -> bool:
    """Is it a function of `@njit`, or of `@cuda.jit`?"""
    return is_jitted(function) or target.is_function(function)


class Argument:
    """One of the arguments for the user's functions: its type there, and what a launch passes."""

    def __init__(self, name: str, given: Any) -> None:
        self.name = name
        self.memory: DeviceMemory | None = None
        if is_device_array(given):
            self.memory = memory = device_array.describe(name, given, write=False, dtypes=None)
            try:
                self.kind: Any = types.Array(from_dtype(np.dtype(memory.dtype)), len(memory.shape), "C")
            except (TypeError, NotImplementedError) as error:  # NumPy, or Numba, has no such numbers
                raise TypeError(f"{name} has dtype {memory.dtype}, which compiled functions cannot read") from error
            self.passed: tuple[Any, ...] = (memory.pointer, *map(np.int64, memory.shape))
        elif isinstance(given, bool | int | float | np.bool_ | np.integer | np.floating):
            self.kind = typeof(given)
            self.passed = (np.dtype(str(self.kind).replace("boolean", "bool")).type(given),)
        else:
            raise TypeError(
                f"{name} is {type_of(given)}; an array on the device of the start, or a number, is needed: copy it "
                f"there, for example with numba.cuda.to_device"
            )


def row_of(kind: Any) -> Any:
    """The type of a row of an array, or of its element."""
    return kind.dtype if kind.ndim == 1 else kind.copy(ndim=kind.ndim - 1)


def adapted(
    fun: Any, jac: Any, prox: Any, penalty: Any, arguments: tuple[types.Type, ...], capability: tuple[int, int]
) -> Functions:
    """The functions, each compiled alone to see what it returns for arguments of these types."""
    form = form_of(jac)
    if form not in (DIFFERENCES, INPLACE):
        raise TypeError(
            f"jac is {jac!r}; functions make no arrays on a CUDA device: give jac='inplace' with a fun(x, g, *args) "
            f"that writes the gradient into g and returns the value, or None for differences of values"
        )
    vectors = (_VECTOR, _VECTOR) if form == INPLACE else (_VECTOR,)
    call = "fun(x, g, *args)" if form == INPLACE else "fun(x, *args)"
    _number("fun", fun, call, (*vectors, *arguments), len(arguments), capability)
    if penalty is not None:
        _number("options['penalty']", penalty, "penalty(x)", (_VECTOR,), 0, capability)
    if callable(prox):
        mapped = _returned("prox", prox, "prox(x, step)", (_VECTOR, types.float64), 0, capability)
        if not isinstance(mapped, types.Array | types.UniTuple):
            raise TypeError(f"prox returns {mapped}; an array is needed, such as x, which it may write to")
    return Functions(fun, None, form, prox, penalty)


def _number(name: str, function: Any, *how: Any) -> None:
    kind = _returned(name, function, *how)
    if not isinstance(kind, types.Float | types.Integer):
        raise TypeError(f"{name} returns {kind}; a real number is needed")


def _returned(
    name: str, function: Any, call: str, kinds: tuple[types.Type, ...], args: int, capability: tuple[int, int]
) -> Any:
    if not is_compiled(function):
        raise TypeError(
            f"{name} is {type_of(function)} and fun is compiled; on a CUDA device all of the functions are: @njit or "
            f"@cuda.jit(device=True) is needed"
        )
    if target.is_function(function) and not target.is_function(function, device=True):
        raise TypeError(f"{name} is a CUDA kernel; a device function is needed: @cuda.jit(device=True)")
    form = f"{call} with {args} args" if "*" in call else call
    python: Callable = plain(function)
    try:
        inspect.signature(python).bind(*kinds)
    except TypeError as error:
        raise TypeError(f"{name} does not fit: it is called as {form}, and {error}") from error
    try:
        return compiler.returned(python, kinds, capability)
    except Exception as error:  # Numba's errors have no common public type
        lines = [line.strip() for line in str(error).splitlines()]
        said = next((line for line in lines if line and "pipeline" not in line), type(error).__name__)
        raise TypeError(
            f"{name} cannot be compiled for a CUDA device and the call {form} (x is a float64 vector): {said}\n"
            f"Functions there make no arrays, and have numbers and math, not all of NumPy"
        ) from error
