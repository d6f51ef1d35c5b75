"""The steps as C functions: pointers, a length, doubles, and a status.

Each has the parameters of the public step that it is, in the same order, after the arrays and their length.  Nothing in
them raises, allocates or touches Python.  The loop is serial: threads are the caller's, and may be any.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any

import numpy as np
from numba import types
from numba.core.compiler_lock import global_compiler_lock

from ..kernels import elementwise
from ..kernels.jit import c_function
from ..kernels.rule import Rule
from ..optimizers.optimizer import Optimizer, parameters
from ..optimizers.registry import OPTIMIZERS

PREFIX = "nagd_"  # of the names in C, where modules have none


class CStep:
    """The public step of an optimizer, for C.

    name        in C, before the type of the arrays
    rule        whose loop it runs
    step        the public step
    choices     the parameters that are one of several names in Python, and these: in C a number, counted from 0
    parameters  the kind of each parameter: "read" and "written" are arrays, "length", "real", "whole", "choice", "flag"
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        self.name = optimizer.c_name or optimizer.name
        self.rule: Rule = optimizer.rule
        self.step = optimizer.step
        self.choices: Mapping[str, tuple[str, ...]] = optimizer.choices
        self.parameters = {x: self._kind(x) for x in (*optimizer.arrays, "n", *optimizer.settings)}

    def _kind(self, name: str) -> str:
        if name in self.optimizer.arrays:
            return "read" if name == "grads" else "written"
        if name in self.choices:
            return "choice"
        if name in self.rule.hyper:
            return "whole" if self.rule.range_of(name).whole else "real"
        return "length" if name == "n" else "flag"

    def function(self, loop: Callable[..., Any]) -> FunctionType:
        """From the parameters in C to those of the rule's loop, `loop(params, grads, states, n, hyper, options)`.

        It has the parameters of the step, so it is made from source, as code of this file.
        """
        derived = {f"derived_{x}": function for x, function in self.optimizer.derived.items()}
        hyper = "".join(f"{self._hyper(x)}, " for x in self.rule.hyper)
        options = "".join(f"{self._option(x)}, " for x in self.rule.options)
        states = "".join(f"{x}, " for x in self.rule.states)
        source = (
            f"def make({', '.join(('loop', *derived))}):\n"
            f"    def {self.name}({', '.join(self.parameters)}):\n"
            f"        return loop(params, grads, ({states}), n, ({hyper}), ({options}))\n"
            f"    return {self.name}\n"
        )
        namespace: dict[str, Any] = {"np": np, "__name__": __name__}
        exec(compile(source, __file__, "exec"), namespace)
        made: FunctionType = namespace["make"](loop=loop, **derived)
        return made

    def _hyper(self, name: str) -> str:
        return name if self.parameters[name] == "real" else f"np.float64({name})"

    def _option(self, name: str) -> str:
        if name not in self.optimizer.derived:
            return f"np.int64({name})" if name in self.choices else f"np.int64({name} != 0)"
        given = {x: x if x in self.choices else f"{x} != 0" for x in self.optimizer.fixed}
        given["zero"] = f"{self.optimizer.branch} == 0"
        return f"np.int64(derived_{name}({', '.join(given[x] for x in parameters(self.optimizer.derived[name]))}))"


STEPS = tuple(map(CStep, OPTIMIZERS.values()))
DTYPES: dict[str, np.dtype[Any]] = {"f32": np.dtype(np.float32), "f64": np.dtype(np.float64)}
FUNCTIONS = {f"{made.name}_{suffix}": (made, dtype) for made in STEPS for suffix, dtype in DTYPES.items()}

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

    Returns
    -------
    dict
        From names to declarations.

    Examples
    --------
    >>> import nagd_numba
    >>> list(nagd_numba.c_functions())[:2]
    ['nag_step_f32', 'nag_step_f64']
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
    with global_compiler_lock:  # two threads would compile it twice, and only one of both would be kept
        return _compiled(name, inspected)


@functools.cache
def _compiled(name: str, inspected: bool) -> Any:
    made, dtype = FUNCTIONS[name]
    rule, kind = made.rule, types.float32 if dtype == np.float32 else types.float64
    pointer = types.CPointer(kind)
    given = [_NUMBA.get(x, pointer) for x in made.parameters.values()]
    return c_function(made.function(elementwise.pointer_loop(rule, dtype)), types.intc(*given), inspected)
