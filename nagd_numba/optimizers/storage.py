"""What goes with parameters and states of small storage: random rounding, and states of 8 bits."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import validation
from ..kernels.codes import BLOCK, decoded
from .seeds import seed_of

if TYPE_CHECKING:
    from .optimizer import Optimizer

CODES = (np.dtype(np.int8), np.dtype(np.uint8))


class StochasticRounding:
    """Rounding of float16 and bfloat16 parameters, and of the codes of int8 states, by random bits.

    A number becomes one of its two neighbours, with the probabilities whose mean is the number itself: steps that are
    too small to reach the next number still count, on average.  The bits are a hash of (seed, number of the step,
    number of the element), so that they do not depend on threads, on the device, or on how arrays are cut.

    Parameters
    ----------
    seed : int
        From 0 to below 2^64.
    steps : int
        How many steps it has served: with the count of an earlier object it goes on as that one would have.
    first : int
        The number of the first element, where the arrays are a part of longer ones that others step; in a multiple of
        32 where there are int8 states.  The arrays of a list are numbered on from one to the next.
    rng : optional
        In place of `seed`: what `numpy.random.default_rng` takes, from which a seed is drawn.

    Attributes
    ----------
    seed, steps, first
        `steps` grows by one with each step, of an array or of a list; it may be set, and with `seed` is all that a
        saved state needs.  Elements are numbered modulo 2^32.

    Raises
    ------
    TypeError, ValueError
        For a seed, a count or a place that is not a whole number in its range.

    Notes
    -----
    One object is for one thread at a time.

    Examples
    --------
    >>> import numpy as np
    >>> import nagd_numba
    >>> params, grads = np.ones(10_000, np.float16), np.ones(10_000, np.float16)
    >>> vel = np.zeros(10_000, np.float32)
    >>> rounding = nagd_numba.StochasticRounding(seed=1)
    >>> for _ in range(10):  # to nearest, nothing would ever change
    ...     _ = nagd_numba.step(params, grads, vel, lr=1e-4, momentum=0.0, rounding=rounding)
    >>> round(float(params.mean(dtype=np.float64)), 4), rounding.steps
    (0.999, 10)
    """

    def __init__(self, seed: int | None = None, steps: int = 0, first: int = 0, *, rng: Any = None) -> None:
        with validation.prefixed("StochasticRounding"):
            self.seed = seed_of(seed, rng)
            self.steps = steps
            self.first = validation.whole("first", first, 0)

    @property
    def steps(self) -> int:
        """How many steps were served."""
        return self._steps

    @steps.setter
    def steps(self, count: int) -> None:
        self._steps = validation.whole("steps", count, 0, 2**63)

    def __repr__(self) -> str:
        first = f", first={self.first}" if self.first else ""
        return f"StochasticRounding(seed={self.seed}, steps={self.steps}{first})"


class Int8State:
    """A state in blocks of 32 codes of 8 bits with one float32 scale: 1.125 bytes an element.

    Codes are int8 where the state has a sign, and uint8, of its square root, where it has none; in the order of the
    elements of the parameters in memory.  `int8_states` makes those of an optimizer.

    Parameters
    ----------
    codes : array
        int8 or uint8, a vector of as many elements as the parameters have; modified in place by a step.
    scales : array
        float32, one for each 32 codes or part of that; modified in place.

    Raises
    ------
    TypeError, ValueError
        By the step that is given it, for arrays of other types, or whose lengths do not fit together.

    Notes
    -----
    What a step stores differs from what it computed by less than the block's scale: `M/127` for int8, `M` being the
    largest magnitude of the block, and `sqrt(M)/255` in the square root for uint8.  On average over the random bits it
    is the same (uint8: but for values below `M/65025`, which become that).  See `nagd_numba.kernels.codes`.

    Examples
    --------
    >>> import numpy as np
    >>> import nagd_numba
    >>> params, grads = np.zeros(64, np.float32), np.full(64, 0.5, np.float32)
    >>> (vel,) = nagd_numba.int8_states(nagd_numba.step, params)
    >>> _ = nagd_numba.step(params, grads, vel, rounding=nagd_numba.StochasticRounding(seed=1))
    >>> vel.values()[:3].round(3)
    array([0.5, 0.5, 0.5], dtype=float32)
    """

    def __init__(self, codes: Any, scales: Any) -> None:
        self.codes, self.scales = codes, scales

    def values(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        """The values of a state in host memory, as a new float32 vector."""
        made: np.ndarray[Any, np.dtype[np.float32]] = decoded(np.asarray(self.codes), np.asarray(self.scales))
        return made

    def __repr__(self) -> str:
        return f"Int8State({validation.type_of(self.codes)} of {self.codes.dtype}, {self.codes.size} codes)"


def int8_states(step: Callable[..., Any], params: Any) -> tuple[Any, ...]:
    """The states of an optimizer for parameters on the host, as `Int8State`, zero as before the first step.

        m, v = int8_states(nagd_numba.adam_step, params)

    Parameters
    ----------
    step : function
        `nagd_numba.step`, `adam_step` or another step of this package whose states begin with zeros.
    params : array, or list of arrays
        The parameters: float32, float16 or bfloat16.

    Returns
    -------
    A tuple with an `Int8State` for each state of the step, or with a list of them where `params` is a list.

    Raises
    ------
    TypeError, ValueError
        For what is no such step (FISTA's state and schedule-free `z` begin with the parameters), or no array.

    Examples
    --------
    >>> import numpy as np
    >>> import nagd_numba
    >>> m, v = nagd_numba.int8_states(nagd_numba.adam_step, np.zeros(100, np.float32))
    >>> m.codes.dtype, v.codes.dtype, v.scales.size
    (dtype('int8'), dtype('uint8'), 4)
    """
    from .registry import OPTIMIZERS  # which imports the steps

    with validation.prefixed("int8_states"):
        optimizer: Optimizer | None = next((x for x in OPTIMIZERS.values() if x.step is step), None)
        if optimizer is None:
            raise TypeError(f"step is {step!r}; one of nagd_numba's is needed: {', '.join(x for x in OPTIMIZERS)}")
        if optimizer.points:
            raise ValueError(f"step is {optimizer.name}, whose state does not begin with zeros; keep that in float32")
        rule = optimizer.rule
        if isinstance(params, list | tuple):
            return tuple([_zeros(x, name in rule.nonnegative) for x in params] for name in rule.states)
        return tuple(_zeros(params, name in rule.nonnegative) for name in rule.states)


def _zeros(x: Any, nonnegative: bool) -> Int8State:
    if not hasattr(x, "shape"):
        raise TypeError(f"params is {validation.type_of(x)}; an array is needed, or a list of them")
    size = math.prod(x.shape)
    return Int8State(np.zeros(size, np.uint8 if nonnegative else np.int8), np.zeros(-(-size // BLOCK), np.float32))


def place_of(x: Any) -> Any:
    """An array that lies where a state does: its codes, or itself."""
    return x.codes if isinstance(x, Int8State) else x
