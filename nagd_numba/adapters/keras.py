"""The optimizers for Keras 3: NAG, Adam, AdamW, Nadam, Lion, each a `keras.optimizers.Optimizer`.

The backend is Keras' (`KERAS_BACKEND`): PyTorch, JAX, TensorFlow, and to apply gradients NumPy.  `docs/howto/keras.md`
says what each does.  Keras is imported by this module.
"""

from __future__ import annotations

import inspect
import math
from importlib import import_module
from typing import Any, ClassVar

try:
    import keras
except ImportError as error:
    raise ImportError(
        f"{error.name} is not installed: pip install keras, and the backend that KERAS_BACKEND says (torch; jax with "
        f"optax; tensorflow; numpy needs nothing more)"
    ) from error

from .. import validation
from ..optimizers.conventions import Convention
from ..optimizers.optimizer import Optimizer
from ..optimizers.registry import OPTIMIZERS
from .keras_copies import Steps

__all__ = ["NAG", "Adam", "AdamW", "Fused", "Lion", "Nadam"]

_MODULES = {"numpy": "keras_copies", "torch": "keras_torch", "jax": "keras_jax", "tensorflow": "keras_tensorflow"}
_BACKEND = keras.backend.backend()
if _BACKEND not in _MODULES:
    raise ImportError(
        f"nagd_numba.adapters.keras has no step for Keras' backend {_BACKEND!r}; {', '.join(_MODULES)} are supported: "
        f"set KERAS_BACKEND before keras is imported"
    )
_Steps: type[Steps] = import_module(f".{_MODULES[_BACKEND]}", __package__).Steps
_serializable = keras.saving.register_keras_serializable(package="nagd_numba")


class Fused(keras.optimizers.Optimizer):
    """What the optimizers of this module have in common: one call of the library steps all variables."""

    rule: ClassVar[Optimizer]
    options: ClassVar[dict[str, str]]  # the names of options in Keras, and in the step of the library
    columns: ClassVar[tuple[str, ...]]  # the names of the states

    def __init__(self, learning_rate: Any, keywords: dict[str, Any], **options: Any) -> None:
        super().__init__(learning_rate=learning_rate, **keywords)
        for name, value in options.items():
            setattr(self, name, value)
        defaults = {x.name: x.default for x in inspect.signature(self.rule.step).parameters.values()}
        self._defaults = {x: defaults[x] for x in self.rule.settings}
        self._steps = _Steps(self.rule)
        with validation.prefixed(type(self).__name__):
            self.rule.arguments(self._settings(learning_rate if isinstance(learning_rate, float) else 0.0, 1))

    def _settings(self, learning_rate: Any, t: Any, functions: Any = math) -> dict[str, Any]:
        """The settings of the step of the library; `functions` is what has sqrt and expm1 for `t`."""
        made = {**self._defaults, **{x: getattr(self, name) for name, x in self.options.items()}, "lr": learning_rate}
        if "t" in made:
            made["t"] = t
        return self.rule.filled(made)

    def build(self, variables: list[Any]) -> None:
        """Make the states of these variables: zeros of their shape and dtype.

        Parameters
        ----------
        variables : list of keras.Variable
            float32 or float64.

        Raises
        ------
        TypeError
            For a variable of another dtype.
        """
        if self.built:
            return
        for variable in variables:
            if variable.dtype not in ("float32", "float64") and not self._overwrite_variable_with_gradient(variable):
                raise TypeError(
                    f"{type(self).__name__}: the variable {variable.path} is {variable.dtype}; float32 or float64 is "
                    f"needed (the policy 'mixed_{variable.dtype}' keeps variables in float32)"
                )
        super().build(variables)
        self._states = self.add_optimizer_variables(variables, list(self.columns))

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Step one variable (Keras' interface; `apply` steps all of them in one call)."""
        self._backend_update_step([gradient], [variable], learning_rate)

    def _backend_update_step(self, grads: Any, trainable_variables: Any, learning_rate: Any) -> None:
        """Step all variables that have a gradient: what Keras calls, with gradients that it has clipped."""
        variables = list(trainable_variables)
        with validation.prefixed(type(self).__name__):
            places = [self._get_variable_index(x) for x in variables]
            states = [[column[k] for k in places] for column in self._states]
            t = self.iterations if self.rule.rule.counts_steps else 0
            run = self._steps.ready(variables, states, list(grads), self._settings, learning_rate, t)
            super()._apply_weight_decay(variables)
            run()

    def _apply_weight_decay(self, variables: Any) -> None:
        """Nothing yet: Keras calls this before the gradients were checked."""

    def get_config(self) -> dict[str, Any]:
        """The options, as Keras saves them."""
        return {**super().get_config(), **{name: getattr(self, name) for name in self.options}}


@_serializable
class NAG(Fused):
    """Nesterov's accelerated gradient, as a `keras.optimizers.Optimizer`.

    With the gradient `g` at the variables `p`, and the velocity `m` of Keras' convention:

        m <- momentum m - learning_rate g
        p <- p + momentum_next m - learning_rate g

    Parameters
    ----------
    learning_rate : float, LearningRateSchedule or callable
        Finite, >= 0.
    momentum : float
        Finite, >= 0, usually below 1.  At 0 the step is gradient descent.
    nesterov : bool
        False for the heavy ball (classical momentum): `p <- p + m`.
    convention : {"keras", "torch", "caffe", "bengio"}
        What the velocity holds; see `nagd_numba.optimizers.nesterov`.  At a constant rate the variables do not depend
        on it; when the rate changes, "keras" carries the old one on in the velocity, as Keras does, "torch" does not.
    momentum_next : float, optional
        The momentum of the next step, where a schedule changes it; by default equal to `momentum`.
    **keywords
        Keras' own: name, weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum,
        ema_overwrite_frequency, loss_scale_factor, gradient_accumulation_steps.

    Raises
    ------
    TypeError, ValueError
        For an option out of its range; in `build` for variables that are not float32 or float64; in `apply` for
        gradients that do not fit, before anything is written.

    Notes
    -----
    The state is that of `keras.optimizers.SGD` with a momentum: `set_weights` takes `sgd.variables`.

    Examples
    --------
    >>> import keras
    >>> from nagd_numba.adapters.keras import NAG
    >>> x = keras.Variable([3.0, -1.0])
    >>> optimizer = NAG(0.1)
    >>> for _ in range(100):
    ...     optimizer.apply([2 * x.value], [x])
    >>> bool(keras.ops.max(keras.ops.abs(x)) < 0.1)
    True
    """

    rule = OPTIMIZERS["nesterov"]
    options: ClassVar = {x: x for x in ("momentum", "nesterov", "convention", "momentum_next")}
    columns = ("momentum",)

    def __init__(
        self,
        learning_rate: Any = 0.01,
        momentum: float = 0.9,
        nesterov: bool = True,
        convention: Convention = "keras",
        momentum_next: float | None = None,
        **keywords: Any,
    ) -> None:
        super().__init__(
            learning_rate,
            keywords,
            momentum=momentum,
            nesterov=nesterov,
            convention=convention,
            momentum_next=momentum_next,
        )


class _Averages(Fused):
    """Those with averages of the gradient and of its square."""

    options: ClassVar = {"beta_1": "beta1", "beta_2": "beta2", "epsilon": "eps"}
    columns = ("momentum", "velocity")

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        **keywords: Any,
    ) -> None:
        super().__init__(learning_rate, keywords, beta_1=beta_1, beta_2=beta_2, epsilon=epsilon)


@_serializable
class Adam(_Averages):
    """Adam as Keras has it, as a `keras.optimizers.Optimizer`.

    With the gradient `g` at the variables `p`, in step `t`, counted from 1:

        m <- beta_1 m + (1 - beta_1) g;    v <- beta_2 v + (1 - beta_2) g^2
        p <- p - learning_rate sqrt(1 - beta_2^t)/(1 - beta_1^t) m / (sqrt(v) + epsilon)

    Parameters
    ----------
    learning_rate : float, LearningRateSchedule or callable
        Finite, >= 0.
    beta_1, beta_2 : float
        What stays of the averages in a step, from 0 to below 1.
    epsilon : float
        Finite, >= 0.  Kingma and Ba's epsilon-hat: that of `nagd_numba.adam_step` is
        `epsilon / sqrt(1 - beta_2^t)` then.
    **keywords
        Keras' own, as for `NAG`.

    Raises
    ------
    TypeError, ValueError
        As for `NAG`.

    Notes
    -----
    The state is that of `keras.optimizers.Adam` with `amsgrad=False`, the only form that there is here.

    Examples
    --------
    >>> import keras
    >>> from nagd_numba.adapters.keras import Adam
    >>> x = keras.Variable([3.0, -1.0])
    >>> optimizer = Adam(0.1)
    >>> for _ in range(200):
    ...     optimizer.apply([2 * x.value], [x])
    >>> bool(keras.ops.max(keras.ops.abs(x)) < 0.1)
    True
    """

    rule = OPTIMIZERS["adam"]

    def _settings(self, learning_rate: Any, t: Any, functions: Any = math) -> dict[str, Any]:
        made = super()._settings(learning_rate, t, functions)
        numbers = [made["beta2"], made["eps"]]
        if all(isinstance(x, float) for x in numbers) and 0 < made["beta2"] < 1:
            made["eps"] = made["eps"] / functions.sqrt(-functions.expm1(t * math.log(made["beta2"])))
        return made


@_serializable
class AdamW(Adam):
    """Adam with the weight decay that every optimizer of Keras has, here 0.004 by default: `p <- p (1 - lr w)` before.

    Parameters, errors and state are those of `Adam`, and

    Parameters
    ----------
    weight_decay : float, optional
        `w`, >= 0; None for none.  `exclude_from_weight_decay` leaves variables out, as in Keras.

    Examples
    --------
    >>> import keras
    >>> from nagd_numba.adapters.keras import AdamW
    >>> x = keras.Variable([1.0])
    >>> AdamW(0.1, weight_decay=0.5).apply([0 * x.value], [x])
    >>> round(float(x.numpy()[0]), 6)
    0.95
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        weight_decay: float | None = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        **keywords: Any,
    ) -> None:
        super().__init__(learning_rate, beta_1, beta_2, epsilon, weight_decay=weight_decay, **keywords)


@_serializable
class Nadam(_Averages):
    """Nadam as Keras has it, Adam with Nesterov's momentum, as a `keras.optimizers.Optimizer`.

    With the gradient `g` at the variables `p`, in step `t`, counted from 1:

        m <- beta_1 m + (1 - beta_1) g;    v <- beta_2 v + (1 - beta_2) g^2
        p <- p - learning_rate [(1 - u_t)/(1 - U_t) g + u_{t+1}/(1 - U_{t+1}) m] / (sqrt(v/(1 - beta_2^t)) + epsilon)

    where `u_t = beta_1 (1 - 0.96^t/2)`, and `U_t` is the product of `u_1` to `u_t`.

    Parameters
    ----------
    learning_rate, beta_1, beta_2, epsilon, **keywords
        As for `Adam`.

    Raises
    ------
    TypeError, ValueError
        As for `NAG`.

    Notes
    -----
    Keras keeps `U_t` in a variable; here it follows from the number of steps, and the state is that of Adam.

    Examples
    --------
    >>> import keras
    >>> from nagd_numba.adapters.keras import Nadam
    >>> x = keras.Variable([3.0, -1.0])
    >>> optimizer = Nadam(0.1)
    >>> for _ in range(200):
    ...     optimizer.apply([2 * x.value], [x])
    >>> bool(keras.ops.max(keras.ops.abs(x)) < 0.1)
    True
    """

    rule = OPTIMIZERS["nadam"]

    def _settings(self, learning_rate: Any, t: Any, functions: Any = math) -> dict[str, Any]:
        return {**super()._settings(learning_rate, t, functions), "variant": "keras"}


@_serializable
class Lion(Fused):
    """Lion as Keras has it, as a `keras.optimizers.Optimizer`.

    With the gradient `g` at the variables `p`:

        p <- p - learning_rate sign(beta_1 m + (1 - beta_1) g)
        m <- beta_2 m + (1 - beta_2) g

    Parameters
    ----------
    learning_rate : float, LearningRateSchedule or callable
        Finite, >= 0.
    beta_1, beta_2 : float
        From 0 to below 1.
    **keywords
        Keras' own, as for `NAG`.

    Raises
    ------
    TypeError, ValueError
        As for `NAG`.

    Examples
    --------
    >>> import keras
    >>> from nagd_numba.adapters.keras import Lion
    >>> x = keras.Variable([3.0, -1.0])
    >>> optimizer = Lion(0.125)
    >>> for _ in range(16):
    ...     optimizer.apply([2 * x.value], [x])
    >>> float(x.numpy()[0])
    1.0
    """

    rule = OPTIMIZERS["lion"]
    options: ClassVar = {"beta_1": "beta1", "beta_2": "beta2"}
    columns = ("momentum",)

    def __init__(self, learning_rate: Any = 0.001, beta_1: float = 0.9, beta_2: float = 0.99, **keywords: Any) -> None:
        super().__init__(learning_rate, keywords, beta_1=beta_1, beta_2=beta_2)
