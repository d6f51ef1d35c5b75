"""The optimizers for JAX: as `optax.GradientTransformation`s, and as steps for `jax.jit`.

    nag, adam, adamw, nadam, lion, rmsprop, adagrad     transformations: what optax.sgd, optax.adam, ... are
    step, adam_step, ..., fista_step                    `nagd_numba.step`, ... that return new arrays

Each is a call of a compiled loop for all arrays of a dtype (or for 64 of them), on XLA's threads:
`docs/howto/optax.md`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

try:
    import jax
    import jax.numpy as jnp
    import optax
except ImportError as error:
    raise ImportError(f"{error.name} is not installed: pip install jax optax") from error

from .. import validation
from ..kernels.xla.handler import DECOUPLED, L2, NO_DECAY, Kind
from ..optimizers.optimizer import Optimizer
from ..optimizers.registry import OPTIMIZERS
from . import docs
from .xla import call

_ALWAYS_DECOUPLED = ("adamw", "lion")  # their weight decay never passes through the gradient
_NUMBERS = (np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.int32), np.dtype(np.int64))


class State(NamedTuple):
    """The state of a transformation.

    count   int32: the number of steps so far; None where nothing depends on it
    states  the arrays of the rule by name ("vel"; "m" and "v"; ...), each a pytree like the parameters
    """

    count: Any
    states: dict[str, Any]


def _transformation(name: str, optimizer: Optimizer) -> Callable[..., optax.GradientTransformation]:
    """The public function of this name that makes an optimizer's transformation."""
    defaults = inspect.signature(optimizer.step).parameters
    settings = [x for x in optimizer.settings if x not in ("lr", "t")]
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    signature = inspect.Signature(
        [
            inspect.Parameter("learning_rate", kind),
            *(inspect.Parameter(x, kind, default=defaults[x].default) for x in settings),
        ]
    )

    def make(*args: Any, **kwargs: Any) -> optax.GradientTransformation:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        with validation.prefixed(name):
            return _make(name, optimizer, bound.arguments)

    text = _TRANSFORMATION.format(
        title=docs.title(optimizer.step),
        formula=docs.formula(optimizer.step),
        parameters=docs.parameters(optimizer.step, settings),
        name=name,
    )
    return _public(make, name, signature, text)


def _public(function: Callable[..., Any], name: str, signature: inspect.Signature, text: str) -> Callable[..., Any]:
    function.__name__ = function.__qualname__ = name
    function.__signature__ = signature  # type: ignore[attr-defined]
    function.__doc__ = text
    return function


def _make(public: str, optimizer: Optimizer, given: Mapping[str, Any]) -> optax.GradientTransformation:
    rule = optimizer.rule
    settings = {("lr" if name == "learning_rate" else name): x for name, x in given.items()}
    scheduled = any(callable(settings[x]) for x in settings if optimizer.is_number(x))
    counts = scheduled or rule.counts_steps
    fixed = {x: settings[x] for x in optimizer.fixed}
    maximize = validation.flag("maximize", fixed.get("maximize", False))
    decoupled = rule.name in _ALWAYS_DECOUPLED or validation.flag("decoupled", fixed.get("decoupled", False))
    plain = {x: False if x in ("decoupled", "maximize") else value for x, value in fixed.items()}
    options = optimizer.options(plain, zero=True)
    for name, x in given.items():
        if name not in optimizer.fixed and x is not None and not callable(x):
            _number(rule, name, x)

    def init(params: optax.Params) -> State:
        with validation.prefixed(f"{public}.init"):
            _leaves("params", params)
        zeros = {name: jax.tree.map(jnp.zeros_like, params) for name in rule.states}
        return State(jnp.zeros([], jnp.int32) if counts else None, zeros)

    def update(updates: optax.Updates, state: State, params: optax.Params | None = None) -> tuple[Any, State]:
        with validation.prefixed(f"{public}.update"):
            now = {x: y(state.count) if callable(y) and optimizer.is_number(x) else y for x, y in settings.items()}
            count = state.count
            if counts:
                count = optax.safe_increment(state.count)
                now["t"] = count
            hyper = _hyper(optimizer, now)
            decay = DECOUPLED if decoupled else L2
            if _is_zero(hyper["weight_decay"]):
                decay = NO_DECAY
            trees = {"updates": updates, **state.states}
            if decay != NO_DECAY:
                if params is None:
                    raise ValueError(
                        "weight_decay needs params: call update(updates, state, params)"
                        + ("" if isinstance(hyper["weight_decay"], float) else ", or make weight_decay a number")
                    )
                trees = {"params": params, **trees}
            form = functools.partial(Kind, rule, options, change=True, decay=decay, maximize=maximize)
            changes, *made = _called(form, hyper, trees)
        return changes, State(count, dict(zip(rule.states, made, strict=True)))

    return optax.GradientTransformation(init, update)


def _step(optimizer: Optimizer) -> Callable[..., tuple[Any, ...]]:
    """The public function that is an optimizer's step."""
    rule = optimizer.rule
    parameters = inspect.signature(optimizer.step).parameters
    names = (*optimizer.arrays, *optimizer.settings)
    signature = inspect.Signature(
        [inspect.Parameter(x, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=parameters[x].default) for x in names]
    )

    def run(*args: Any, **kwargs: Any) -> tuple[Any, ...]:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        settings = {x: bound.arguments[x] for x in optimizer.settings}
        with validation.prefixed(optimizer.name):
            hyper = _hyper(optimizer, settings)
            zero = optimizer.branch is not None and _is_zero(hyper[optimizer.branch])
            options = optimizer.options({x: settings[x] for x in optimizer.fixed}, zero)
            trees = {x: bound.arguments[x] for x in optimizer.arrays}
            return tuple(_called(functools.partial(Kind, rule, options), hyper, trees))

    text = _STEP.format(
        first=inspect.cleandoc(optimizer.step.__doc__ or "").partition(", in place")[0],
        formula=docs.formula(optimizer.step),
        returned=", ".join(("params", *rule.states)),
        states=" and ".join(rule.states),
        parameters=docs.parameters(optimizer.step, optimizer.settings),
        name=optimizer.name,
        call=", ".join(
            {"params": "params", "grads": "grads", "t": "t=1"}.get(x, "jnp.zeros(2)")
            for x in names
            if parameters[x].default is inspect.Parameter.empty
        ),
    )
    return _public(run, optimizer.name, signature, text)


def _is_zero(x: Any) -> bool:
    return isinstance(x, float) and x == 0.0


def _hyper(optimizer: Optimizer, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The hyper-parameters of the rule: floats, and arrays where they are known only when the program runs."""
    made: dict[str, Any] = {}
    settings = optimizer.filled(settings)
    for name in optimizer.rule.hyper:
        if name in optimizer.choices:
            made[name] = float(optimizer.choice(name, settings[name]))
            continue
        x = settings.get(name)
        known = [y for other, y in made.items() if settings.get(other) is x]
        made[name] = known[0] if known else _number(optimizer.rule, name, x)
    return made


def _number(rule: Any, name: str, x: Any) -> Any:
    """A hyper-parameter as a float, or as an array of one element of a dtype that the kernels read."""
    if isinstance(x, jax.Array) or (isinstance(x, np.ndarray) and x.ndim == 0):
        x = jnp.asarray(x)
        if x.shape != ():
            raise ValueError(f"{name} has shape {x.shape}; one number is needed (jax.vmap takes many)")
        if x.dtype in _NUMBERS:
            return x
        if jnp.issubdtype(x.dtype, jnp.floating):
            return x.astype(jnp.float32)
        if jnp.issubdtype(x.dtype, jnp.integer):
            return x.astype(jnp.int32)
        raise TypeError(f"{name} is an array of {x.dtype}; a number is needed")
    if name == "t" and rule.counts_steps:
        return float(validation.whole("t", x, below=1 << 53))
    return validation.hyper_parameters({name: x}, np.dtype(np.float64), rule.range_of)[0]


def _called(form: Callable[..., Kind], hyper: Mapping[str, Any], trees: Mapping[str, Any]) -> list[Any]:
    """The results, as pytrees, with the leaves of each dtype stepped together."""
    flat = {name: _leaves(name, tree) for name, tree in trees.items()}
    (first, (paths, reference, treedef)), *others = flat.items()
    for name, (_, leaves, other) in others:
        if other != treedef:
            raise ValueError(f"{name} has the structure {other}, and {first} {treedef}; one structure is needed")
        for path, x, y in zip(paths, leaves, reference, strict=True):
            if x.dtype != y.dtype:
                raise TypeError(
                    f"{name}{path} has dtype {x.dtype} and {first}{path} {y.dtype}; one dtype is needed: "
                    f"{name}.astype({y.dtype})"
                )
            if x.shape != y.shape:
                raise ValueError(
                    f"{name}{path} has shape {x.shape} and {first}{path} {y.shape}; one shape is needed for all"
                )
    made: list[list[Any]] = []
    for dtype in validation.DTYPES:
        at = [k for k, x in enumerate(reference) if x.dtype == dtype]
        kind = form(dtype=dtype)
        made = made or [[None] * len(reference) for _ in range(kind.results)]
        if not at:
            continue
        _together(kind, hyper)
        results = call(kind, tuple(hyper.values()), [[leaves[k] for k in at] for _, leaves, _ in flat.values()])
        for whole, part in zip(made, results, strict=True):
            for k, x in zip(at, part, strict=True):
                whole[k] = x
    return [jax.tree.unflatten(treedef, leaves) for leaves in made]


def _together(kind: Kind, hyper: Mapping[str, Any]) -> None:
    """Raise for hyper-parameters that are known and leave the range of the arrays' type."""
    known = {name: x for name, x in hyper.items() if isinstance(x, float)}
    validation.hyper_parameters(known, kind.dtype, kind.rule.range_of)
    if len(known) == len(hyper):
        kind.rule.scalars(tuple(known.values()), kind.dtype, kind.options)


def _leaves(name: str, tree: Any) -> tuple[list[str], list[Any], Any]:
    """The paths, the leaves and the structure of a pytree; raises for leaves that no kernel takes."""
    found, treedef = jax.tree_util.tree_flatten_with_path(tree)
    paths, leaves = [], []
    for path, x in found:
        paths.append(jax.tree_util.keystr(path))
        where = name + paths[-1]
        if not isinstance(x, jax.Array | np.ndarray | np.generic):
            raise TypeError(f"{where} is {validation.type_of(x)}; an array of JAX is needed: jnp.asarray({where})")
        if x.dtype not in validation.DTYPES:
            raise TypeError(
                f"{where} has dtype {x.dtype}; float32 or float64 is needed: {where}.astype(jnp.float32) (optax.masked "
                f"leaves parameters out)"
            )
        if x.dtype == np.float64 and not jax.config.read("jax_enable_x64"):
            raise TypeError(
                f"{where} has dtype float64, which JAX makes float32 of: jax.config.update('jax_enable_x64', True), or "
                f"{where}.astype(np.float32)"
            )
        leaves.append(jnp.asarray(x))
    return paths, leaves, treedef


_TRANSFORMATION = """{title} as an `optax.GradientTransformation`.

{formula}

An update is what is to be added to the parameters, as `optax.apply_updates` does.

Parameters
----------
learning_rate : float, array, or function
    Finite, >= 0.  A function of the number of steps so far is a schedule, as in optax.
{parameters}

Returns
-------
optax.GradientTransformation, whose state is a `State`.  With a weight decay its `update` needs the parameters.

Raises
------
TypeError, ValueError
    For unfit numbers and names; when it is used, for arrays that are not float32 or float64 or do not fit together.
jax.errors.JaxRuntimeError
    When a program runs whose schedules or arrays of one element are out of their range; nothing was written.

Notes
-----
Each number may be an array of one element, or a schedule.  Works inside `jax.jit`, `lax.scan`, `jax.vmap` and
`jax.shard_map`, on CPUs.  It cannot itself be differentiated.

Examples
--------
>>> import jax.numpy as jnp
>>> import optax
>>> from nagd_numba.adapters.optax import {name}
>>> optimizer = {name}(0.1)
>>> params = jnp.zeros(2)
>>> state = optimizer.init(params)
>>> updates, state = optimizer.update(jnp.array([-1.0, 1.0]), state, params)
>>> params = optax.apply_updates(params, updates)
>>> bool(params[0] > 0), bool(params[1] < 0)
(True, True)
"""
_STEP = """{first}, for JAX: returns new arrays.

{formula}

Parameters
----------
params, grads, {states} : pytree of arrays
    As for `nagd_numba.{name}`, but arrays of JAX, or pytrees of them, of one structure; float32 or float64 leaves of
    any shape.  None is modified.
{parameters}

Returns
-------
({returned}), new.

Raises
------
TypeError, ValueError
    For unfit arrays, numbers and names, when the program is traced.
jax.errors.JaxRuntimeError
    When a program runs whose arrays of one element are out of their range; nothing was written.

Notes
-----
The bits of `nagd_numba.{name}`.  Each number may be an array of one element, as inside `jax.jit`.  There the results
are written over the operands where those are not used again, and `donate_argnums` allows it for arguments.  Works
inside `lax.scan`, `jax.vmap` and `jax.shard_map`, on CPUs.  It cannot be differentiated.

Examples
--------
>>> import jax.numpy as jnp
>>> from nagd_numba.adapters.optax import {name}
>>> params, grads = jnp.zeros(2), jnp.array([-1.0, 1.0])
>>> {returned} = {name}({call})
>>> bool(params[0] > 0), bool(params[1] < 0)
(True, True)
"""

nag = _transformation("nag", OPTIMIZERS["nesterov"])
adam = _transformation("adam", OPTIMIZERS["adam"])
adamw = _transformation("adamw", OPTIMIZERS["adamw"])
nadam = _transformation("nadam", OPTIMIZERS["nadam"])
lion = _transformation("lion", OPTIMIZERS["lion"])
rmsprop = _transformation("rmsprop", OPTIMIZERS["rmsprop"])
adagrad = _transformation("adagrad", OPTIMIZERS["adagrad"])

step = _step(OPTIMIZERS["nesterov"])
adam_step = _step(OPTIMIZERS["adam"])
adamw_step = _step(OPTIMIZERS["adamw"])
nadam_step = _step(OPTIMIZERS["nadam"])
fista_step = _step(OPTIMIZERS["fista"])
lion_step = _step(OPTIMIZERS["lion"])
rmsprop_step = _step(OPTIMIZERS["rmsprop"])
adagrad_step = _step(OPTIMIZERS["adagrad"])
for _optimizer in OPTIMIZERS.values():  # new in the registry
    globals().setdefault(_optimizer.name, _step(_optimizer))
