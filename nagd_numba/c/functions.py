"""The steps as C functions: pointers, a length, doubles, and a status.

Each has the parameters of the public step that it is, in the same order, after the arrays and their length; numbers of
what it does beside its rule come last.  Nothing in them raises, allocates or touches Python.  The loop is serial:
threads are the caller's, and may be any.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Collection, Mapping
from types import FunctionType
from typing import Any

import numpy as np
from numba import types
from numba.core.compiler_lock import global_compiler_lock

from ..kernels import elementwise
from ..kernels.composed import composed
from ..kernels.composed.values import over_count, values_of
from ..kernels.jit import c_function
from ..kernels.rule import Rule
from ..optimizers.optimizer import Optimizer, parameters
from .parts import able, ordered, parts_of, split

PREFIX = "nagd_"  # of the names in C, where modules have none


class CStep:
    """The public step of an optimizer, for C.

    name        in C, before the type of the arrays
    words       what it does beside its rule: words of `parts`, behind that type
    rule        whose loop it runs
    step        the public step
    choices     the parameters that are one of several names in Python, and these: in C a number, counted from 0
    parameters  the kind of each parameter: "read", "written" and "bytes" are arrays; "length", "real", "whole",
                "choice", "flag"
    """

    def __init__(self, optimizer: Optimizer, words: tuple[str, ...] = ()) -> None:
        self.optimizer = optimizer
        self.name = optimizer.c_name or optimizer.name
        self.words = words
        self.rule: Rule = composed(optimizer.rule, parts_of(words))
        self.step = optimizer.step
        self.choices: Mapping[str, tuple[str, ...]] = optimizer.choices
        arrays = ("params", "grads", *self.rule.beside)
        settings = [x for x in optimizer.settings if x not in arrays]
        numbers = [x for x in self.rule.hyper if x not in optimizer.rule.hyper]
        self.parameters = {x: self._kind(x) for x in (*arrays, "n", *settings, *numbers)}

    def names(self) -> dict[str, np.dtype[Any]]:
        """The functions, and the type of the arrays of each."""
        return {"_".join([self.name, suffix, *self.words]): dtype for suffix, dtype in DTYPES.items()}

    def _kind(self, name: str) -> str:
        if name in ("params", *self.rule.states):
            return "written"
        if name in ("grads", *self.rule.inputs):
            return "read"
        if name == "mask":
            return "bytes"
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
        states = "".join(f"{x}, " for x in self.rule.beside)
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
        branch = self.optimizer.branch
        given["zero"] = f"{branch} == 0" if branch in self.rule.hyper else "False"
        return f"np.int64(derived_{name}({', '.join(given[x] for x in parameters(self.optimizer.derived[name]))}))"


DTYPES: dict[str, np.dtype[Any]] = {"f32": np.dtype(np.float32), "f64": np.dtype(np.float64)}

_C_ARRAYS = {"written": "{} *", "read": "const {} *", "bytes": "const uint8_t *"}
_C = {"length": "int64_t", "real": "double", "whole": "int64_t", "choice": "int", "flag": "int"}
_NUMBA: dict[str, types.Type] = {
    "length": types.int64,
    "real": types.float64,
    "whole": types.int64,
    "choice": types.intc,
    "flag": types.intc,
    "bytes": types.CPointer(types.uint8),
}


@functools.cache
def steps(words: tuple[str, ...] = ()) -> tuple[CStep, ...]:
    """All steps that do this beside their rule."""
    return tuple(CStep(optimizer, words) for optimizer in able(words))


def functions(words: Collection[str] = ()) -> dict[str, tuple[CStep, np.dtype[Any]]]:
    """Their functions by name, and the type of the arrays of each."""
    return {name: (step, dtype) for step in steps(ordered(words)) for name, dtype in step.names().items()}


def function_of(name: str) -> tuple[CStep, np.dtype[Any]]:
    """The function of that name; raises where there is none."""
    own, words = split(name)
    found = functions(words)
    if name not in found:
        near = difflib.get_close_matches(str(name), found, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        if words and own in functions():
            raise ValueError(f"name is {name!r}, and {own} cannot be composed with {' and '.join(words)}")
        raise ValueError(f"name is {name!r}; one of {', '.join(found)} is needed{hint}")
    return found[name]


def c_address(name: str) -> int:
    """The address of a step as a C function, for code in this process that calls C: as a `void *`, an integer.

    Parameters
    ----------
    name : str
        One of `c_functions()`: "nag_step_f32", "nag_step_f64", "adam_step_f32", ...; or of `c_functions("mask")`,
        `c_functions("lower", "average")` ...: "nag_step_f32_mask", "nag_step_f32_lower_average", ...

    Returns
    -------
    int, valid as long as the process lives.

    Raises
    ------
    ValueError
        For another name, and for a rule that cannot be composed so.
    RuntimeError
        Where the JIT is off (`NUMBA_DISABLE_JIT=1`): there is nothing to point at.

    Notes
    -----
    The arrays are contiguous, of `n` elements, and modified in place as the public step of that name would, to the last
    bit.  What is returned is 0, or says why nothing was written: 1 for a length that is negative or beyond any memory,
    2 for arrays that overlap, 3 for a number or an option out of its range, 4 for a null pointer with `n > 0`,
    6 for a rate of an element out of its range, 7 where `lower` is above `upper`; arrays that are only read may be one.
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
    function_of(name)
    return int(compiled(name).address)


def c_functions(*composition: str) -> dict[str, str]:
    """The names that `c_address` takes, and the declaration of each in C.

    In the header of `nagd-numba export` they have the same names after `nagd_`.

    Parameters
    ----------
    *composition : str
        What the step does beside its rule, as in the steps of Python: "lr_array" and "weight_decay_array" (a rate for
        each element), "lower" and "upper" (numbers), "lower_array" and "upper_array", "l1" or "scaled_l1",
        "average" (`average += average_weight (params - average)`), "mask" (bytes: where one is 0 the element is
        neither read nor written).  The functions are those of the rules that can be composed so.

    Returns
    -------
    dict
        From names to declarations.

    Raises
    ------
    ValueError
        For another word, or two that exclude one another.

    Examples
    --------
    >>> import nagd_numba
    >>> list(nagd_numba.c_functions())[:2]
    ['nag_step_f32', 'nag_step_f64']
    >>> nagd_numba.c_functions("lower", "mask")["lion_step_f64_lower_mask"]
    'int nagd_lion_step_f64_lower_mask(double *params, const double *grads, double *m, const uint8_t *mask, \
int64_t n, double lr, double beta1, double beta2, double weight_decay, int maximize, double lower)'
    """
    return {name: declaration(name) for name in functions(composition)}


def declaration(name: str) -> str:
    """`int nagd_...(...)`, in C."""
    made, dtype = function_of(name)
    real = "float" if dtype == np.float32 else "double"
    given = [
        f"{_C_ARRAYS[kind].format(real)}{x}" if kind in _C_ARRAYS else f"{_C[kind]} {x}"
        for x, kind in made.parameters.items()
    ]
    return f"int {PREFIX}{name}({', '.join(given)})"


def compiled(name: str, inspected: bool = False) -> Any:
    """A function, compiled, and kept for ever; with `inspected` its LLVM code can be read."""
    with global_compiler_lock:  # two threads would compile it twice, and only one of both would be kept
        return _compiled(name, inspected)


@functools.cache
def _compiled(name: str, inspected: bool) -> Any:
    made, dtype = function_of(name)
    kind = types.float32 if dtype == np.float32 else types.float64
    pointer = types.CPointer(kind)
    given = [_NUMBA.get(x, pointer) for x in made.parameters.values()]
    values = {"values": values_of(made.rule, functools.partial(over_count.bind, T=dtype.type))} if made.words else {}
    loop = elementwise.pointer_loop(made.rule, dtype, **values)
    return c_function(made.function(loop), types.intc(*given), inspected)
