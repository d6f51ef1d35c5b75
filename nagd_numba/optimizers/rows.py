"""Nesterov's method on a few rows of a matrix, as if all had been stepped: `step_rows`, `finish_rows`, `row_history`.

A row without a gradient still moves: by its velocity, and by weight decay.  That is a linear map, so a row makes up for
any number of steps at once, by a power or a product of 2x2 matrices (`kernels.idle_steps`), when it is needed next.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba.np.numpy_support import from_dtype
from numpy import ndarray

from .. import validation
from ..kernels import row_steps
from ..kernels.forms import Forms
from ..kernels.idle_steps import ENTRIES, RECORDED, START
from ..kernels.jit import SIMULATOR, in_both
from ..kernels.linking import Linked
from ..kernels.statuses import OK
from ._overload_rows import rows_in_compiled_code
from .arrays import Arrays, Params, State
from .conventions import Convention
from .idle import idle_step
from .nesterov import OPTIMIZER, RULE
from .row_errors import refuse

WHOLE = (np.dtype(np.int64), np.dtype(np.int32))
NO_ROWS, NO_HISTORY = np.empty(0, np.int64), np.empty((0, ENTRIES))

# The constants of the rule, the map of a step without a gradient, the kernel, its loop, and which form takes a call.
Ready = tuple[tuple[Any, ...], tuple[float, ...], Any, Linked, Forms]


def step_rows(
    params: Params,
    rows: Arrays,
    grads: Arrays,
    vel: State,
    last: State,
    t: int,
    lr: float = 0.01,
    momentum: float = 0.9,
    momentum_next: float | None = None,
    convention: Convention = "torch",
    nesterov: bool = True,
    weight_decay: float = 0.0,
    decoupled: bool = False,
    maximize: bool = False,
    history: State | None = None,
    stream: Any = None,
) -> Params:
    """Step `t` of `nagd_numba.step` on the rows that have a gradient, in place; the others make up for it later.

    With the map `M` of a step without a gradient, `(p, v)` of a row that is done up to step `last` becomes

        (p, v) <- M^(t - 1 - last) (p, v)       with a history the product of the maps of those steps
        p, v <- the step with its gradient
        last <- t

    Parameters
    ----------
    params : array
        The parameters, float32 or float64, of shape (rows, width), C-contiguous; modified in place.
    rows : array
        The rows that have a gradient, int64 or int32: distinct, in any order.  There may be none.
    grads : array
        Their gradients, of shape (len(rows), width), C-contiguous, of the dtype of `params`.
    vel : array
        The velocity: of shape and dtype of `params`, zeros before the first step; modified in place.
    last : array
        int64, for each row the step up to which it is done, zeros before the first; modified in place.
    t : int
        The number of this step, from 1 on.
    lr, momentum, momentum_next, convention, nesterov, weight_decay, decoupled, maximize
        As in `nagd_numba.step`.
    history : array, optional
        What `row_history` made, in which each step is written down; modified in place.  With it the numbers may change
        from step to step, and every step is called, with no rows where there is no gradient.  Without, they are those
        of all steps.
    stream : optional
        As in `nagd_numba.step`.

    Returns
    -------
    params, the same object.

    Raises
    ------
    TypeError, ValueError
        For unfit arrays or values, before anything is written.

    Notes
    -----
    A gradient belongs to parameters that are up to date: `finish_rows(..., t - 1, rows=rows)` before it is evaluated.
    Where every row has a gradient in each step the bits are those of `nagd_numba.step`.  Else a row makes up for any
    number of steps with one rounding of `p` and one of `v`; `docs/howto/sparse_rows.md` has the bounds.

    Inside an `@njit` function the same call compiles to a serial loop in the caller, under the conditions of `step`.

    Examples
    --------
    >>> import numpy as np
    >>> import nagd_numba
    >>> table, vel, last = np.ones((5, 2)), np.zeros((5, 2)), np.zeros(5, np.int64)
    >>> _ = nagd_numba.step_rows(table, np.array([1, 3]), np.ones((2, 2)), vel, last, t=1, lr=0.1, momentum=0.5)
    >>> _ = nagd_numba.finish_rows(table, vel, last, t=50, lr=0.1, momentum=0.5)
    >>> table[:, 0].round(6)
    array([1. , 0.8, 1. , 0.8, 1. ])
    """
    hyper = lr, momentum, momentum if momentum_next is None else momentum_next, weight_decay
    fixed = convention, nesterov, decoupled, maximize
    with validation.prefixed("step_rows"):
        given = {"params": params, "rows": rows, "grads": grads, "vel": vel, "last": last}
        if history is not None:
            given["history"] = history
        _run(given, validation.whole("t", t), hyper, fixed, True, stream)
    return params


def finish_rows(
    params: Params,
    vel: State,
    last: State,
    t: int,
    lr: float = 0.01,
    momentum: float = 0.9,
    momentum_next: float | None = None,
    convention: Convention = "torch",
    nesterov: bool = True,
    weight_decay: float = 0.0,
    decoupled: bool = False,
    maximize: bool = False,
    history: State | None = None,
    rows: Arrays | None = None,
    stream: Any = None,
) -> Params:
    """Bring all rows up to date with step `t`, or the distinct `rows`, in place: after it `last` is `t` there.

    Before parameters are read: of all rows at the end of training, of some before their gradient is evaluated.

    Parameters
    ----------
    params, vel, last, stream
        As in `step_rows`.
    t : int
        The number of the last step, >= 0.
    lr, momentum, momentum_next, convention, nesterov, weight_decay, decoupled, maximize
        Those of the steps; of no use with a history.
    history : array, optional
        What the steps were written down in.
    rows : array, optional
        Only these rows, int64 or int32: distinct, in any order.

    Returns
    -------
    params, the same object.

    Raises
    ------
    TypeError, ValueError
        For unfit arrays or values, before anything is written.

    Examples
    --------
    >>> import numpy as np
    >>> import nagd_numba
    >>> table, vel, last = np.zeros((3, 1)), np.ones((3, 1)), np.zeros(3, np.int64)
    >>> _ = nagd_numba.finish_rows(table, vel, last, t=100, lr=0.1, momentum=0.5, rows=np.array([2]))
    >>> table.ravel().round(6), last
    (array([ 0.  ,  0.  , -0.05]), array([  0,   0, 100]))
    """
    hyper = lr, momentum, momentum if momentum_next is None else momentum_next, weight_decay
    fixed = convention, nesterov, decoupled, maximize
    with validation.prefixed("finish_rows"):
        given = {"params": params, "vel": vel, "last": last}
        if rows is not None:
            given["rows"] = rows
        if history is not None:
            given["history"] = history
        _run(given, validation.whole("t", t, least=0), hyper, fixed, False, stream)
    return params


@in_both
def row_history(steps: int, start: int = 0) -> np.ndarray:
    """An array in which `step_rows` writes down what its steps do, for steps from `start + 1` to `start + steps`.

    Parameters
    ----------
    steps : int
        How many steps it is for, >= 1.
    start : int
        The number of the step before the first of them, >= 0.

    Returns
    -------
    float64 array in host memory: 128 bytes for each step, up to the next power of two.

    Raises
    ------
    ValueError
        For numbers out of their range.

    Notes
    -----
    On a CUDA device a copy of it serves.  After `finish_rows` another one may follow, with `start` the number of the
    last step.

    Examples
    --------
    >>> import nagd_numba
    >>> nagd_numba.row_history(1000).shape
    (2048, 8)
    """
    if steps < 1 or start < 0:
        raise ValueError("row_history: steps >= 1 and start >= 0 are needed")
    capacity = 1
    while capacity < steps:
        capacity *= 2
    made = np.zeros((2 * capacity, ENTRIES))
    made[2 * capacity - 1, START] = start
    return made


def _run(
    given: dict[str, Any], t: int, hyper: tuple[Any, ...], fixed: tuple[Any, ...], steps: bool, stream: Any
) -> None:
    """A step of rows, or what they are to make up for, after checking everything."""
    if stream is None and steps and _usual(**given):
        host = given
    elif _on_device(given, stream):
        _run_on_device(given, t, hyper, fixed, steps, stream)
        return
    else:
        host = _host_arrays(given)
    params, vel, last = host["params"], host["vel"], host["last"]
    scalars, matrix, kernel, loop, forms = _ready(params.dtype, hyper, fixed, steps)
    everything = "rows" not in host
    rows = NO_ROWS if everything else np.ascontiguousarray(host["rows"], np.int64)
    grads, history = host.get("grads", params[:0]), host.get("history", NO_HISTORY)
    size = params.size if everything else len(rows) * params.shape[1]
    status, at = kernel(
        *(params, rows, everything, grads, steps, vel, last, t, history),
        *(scalars, matrix, loop.address, forms.of(size)),
    )
    if status != OK:
        validation.no_overlap(list(host.items()), written=set(host) - {"rows", "grads"})
        row = int(at) if everything or len(rows) == 0 else int(rows[at])
        done = int(last[row]) if 0 <= row < len(last) else 0
        start, count = (int(history[-1, k]) for k in (START, RECORDED)) if len(history) else (0, 0)
        refuse(int(status), int(at), row, done, t - steps, len(last), (start, count, len(history) // 2))
    validation.tell_torch(given["params"], given["vel"], given["last"])


def _run_on_device(
    given: dict[str, Any], t: int, hyper: tuple[Any, ...], fixed: tuple[Any, ...], steps: bool, stream: Any
) -> None:
    from ..gpu import rows as device

    parts = device.described(given)
    check_shapes({name: x.shape for name, x in parts.items()})
    options, scalars, matrix = _constants(np.dtype(parts["params"].dtype), hyper, fixed)
    device.run(given, parts, device.Settings(RULE, options, scalars, matrix, steps), t, refuse, stream)


def _usual(params: Any, rows: Any, grads: Any, vel: Any, last: Any, history: Any = None) -> bool:
    """Is there nothing about the arrays of a step that has to be looked at more closely?"""
    arrays = params, rows, grads, vel, last
    if history is not None or not all(x.__class__ is ndarray for x in arrays):
        return False
    kind, shape = params.dtype, params.shape
    return bool(
        kind in validation.DTYPES
        and kind == grads.dtype
        and kind == vel.dtype
        and rows.dtype == last.dtype == WHOLE[0]
        and len(shape) == 2
        and shape == vel.shape
        and last.shape == shape[:1]
        and rows.ndim == 1
        and grads.shape == (len(rows), shape[1])
        and params.flags.carray
        and vel.flags.carray
        and last.flags.carray
        and grads.flags.c_contiguous
    )


def _on_device(given: dict[str, Any], stream: Any) -> bool:
    """Are the arrays on a device?  Raises where only some are, and for what has a meaning only there."""
    if validation.any_on_device(list(given.items())) and not SIMULATOR:
        return True
    if stream is not None and not SIMULATOR:
        raise ValueError("stream needs CUDA arrays; got host arrays. Omit stream.")
    return False


def _host_arrays(given: dict[str, Any]) -> dict[str, np.ndarray]:
    """The arrays on the host, checked but for the values of rows and last."""
    host = {}
    dtypes = {"rows": WHOLE, "last": WHOLE[:1], "history": (np.dtype(np.float64),)}
    for name, x in given.items():
        array = validation.unsimulated(x)
        if name == "rows":
            _whole_numbers(array)
        written = name not in ("rows", "grads")
        host[name] = validation.host_array(name, array, write=written, dtypes=dtypes.get(name, validation.DTYPES))
    check_shapes({name: x.shape for name, x in host.items()})
    for name, x in host.items():
        if name != "rows" and not x.flags.c_contiguous:
            raise ValueError(
                f"{name} is strided (shape {x.shape}, strides {x.strides}); a C-contiguous array is needed: "
                f"{name} = np.ascontiguousarray({name})"
            )
        if name in ("grads", "vel") and x.dtype != host["params"].dtype:
            raise TypeError(
                f"{name} has dtype {x.dtype} and params {host['params'].dtype}; one dtype is needed for all: "
                f"{name}.astype(np.{host['params'].dtype})"
            )
    return host


def _whole_numbers(rows: Any) -> None:
    if not hasattr(rows, "dtype"):
        raise TypeError(f"rows is {validation.type_of(rows)}; an array is needed: np.asarray(rows, dtype=np.int64)")
    if rows.dtype == bool:
        raise TypeError("rows has dtype bool; the numbers of the rows are needed: np.flatnonzero(rows)")


def check_shapes(shapes: dict[str, tuple[int, ...]]) -> None:
    """Raise for a shape that does not fit the others."""
    params = tuple(shapes["params"])
    if len(params) != 2:
        raise ValueError(f"params has shape {params}; (rows, width) is needed: params.reshape(len(params), -1)")
    if "rows" in shapes and len(shapes["rows"]) != 1:
        raise ValueError(f"rows has shape {tuple(shapes['rows'])}; one dimension is needed: rows.ravel()")
    if "grads" in shapes:
        wanted = shapes["rows"][0], params[1]
        if tuple(shapes["grads"]) != wanted:
            raise ValueError(
                f"grads has shape {tuple(shapes['grads'])}; {wanted} is needed, a gradient for each of rows"
            )
    if tuple(shapes["vel"]) != params:
        raise ValueError(f"vel has shape {tuple(shapes['vel'])} and params {params}; one shape is needed for both")
    if tuple(shapes["last"]) != params[:1]:
        raise ValueError(
            f"last has shape {tuple(shapes['last'])}; {params[:1]} is needed, a number for each row of params"
        )
    if "history" in shapes:
        rows, *entries = shapes["history"]
        if entries != [ENTRIES] or rows < 2 or rows & (rows - 1):
            raise ValueError(
                f"history has shape {tuple(shapes['history'])}: make it with nagd_numba.row_history(steps)"
            )


def _ready(dtype: np.dtype, hyper: tuple[Any, ...], fixed: tuple[Any, ...], steps: bool) -> Ready:
    """What a call needs that does not depend on its arrays; after checking the settings."""
    try:
        return _known(dtype, hyper, fixed, steps)
    except TypeError:  # what no dictionary takes, and what is unfit
        return _known.__wrapped__(dtype, hyper, fixed, steps)


@functools.lru_cache(maxsize=64, typed=True)
def _known(dtype: np.dtype, hyper: tuple[Any, ...], fixed: tuple[Any, ...], steps: bool) -> Ready:
    options, scalars, matrix = _constants(dtype, hyper, fixed)
    kind = from_dtype(dtype)
    loop = row_steps.linked_step(RULE, options, kind) if steps else row_steps.linked_finish(RULE, kind)
    return scalars, matrix, row_steps.rows_kernel(RULE, kind), loop, _forms_of(loop)


def _constants(
    dtype: np.dtype, hyper: tuple[Any, ...], fixed: tuple[Any, ...]
) -> tuple[tuple[Any, ...], tuple[Any, ...], tuple[float, ...]]:
    """The options of the rule, its constants, and the map of a step without a gradient; checked."""
    options = OPTIMIZER.options(dict(zip(OPTIMIZER.fixed, fixed, strict=True)), hyper[-1] == 0)
    values = validation.hyper_parameters(dict(zip(RULE.hyper, hyper, strict=True)), dtype, RULE.range_of)
    scalars = RULE.scalars(values, dtype, options)
    return options, scalars, row_steps.idle_kernel(idle_step, RULE, from_dtype(dtype))(scalars, options)


@functools.cache
def _forms_of(loop: Any) -> Forms:
    return Forms()


rows_in_compiled_code(OPTIMIZER, step_rows, steps=True)
rows_in_compiled_code(OPTIMIZER, finish_rows, steps=False)
