"""`adam_step`, `adamw_step`, `nadam_step`: from Python, and from inside `@njit` functions."""

from __future__ import annotations

from typing import Any

from . import arrays
from .callers import constants_in_compiled_code, in_compiled_code
from .front import python_step, rule_constants, step_number
from .rules import adam, adamw, nadam
from .rules.nadam import VARIANTS


def adam_step(
    params,
    grads,
    m,
    v,
    t,
    lr=0.001,
    beta1=0.9,
    beta2=0.999,
    eps=1e-8,
    weight_decay=0.0,
    maximize=False,
    stream=None,
    master=None,
    guard=None,
):
    """One step of Adam, in place.

    With the gradient `g` at the parameters `p`, plus `weight_decay p` where there is a weight decay:

        m <- beta1 m + (1 - beta1) g;    v <- beta2 v + (1 - beta2) g^2
        p <- p - lr/(1 - beta1^t) m / (sqrt(v)/sqrt(1 - beta2^t) + eps)

    Parameters
    ----------
    params : array
        The parameters, float32 or float64, any shape; modified in place.  Every kind of array and place that
        `nagd_numba.step` takes, and lists of arrays.
    grads : array
        The gradient at `params`: same dtype, shape and device.  Not modified; may be read-only.
    m, v : array
        The averages of the gradient and of its square: the same again, zeros before the first step; modified in place.
        None may share memory.  Beside float16 or bfloat16 parameters: float32.
    t : int
        The number of this step, from 1 on: 1 goes with `m` and `v` that are zeros.
    lr : float
        Learning rate, finite, >= 0.
    beta1, beta2 : float
        What stays of the averages in a step, from 0 to below 1.
    eps : float
        Finite, >= 0; keeps the quotient small where `v` is.
    weight_decay : float
        `w`, finite, >= 0: adds `w p` to the gradient (an L2 penalty `w/2 |p|^2`).  See also `adamw_step`.
    maximize : bool
        Ascend instead of descend.
    stream, master, guard : optional
        As for `nagd_numba.step`.

    Returns
    -------
    params, the same object.

    Raises
    ------
    TypeError, ValueError
        For unfit arrays or values, before anything is written.
    RuntimeError
        For device arrays where CUDA cannot be used.

    Notes
    -----
    `m` and `v` are those of `torch.optim.Adam` to the last bit, and `params` nearly: `nagd_numba.rules.adam` says where
    they differ, and why.  Inside `@njit` functions and in `prange` as `nagd_numba.step`; inside a `@cuda.jit` kernel
    use `nagd_numba.adam_update` on scalars.

    References
    ----------
    D. P. Kingma and J. Ba, ICLR 2015, arXiv:1412.6980.

    Examples
    --------
    >>> import numpy as np
    >>> import nagd_numba
    >>> target = np.array([3.0, -1.0])
    >>> params, m, v = np.zeros(2), np.zeros(2), np.zeros(2)
    >>> for t in range(1, 1001):
    ...     grads = 2 * (params - target)
    ...     _ = nagd_numba.adam_step(params, grads, m, v, t, lr=0.05)
    >>> params.round(6)
    array([ 3., -1.])
    """
    hyper = lr, beta1, beta2, eps, weight_decay, step_number(t)
    _adam(params, grads, (m, v), hyper, (maximize,), stream, master, guard)
    return params


def adamw_step(
    params,
    grads,
    m,
    v,
    t,
    lr=0.001,
    beta1=0.9,
    beta2=0.999,
    eps=1e-8,
    weight_decay=0.01,
    maximize=False,
    stream=None,
    master=None,
    guard=None,
):
    """One step of AdamW, in place: Adam with a weight decay that does not pass through the averages.

        p <- (1 - lr weight_decay) p
        m <- beta1 m + (1 - beta1) g;    v <- beta2 v + (1 - beta2) g^2
        p <- p - lr/(1 - beta1^t) m / (sqrt(v)/sqrt(1 - beta2^t) + eps)

    Parameters
    ----------
    params : array
        The parameters, float32 or float64, any shape; modified in place.  Every kind of array and place that
        `nagd_numba.step` takes, and lists of arrays.
    grads : array
        The gradient at `params`: same dtype, shape and device.  Not modified; may be read-only.
    m, v : array
        The averages of the gradient and of its square: the same again, zeros before the first step; modified in place.
        None may share memory.  Beside float16 or bfloat16 parameters: float32.
    t : int
        The number of this step, from 1 on: 1 goes with `m` and `v` that are zeros.
    lr : float
        Learning rate, finite, >= 0.
    beta1, beta2 : float
        What stays of the averages in a step, from 0 to below 1.
    eps : float
        Finite, >= 0; keeps the quotient small where `v` is.
    weight_decay : float
        Finite, >= 0.
    maximize : bool
        Ascend instead of descend.
    stream, master, guard : optional
        As for `nagd_numba.step`.

    Returns
    -------
    params, the same object.

    Raises
    ------
    TypeError, ValueError
        For unfit arrays or values, before anything is written.
    RuntimeError
        For device arrays where CUDA cannot be used.

    Notes
    -----
    As for `adam_step`; the peer is `torch.optim.AdamW`.

    References
    ----------
    I. Loshchilov and F. Hutter, ICLR 2019, arXiv:1711.05101.

    Examples
    --------
    >>> import numpy as np
    >>> import nagd_numba
    >>> params, m, v = np.ones(2), np.zeros(2), np.zeros(2)
    >>> nagd_numba.adamw_step(params, np.zeros(2), m, v, 1, lr=0.1, weight_decay=0.5)
    array([0.95, 0.95])
    """
    hyper = lr, beta1, beta2, eps, weight_decay, step_number(t)
    _adamw(params, grads, (m, v), hyper, (maximize,), stream, master, guard)
    return params


def nadam_step(
    params,
    grads,
    m,
    v,
    t,
    lr=0.002,
    beta1=0.9,
    beta2=0.999,
    eps=1e-8,
    weight_decay=0.0,
    variant="torch",
    decoupled=False,
    maximize=False,
    stream=None,
    master=None,
    guard=None,
):
    """One step of Nadam, Adam with Nesterov's momentum, in place.

    With `mu_t` the momentum of step `t`, and `M_t` the product of `mu_1` to `mu_t`:

        m <- beta1 m + (1 - beta1) g;    v <- beta2 v + (1 - beta2) g^2
        p <- p - lr [(1 - mu_t)/(1 - M_t) g + mu_{t+1}/(1 - M_{t+1}) m] / (sqrt(v/(1 - beta2^t)) + eps)

    Parameters
    ----------
    params : array
        The parameters, float32 or float64, any shape; modified in place.  Every kind of array and place that
        `nagd_numba.step` takes, and lists of arrays.
    grads : array
        The gradient at `params`: same dtype, shape and device.  Not modified; may be read-only.
    m, v : array
        The averages of the gradient and of its square: the same again, zeros before the first step; modified in place.
        None may share memory.  Beside float16 or bfloat16 parameters: float32.
    t : int
        The number of this step, from 1 on: 1 goes with `m` and `v` that are zeros.
    lr : float
        Learning rate, finite, >= 0.
    beta1, beta2 : float
        What stays of the averages in a step, from 0 to below 1.
    eps : float
        Finite, >= 0; keeps the quotient small where `v` is.
    weight_decay : float
        `w`, finite, >= 0: adds `w p` to the gradient.
    variant : {"torch", "keras", "optax"}
        The schedule: `mu_t = beta1 (1 - 0.96^(0.004 t)/2)`, `beta1 (1 - 0.96^t/2)`, or `beta1`.  Keras also has
        `eps=1e-7` and `lr=0.001`.
    decoupled : bool
        Multiply `p` by `1 - lr w` before the step instead.
    maximize : bool
        Ascend instead of descend.
    stream, master, guard : optional
        As for `nagd_numba.step`.

    Returns
    -------
    params, the same object.

    Raises
    ------
    TypeError, ValueError
        For unfit arrays or values, before anything is written.
    RuntimeError
        For device arrays where CUDA cannot be used.

    Notes
    -----
    As for `adam_step`; the peer is `torch.optim.NAdam`.  `M_t` is formed anew in each of the first steps, which costs
    up to 10 microseconds (`nagd_numba.rules.nadam`).  In compiled code `variant` must be a constant.

    References
    ----------
    T. Dozat, Incorporating Nesterov momentum into Adam, ICLR workshop 2016.

    Examples
    --------
    >>> import numpy as np
    >>> import nagd_numba
    >>> target = np.array([3.0, -1.0])
    >>> params, m, v = np.zeros(2), np.zeros(2), np.zeros(2)
    >>> for t in range(1, 1001):
    ...     grads = 2 * (params - target)
    ...     _ = nagd_numba.nadam_step(params, grads, m, v, t, lr=0.05)
    >>> params.round(6)
    array([ 3., -1.])
    """
    index = arrays.choice("variant", variant, VARIANTS)
    hyper = lr, beta1, beta2, eps, weight_decay, step_number(t), float(index)
    _nadam(params, grads, (m, v), hyper, (maximize, decoupled), stream, master, guard)
    return params


def adam_constants(dtype, t, lr=0.001, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0):
    """What `adam_update` needs of the hyper-parameters in step `t`: a tuple of scalars of `dtype`.

    From Python (for the arguments of a `@cuda.jit` kernel) and inside `@njit` functions, once a step.  The
    hyper-parameters are those of `adam_step`, with the same ranges and errors; `dtype` is np.float32 or np.float64.

    >>> import numpy as np
    >>> import nagd_numba
    >>> p, m, v = nagd_numba.adam_update(1.0, 4.0, 0.0, 0.0, nagd_numba.adam_constants(np.float64, 1, lr=0.1))
    >>> round(p, 6), round(m, 6), round(v, 6)
    (0.9, 0.4, 0.016)
    """
    return rule_constants(adam.RULE, dtype, (lr, beta1, beta2, eps, weight_decay, step_number(t)))


def adamw_constants(dtype, t, lr=0.001, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.01):
    """The same for `adamw_update`."""
    return rule_constants(adamw.RULE, dtype, (lr, beta1, beta2, eps, weight_decay, step_number(t)))


def nadam_constants(
    dtype, t, lr=0.002, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0, variant="torch", decoupled=False
):
    """The same for `nadam_update`."""
    index = arrays.choice("variant", variant, VARIANTS)
    hyper = lr, beta1, beta2, eps, weight_decay, step_number(t), float(index)
    return rule_constants(nadam.RULE, dtype, hyper, _nadam_options(False, decoupled))


def _adam_options(maximize):
    return (arrays.flag("maximize", maximize),)


def _nadam_options(maximize, decoupled):
    return arrays.flag("maximize", maximize), arrays.flag("decoupled", decoupled)


def _variant(variant: str, *_: Any) -> dict[str, str]:
    return {"variant": repr(float(arrays.choice("variant", variant, VARIANTS)))}


_adam, _adamw = (python_step(rule, _adam_options) for rule in (adam.RULE, adamw.RULE))
_nadam = python_step(nadam.RULE, _nadam_options)
in_compiled_code(adam_step, adam.RULE, ("maximize",), _adam_options)
in_compiled_code(adamw_step, adamw.RULE, ("maximize",), _adam_options)
in_compiled_code(
    nadam_step, nadam.RULE, ("variant", "maximize", "decoupled"), lambda _, *flags: _nadam_options(*flags), _variant
)
constants_in_compiled_code(adam_constants, adam.RULE, (), lambda: (False,))
constants_in_compiled_code(adamw_constants, adamw.RULE, (), lambda: (False,))
constants_in_compiled_code(
    nadam_constants, nadam.RULE, ("variant", "decoupled"), lambda _, flag: _nadam_options(False, flag), _variant
)
