"""What `minimize` accepts beside functions, and every message about what it does not."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import validation
from . import algorithm
from .prox import NAMES

METHODS = ("nag", "fista", "gd", "momentum")
OPTIONS = ("l1", "bounds", "penalty", "ftol", "maxtime", "monotone", "momentum", "L0", "noise", "disp")


@dataclass(frozen=True)
class Choices:
    """What was chosen, checked."""

    settings: algorithm.Settings
    prox: str | Callable | None
    penalty: Callable | None
    first: np.ndarray
    second: np.ndarray
    maxtime: float
    disp: bool


def choices(
    n: int,
    method: Any,
    L: Any,
    strong_convexity: Any,
    restart: Any,
    prox: Any,
    tol: Any,
    maxiter: Any,
    options: Any,
    observed: bool = False,
) -> Choices:
    """Check everything but the functions; `observed`: someone wants the value of F at each iterate."""
    options = checked_options(options)
    validation.choice("method", method, METHODS)
    curvature = 0.0 if L is None else validation.number("L", L, low_open=True)
    convexity = 0.0
    if strong_convexity is not None:
        convexity = validation.number("strong_convexity", strong_convexity, low_open=True)
        if method == "fista":
            raise ValueError("strong_convexity is not used by method 'fista'; take method='nag', or leave it out")
        if L is not None and convexity > curvature:
            raise ValueError(f"strong_convexity is {convexity} and L {curvature}; it cannot be above L")
    if restart is not None:
        validation.choice("restart", restart, ("gradient", "function"))
    if L is not None and "L0" in options:
        raise ValueError("options has 'L0', where backtracking starts, beside L, which leaves nothing to find")
    momentum = -1.0
    if "momentum" in options:
        momentum = validation.number("options['momentum']", options["momentum"])
        if method not in ("nag", "momentum") or momentum >= 1.0:
            raise ValueError("options has 'momentum', which is a number below 1 for method 'nag' or 'momentum'")
    if method == "gd":
        scheme = algorithm.PLAIN
    elif method == "momentum":
        scheme = algorithm.HEAVY
        if momentum < 0.0 and convexity == 0.0:
            momentum = 0.9
    else:
        scheme = algorithm.CONSTANT if convexity > 0.0 or momentum >= 0.0 else algorithm.SEQUENCE
    monotone = validation.flag("options['monotone']", options.get("monotone", False))
    if monotone and scheme not in (algorithm.PLAIN, algorithm.SEQUENCE):
        raise ValueError("options has 'monotone', which goes with 'gd', 'fista', and 'nag' without strong_convexity")
    ftol = validation.number("options['ftol']", options.get("ftol", 0.0))
    rule = algorithm.NEVER
    if scheme == algorithm.SEQUENCE and restart is not None:
        rule = algorithm.BY_GRADIENT if restart == "gradient" else algorithm.BY_FUNCTION
    penalty, first, second = _penalty(n, prox, options)
    if scheme == algorithm.HEAVY and prox is not None:
        raise ValueError("method 'momentum' has no proximal form; take 'nag', 'fista' or 'gd' with a prox")
    tracks = monotone or ftol > 0.0 or rule == algorithm.BY_FUNCTION
    if callable(prox) and penalty is None and tracks:
        raise ValueError(
            "prox is a function, and restart='function', monotone and ftol compare values of the whole objective: "
            "give the penalty h(x) that belongs to it as options['penalty']"
        )
    return Choices(
        algorithm.Settings(
            scheme=scheme,
            restart=rule,
            monotone=int(monotone),
            search=int(L is None),
            tracks=int(tracks or observed),
            bounded=int(prox in ("box", "nonneg")),
            valued=int(not callable(prox) or penalty is not None),
            maxiter=_maxiter(maxiter),
            tol=validation.number("tol", tol),
            ftol=ftol,
            noise=validation.number("options['noise']", options.get("noise", algorithm.NOISE)),
            curvature=validation.number("options['L0']", options["L0"], low_open=True)
            if "L0" in options
            else curvature,
            convexity=convexity,
            momentum=momentum,
        ),
        prox,
        penalty,
        first,
        second,
        validation.number("options['maxtime']", options.get("maxtime", math.inf), finite=False),
        bool(options.get("disp", False)),
    )


def _maxiter(maxiter: Any) -> int:
    """As SciPy takes it: 1e4 is a whole number too."""
    if isinstance(maxiter, float | np.floating) and maxiter.is_integer():
        maxiter = int(maxiter)
    return min(validation.whole("maxiter", maxiter, 0), 2**62)


def checked_options(options: Any) -> Mapping[str, Any]:
    """A mapping with no name but those in OPTIONS."""
    if options is None:
        return {}
    if not isinstance(options, Mapping):
        raise TypeError(f"options is {options!r}; a dict with any of {', '.join(map(repr, OPTIONS))} is needed")
    for name in options:
        if name not in OPTIONS:
            near = difflib.get_close_matches(str(name), OPTIONS, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"options has {name!r}; one of {', '.join(map(repr, OPTIONS))} is needed{hint}")
    return options


def _penalty(n: int, prox: Any, options: Mapping[str, Any]) -> tuple[Callable | None, np.ndarray, np.ndarray]:
    """The user's penalty, and the two vectors of `prox`."""
    if prox is not None and not callable(prox):
        validation.choice("prox", prox, NAMES)
    for name, needed in (("l1", "l1"), ("bounds", "box")):
        if name in options and prox != needed:
            raise ValueError(f"options has {name!r}, which goes with prox={needed!r}, and prox is {prox!r}")
        if prox == needed and name not in options:
            given = "the weight of sum |x_i|, a number or a vector" if name == "l1" else "a (min, max) for each x_i"
            raise ValueError(f"prox is {prox!r}, which needs options={{{name!r}: ...}}: {given}")
    penalty = options.get("penalty")
    if penalty is not None and not (callable(prox) and callable(penalty)):
        raise ValueError("options has 'penalty', the function h(x) that belongs to a prox that is a function")
    if prox == "l1":
        weights = np.asarray(options["l1"], np.float64)
        if weights.shape not in ((), (n,)) or not (np.isfinite(weights).all() and (weights >= 0).all()):
            raise ValueError(f"options['l1'] is {options['l1']!r}; a finite number >= 0, or {n} of them, is needed")
        return None, np.array(np.broadcast_to(weights, n)), np.empty(0)
    if prox == "box":
        return None, *_bounds(n, options["bounds"])
    if prox == "nonneg":
        return None, np.zeros(n), np.full(n, np.inf)
    return penalty, np.empty(0), np.empty(0)


def _bounds(n: int, bounds: Any) -> tuple[np.ndarray, np.ndarray]:
    """Two vectors from SciPy's forms: `Bounds`, or a (min, max) for each element or for all, None for no bound."""
    try:
        if hasattr(bounds, "lb"):
            lower, upper = (np.array(np.broadcast_to(np.asarray(b, float), n)) for b in (bounds.lb, bounds.ub))
        else:
            pairs = np.array(list(bounds), dtype=object)
            if pairs.shape == (2,):
                pairs = np.broadcast_to(pairs, (n, 2))
            if pairs.shape != (n, 2):
                raise ValueError(f"its shape is {pairs.shape}")
            lower = np.array([-np.inf if low is None else float(low) for low in pairs[:, 0]])
            upper = np.array([np.inf if high is None else float(high) for high in pairs[:, 1]])
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"bounds is {bounds!r}; {n} pairs (min, max), or one for all, None for no bound, or "
            f"scipy.optimize.Bounds: {error}"
        ) from error
    if not (lower <= upper).all():  # not a number is refused as well
        where = int(np.argmin(lower <= upper))
        raise ValueError(f"bounds[{where}] is ({lower[where]}, {upper[where]}); min <= max is needed")
    return lower, upper


def starting_point(name: str, x0: Any, ndim: int = 1) -> np.ndarray:
    """A contiguous float64 copy of `x0` with that number of dimensions."""
    if validation.is_device_array(x0):
        shared = f", or pass cupy.asarray({name}) or torch.as_tensor({name}), and functions of such"
        raise TypeError(
            f"{name} is on a CUDA device ({validation.type_of(x0)}), where functions have to be compiled: make them "
            f"@njit or @cuda.jit(device=True){shared if ndim == 1 else ''}"
        )
    try:
        x = np.asarray(x0)
        if x.dtype.kind not in "fiub":
            raise TypeError(f"its dtype is {x.dtype}")
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name} is {validation.type_of(x0)}; an array of real numbers is needed: {error}") from error
    if x.ndim == 0 and ndim == 1:
        x = x.reshape(1)
    if x.ndim != ndim or (x.size == 0 and not (ndim == 2 and len(x) == 0)):  # there may be no problems
        wanted = "a vector of at least one element" if ndim == 1 else "a matrix with a problem in each row"
        raise ValueError(f"{name} has shape {x.shape}; {wanted} is needed: {name}.ravel(), and reshape inside fun")
    x = np.array(x, np.float64, order="C", subok=False)
    if not np.isfinite(x).all():
        where = tuple(int(k) for k in np.argwhere(~np.isfinite(x))[0])
        raise ValueError(f"{name}{list(where)} is {x[where]}; a start from finite numbers is needed")
    return x


def as_args(args: Any) -> tuple[Any, ...]:
    """SciPy's rule: what is no tuple is one argument."""
    return args if isinstance(args, tuple) else (args,)
