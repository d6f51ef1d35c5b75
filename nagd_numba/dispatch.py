"""Where a step goes: to the CPU kernels or to CUDA, for one array or for lists of arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from . import arrays
from .apply import apply, apply_lists
from .compile import SIMULATOR
from .guard import Guard
from .rules import Rule


def update(
    rule: Rule,
    params: Any,
    grads: Any,
    states: Sequence[Any],
    hyper: dict[str, Any],
    options: tuple[Any, ...],
    stream: Any = None,
    master: Any = None,
    kind: Any = None,
    guard: Any = None,
) -> Callable | None:
    """Update `params` and `states` in place by `rule`, after checking everything.

    `kind` is what `gpu.step.repeat` will be asked with for the same options.  Returns the kernel that ran if it is the
    one for plain host vectors, which may be called without a check; else None.
    """
    if guard is not None:
        _guarded(guard, rule, params, grads, states, hyper, options, stream, master)
        return None
    if not isinstance(params, list | tuple):
        names = ("params", "grads", *rule.states, "master")
        group = (params, grads, *states, master)
        if not _on_device([(names, group)], stream):
            return apply(rule, *_host(group), hyper, options)
        _gpu().apply(rule, options, [(names, group)], tuple(hyper.values()), stream, kind)
        return None
    groups = _groups(rule, params, grads, states, master)
    if not groups:
        arrays.hyper_parameters(hyper, arrays.DTYPES[0], rule.range_of)
    elif not _on_device(groups, stream):
        parts = [_host(group) for _, group in groups]
        apply_lists(rule, [(p, g, *s) for p, g, s in parts], hyper, options)
    else:
        _gpu().apply(rule, options, groups, tuple(hyper.values()), stream, kind, lists=True)
    return None


def _guarded(
    guard: Any,
    rule: Rule,
    params: Any,
    grads: Any,
    states: Sequence[Any],
    hyper: dict[str, Any],
    options: tuple[Any, ...],
    stream: Any,
    master: Any,
) -> None:
    if not isinstance(guard, Guard):
        raise TypeError(f"guard is {arrays.type_of(guard)}; a nagd_numba.Guard is needed")
    if isinstance(params, list | tuple):
        groups = _groups(rule, params, grads, states, master)
    else:
        groups = [(("params", "grads", *rule.states, "master"), (params, grads, *states, master))]
    if not groups:
        arrays.hyper_parameters(hyper, arrays.DTYPES[0], rule.range_of)
    elif _on_device(groups, stream):
        raise ValueError("guard is for arrays in host memory, and these are on a CUDA device: leave it out")
    else:
        parts = [_host(group) for _, group in groups]
        guard.step(rule, [(p, g, *s) for p, g, s in parts], hyper, options)


def _groups(rule: Rule, params: Any, grads: Any, states: Sequence[Any], master: Any) -> list[Any]:
    """The arrays at each place of the lists, with their names; raises where the lists differ in length."""
    columns = {"params": params, "grads": grads, **dict(zip(rule.states, states, strict=True))}
    columns["master"] = [None] * len(params) if master is None else master
    for name, column in columns.items():
        if not isinstance(column, list | tuple) or len(column) != len(params):
            said = f"has {len(column)}" if isinstance(column, list | tuple) else f"is {arrays.type_of(column)}"
            raise TypeError(
                f"params is a list of {len(params)} and {name} {said}; lists of arrays, one for each, are needed, "
                f"or one array everywhere: np.asarray(params)"
            )
    return [(arrays.numbered(tuple(columns), k), group) for k, group in enumerate(zip(*columns.values(), strict=True))]


def _on_device(groups: list[Any], stream: Any) -> bool:
    """Are all arrays on a device?  Raises where only some are, and for what has a meaning only there."""
    named = [(name, x) for names, group in groups for name, x in zip(names, group, strict=True) if x is not None]
    if arrays.any_on_device(named) and not SIMULATOR:
        return True
    if stream is not None and not SIMULATOR:
        raise ValueError("stream is for arrays on a CUDA device, and these are on the host: leave it out")
    for names, group in groups:
        if group[-1] is not None:
            raise ValueError(
                f"{names[-1]} is for parameters of half precision on a CUDA device: leave it out, or step the copy"
            )
    return False


def _host(group: tuple[Any, ...]) -> tuple[Any, Any, tuple[Any, ...]]:
    """Params, grads, states; the simulator's device arrays lie in host memory, where the CPU kernels work on them."""
    params, grads, *states = map(arrays.unsimulated, group[:-1])
    return params, grads, tuple(states)


def _gpu() -> Any:
    from .gpu import step  # imports numba.cuda

    return step
