"""The steps as C functions: pointers, a length, doubles, and a status.

Each has the parameters of the public step that it is, in the same order, after the arrays and their length.  Nothing in
them raises, allocates or touches Python.  The loop is serial: threads are the caller's, and may be any.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numba import types

from ..kernels import elementwise
from ..kernels.jit import c_function, merged
from ..kernels.rule import Rule
from ..optimizers.adam import adam_step
from ..optimizers.adamw import adamw_step
from ..optimizers.fista import PROXES, fista_step
from ..optimizers.nadam import VARIANTS, nadam_step
from ..optimizers.nesterov import CONVENTIONS, DECOUPLED, L2, NO_DECAY, step
from ..optimizers.registry import RULES

loop: Any = None  # bound below

PREFIX = "nagd_"  # of the names in C, where modules have none


def nag(params, grads, vel, n, lr, momentum, momentum_next, convention, nesterov, weight_decay, decoupled, maximize):
    decay = NO_DECAY if weight_decay == 0 else DECOUPLED if decoupled != 0 else L2
    options = (np.int64(convention), np.int64(nesterov != 0), np.int64(decay), np.int64(maximize != 0))
    return loop(params, grads, (vel,), n, (lr, momentum, momentum_next, weight_decay), options)


def adam(params, grads, m, v, n, t, lr, beta1, beta2, eps, weight_decay, maximize):
    hyper = (lr, beta1, beta2, eps, weight_decay, np.float64(t))
    return loop(params, grads, (m, v), n, hyper, (np.int64(maximize != 0),))


def nadam(params, grads, m, v, n, t, lr, beta1, beta2, eps, weight_decay, variant, decoupled, maximize):
    hyper = (lr, beta1, beta2, eps, weight_decay, np.float64(t), np.float64(variant))
    return loop(params, grads, (m, v), n, hyper, (np.int64(maximize != 0), np.int64(decoupled != 0)))


def fista(params, grads, iterate, n, t, lr, prox, weight):
    return loop(params, grads, (iterate,), n, (lr, weight, t), (np.int64(prox),))


@dataclass(frozen=True, eq=False)
class CStep:
    """A public step for C.

    name      in C, before the type of the arrays
    function  from the parameters in C to those of the loop
    rule      whose loop that is
    step      the public step
    choices   the parameters that are one of several names in Python, and these: in C a number, counted from 0
    """

    name: str
    function: Callable
    rule: Rule
    step: Callable
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def parameters(self) -> dict[str, str]:
        """The kind of each parameter: "read" and "written" are arrays, "length", "real", "whole", "choice", "flag"."""
        return {name: self._kind(name) for name in inspect.signature(self.function).parameters}

    def _kind(self, name: str) -> str:
        if name == "grads":
            return "read"
        if name == "params" or name in self.rule.states:
            return "written"
        if name in self.choices:
            return "choice"
        if name in self.rule.hyper:
            return "whole" if self.rule.range_of(name).whole else "real"
        return "length" if name == "n" else "flag"


STEPS = (
    CStep("nag_step", nag, RULES["nesterov"], step, {"convention": CONVENTIONS}),
    CStep("adam_step", adam, RULES["adam"], adam_step),
    CStep("adamw_step", adam, RULES["adamw"], adamw_step),
    CStep("nadam_step", nadam, RULES["nadam"], nadam_step, {"variant": VARIANTS}),
    CStep("fista_step", fista, RULES["fista"], fista_step, {"prox": PROXES}),
)
DTYPES: dict[str, np.dtype[Any]] = {"f32": np.dtype(np.float32), "f64": np.dtype(np.float64)}
FUNCTIONS = {f"{made.name}_{suffix}": (made, dtype) for made in STEPS for suffix, dtype in DTYPES.items()}

_lock = threading.Lock()
_C = {"length": "int64_t", "real": "double", "whole": "int64_t", "choice": "int", "flag": "int"}
_NUMBA: dict[str, types.Type] = {
    "length": types.int64,
    "real": types.float64,
    "whole": types.int64,
    "choice": types.intc,
    "flag": types.intc,
}


def c_address(name: str) -> int:
    """The address of a step as a C function, for code in this process that calls C: as a `void *`, an integer.

    Parameters
    ----------
    name : str
        One of `c_functions()`: "nag_step_f32", "nag_step_f64", "adam_step_f32", ...

    Returns
    -------
    int, valid as long as the process lives.

    Raises
    ------
    ValueError
        For another name.
    RuntimeError
        Where the JIT is off (`NUMBA_DISABLE_JIT=1`): there is nothing to point at.

    Notes
    -----
    The arrays are contiguous, of `n` elements, and modified in place as the public step of that name would, to the last
    bit.  What is returned is 0, or says why nothing was written: 1 for a length that is negative or beyond any memory,
    2 for arrays that overlap, 3 for a hyper-parameter or an option out of its range, 4 for a null pointer with `n > 0`.
    Flags are 0 or not; a name such as `convention="keras"` is its place in the list of names, from 0.

    Needs neither Python nor its lock while it runs, in any thread, and one thread works: cut the arrays up to use more.
    The first call compiles, and takes seconds where the code is not on the disk yet.
    `nagd-numba export DIR` writes the same functions for programs without Python.

    Examples
    --------
    >>> import ctypes
    >>> import numpy as np
    >>> import nagd_numba
    >>> nagd_numba.c_functions()["fista_step_f64"]
    'int nagd_fista_step_f64(double *params, const double *grads, double *iterate, int64_t n, double t, double lr, \
int prox, double weight)'
    >>> pointer, real = ctypes.c_void_p, ctypes.c_double
    >>> prototype = ctypes.CFUNCTYPE(ctypes.c_int, *3 * [pointer], ctypes.c_int64, real, real, ctypes.c_int, real)
    >>> fista_step = prototype(nagd_numba.c_address("fista_step_f64"))
    >>> y, g, x = np.zeros(2), np.array([-3.0, 1.0]), np.zeros(2)
    >>> fista_step(y.ctypes.data, g.ctypes.data, x.ctypes.data, 2, 1.0, 0.5, 1, 1.0)
    0
    >>> x
    array([1., 0.])
    """
    if name not in FUNCTIONS:
        near = difflib.get_close_matches(str(name), FUNCTIONS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"name is {name!r}; one of {', '.join(FUNCTIONS)} is needed{hint}")
    return int(compiled(name).address)


def c_functions() -> dict[str, str]:
    """The names that `c_address` takes, and the declaration of each in C.

    In the header of `nagd-numba export` they have the same names after `nagd_`.
    """
    return {name: declaration(name) for name in FUNCTIONS}


def declaration(name: str) -> str:
    """`int nagd_...(...)`, in C."""
    made, dtype = FUNCTIONS[name]
    real = "float" if dtype == np.float32 else "double"
    arrays = {"written": f"{real} *", "read": f"const {real} *"}
    given = [f"{arrays[kind]}{x}" if kind in arrays else f"{_C[kind]} {x}" for x, kind in made.parameters.items()]
    return f"int {PREFIX}{name}({', '.join(given)})"


def compiled(name: str, inspected: bool = False) -> Any:
    """A function, compiled, and kept for ever; with `inspected` its LLVM code can be read."""
    with _lock:  # two threads would compile it twice, and only one of both would be kept
        return _compiled(name, inspected)


@functools.cache
def _compiled(name: str, inspected: bool) -> Any:
    made, dtype = FUNCTIONS[name]
    rule, kind = made.rule, types.float32 if dtype == np.float32 else types.float64
    pointer = types.CPointer(kind)
    given = [_NUMBA.get(x, pointer) for x in made.parameters.values()]
    entry = merged(elementwise.pointers, **elementwise.pointer_bindings(rule, dtype))
    return c_function(made.function, name, types.intc(*given), inspected, source=rule.update, loop=entry)
