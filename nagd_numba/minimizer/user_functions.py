"""The user's functions as the loop wants them, looked at once at the start: shapes, signatures, types."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from numba.core.errors import TypingError
from numba.extending import is_jitted

from ..validation import type_of
from . import array_backends
from .specialize import APART, DIFFERENCES, INPLACE, TOGETHER, Functions


def adapted(fun: Any, jac: Any, prox: Any, penalty: Any, x: np.ndarray, args: tuple[Any, ...]) -> Functions:
    """The functions, after a call of each at `x`; those in Python are given copies and return what NumPy has."""
    if not callable(fun):
        raise TypeError(f"fun is {type_of(fun)}; a function fun(x, *args) that returns a number is needed")
    form = form_of(jac)
    functions = Functions(fun, jac if form == APART else None, form, prox, penalty)
    if functions.jitted:
        _check(functions, x, args)
        return functions
    python = Functions(
        _pair(fun) if form == TOGETHER else _scalar("fun", fun),  # with INPLACE, the gradient is the first of the args
        _vector("jac", jac) if form == APART else None,
        form,
        _vector("prox", prox) if callable(prox) else prox,
        None if penalty is None else _scalar("options['penalty']", penalty),
    )
    _check(functions, x, args, python)
    return python


def form_of(jac: Any) -> str:
    """Where the gradient comes from, by `jac`."""
    if not (jac is None or isinstance(jac, bool) or callable(jac) or (isinstance(jac, str) and jac == "inplace")):
        raise TypeError(
            f"jac is {jac!r}; None, True, 'inplace', or a function jac(x, *args) that returns the gradient is needed"
        )
    if isinstance(jac, str):
        return INPLACE
    return DIFFERENCES if jac is None or jac is False else TOGETHER if jac is True else APART


def _check(functions: Functions, x: np.ndarray, args: tuple[Any, ...], python: Functions | None = None) -> None:
    calls = python or functions
    gradient = None
    if functions.form == INPLACE:
        form = f"fun(x, g, *args) with {len(args)} args"
        returned = _call("fun", functions.fun, calls.fun, x, (np.zeros_like(x), *args), form)
    else:
        returned = _call("fun", functions.fun, calls.fun, x, args)
    if functions.form == TOGETHER:
        if not (isinstance(returned, tuple) and len(returned) == 2):
            raise TypeError(f"fun returned {type_of(returned)}; with jac=True it must return (value, gradient)")
        returned, gradient = returned
    if not isinstance(returned, float | int | np.floating | np.integer) or isinstance(returned, bool):
        raise TypeError(f"fun returned {type_of(returned)}; a real number is needed")
    if functions.form == APART:
        gradient = _call("jac", functions.jac, calls.jac, x, args)
    if gradient is not None:
        source = "fun" if functions.form == TOGETHER else "jac"
        if not isinstance(gradient, np.ndarray) or gradient.dtype.kind not in "fiu":
            raise TypeError(f"{source} returned {type_of(gradient)} as gradient; an array of real numbers is needed")
        if gradient.shape != x.shape:
            raise ValueError(
                f"{source} returned a gradient of shape {gradient.shape} at an x of shape {x.shape}; they must be equal"
            )
    if callable(functions.prox):
        mapped = _call("prox", functions.prox, calls.prox, x, (1.0,), "prox(x, step)")
        if not isinstance(mapped, np.ndarray) or mapped.shape != x.shape:
            raise ValueError(f"prox returned {np.shape(mapped)} for an x of shape {x.shape}; the same shape is needed")
    if functions.penalty is not None:
        _call("options['penalty']", functions.penalty, calls.penalty, x, (), "penalty(x)")


def _call(name: str, function: Any, call: Any, x: np.ndarray, args: tuple[Any, ...], form: str = "") -> Any:
    form = form or f"{name}(x, *args) with {len(args)} args"
    try:
        signature = inspect.signature(getattr(function, "py_func", function))
    except (TypeError, ValueError):  # built-in functions have none
        signature = None
    if signature is not None:
        try:
            signature.bind(x, *args)
        except TypeError as error:
            raise TypeError(f"{name} does not fit: it is called as {form}, and {error}") from error
    try:
        return call(x.copy(), *args)
    except TypingError as error:
        said = next((line for line in str(error).splitlines() if line.strip() and "pipeline" not in line), "")
        raise TypeError(
            f"{name} cannot be compiled for the call {form} (x is a float64 vector): {said.strip()}\n"
            f"Try {name} alone to see all that numba says, or pass it without @njit"
        ) from error


def _scalar(name: str, function: Callable) -> Callable:
    """A function of Python, which gets a copy of x and returns a float."""
    if is_jitted(function):
        return function

    def scalar(x, *args):
        return _number(name, function(x.copy(), *args))

    return scalar


def _vector(name: str, function: Callable) -> Callable:
    if is_jitted(function):
        return function

    def vector(x, *args):
        return _array(name, function(x.copy(), *args))

    return vector


def _pair(function: Callable) -> Callable:
    if is_jitted(function):
        return function

    def pair(x, *args):
        returned = function(x.copy(), *args)
        if not (isinstance(returned, tuple | list) and len(returned) == 2):
            raise TypeError(f"fun returned {type_of(returned)}; with jac=True it must return (value, gradient)")
        return _number("fun", returned[0]), _array("fun", returned[1])

    return pair


def _number(name: str, x: Any) -> float:
    """A real number, also as an array of one element."""
    if type(x) is float:
        return x
    try:
        made = np.asarray(x)
        if made.size != 1 or made.dtype.kind not in "fiub":
            raise TypeError(f"its shape is {made.shape}, its dtype {made.dtype}")
        return float(made.reshape(()))
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name} returned {type_of(x)}; a real number is needed: {error}") from error


def _array(name: str, x: Any) -> np.ndarray:
    try:
        made = np.asarray(x)
        if made.dtype.kind not in "fiub":
            raise TypeError(f"its dtype is {made.dtype}")
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name} returned {type_of(x)}; an array of real numbers is needed: {error}") from error
    return made.reshape(-1) if made.ndim != 1 and made.shape in ((), (1, made.size)) else made


def beside(fun: Any, jac: Any, prox: Any, penalty: Any, x: Any, args: tuple[Any, ...]) -> Functions:
    """`adapted` for vectors that stay on a device: they are copied there, and gradients are taken as they come."""
    if not callable(fun):
        raise TypeError(f"fun is {type_of(fun)}; a function fun(x, *args) that returns a number is needed")
    form = form_of(jac)
    if form == DIFFERENCES:
        raise TypeError(f"jac is {jac!r}; True, 'inplace' or a function is needed with an x0 of PyTorch or CuPy")

    def vector(name, returned):
        if not array_backends.is_foreign(returned) or tuple(returned.shape) != tuple(x.shape):
            shape = tuple(getattr(returned, "shape", ()))
            raise ValueError(
                f"{name} returned {type_of(returned)} of shape {shape}; it must be like x0, {tuple(x.shape)}"
            )
        return array_backends.detached(returned)

    def mapped(name, function):
        return lambda x, *args: vector(name, function(array_backends.duplicate(x), *args))

    def value(x, *args):
        return float(array_backends.detached(fun(array_backends.duplicate(x), *args)))

    def pair(x, *args):
        returned = fun(array_backends.duplicate(x), *args)
        if not (isinstance(returned, tuple | list) and len(returned) == 2):
            raise TypeError(f"fun returned {type_of(returned)}; with jac=True it must return (value, gradient)")
        return float(array_backends.detached(returned[0])), vector("fun", returned[1])

    functions = Functions(
        pair if form == TOGETHER else value,  # with INPLACE, the gradient is the first of the args
        mapped("jac", jac) if form == APART else None,
        form,
        mapped("prox", prox) if callable(prox) else prox,
        None if penalty is None else lambda x: float(array_backends.detached(penalty(array_backends.duplicate(x)))),
    )
    functions.fun(x, *([array_backends.duplicate(x)] if form == INPLACE else []), *args)
    if functions.jac is not None:
        functions.jac(x, *args)
    return functions
