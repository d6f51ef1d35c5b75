"""The CUDA kernels whose machine code is looked at: of each kind some, and the architectures on which."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from nagd_numba.gpu import elementwise, exchange, guard_kernels, guard_scale, hyper_kernels, row_kernels, stored_kernel
from nagd_numba.gpu.compiler import Kernel
from nagd_numba.kernels.composed import ARRAY, L1, NUMBER, SCALED_L1, Parts, composed
from nagd_numba.kernels.rule import Rule
from nagd_numba.kernels.stored_loops import COMPENSATED, RANDOM
from nagd_numba.mlp.gpu import finite, gemm, losses, persistent, reductions, split
from nagd_numba.mlp.gpu.gemm import Kind
from nagd_numba.optimizers.registry import RULES
from tests.ptx.machine_code import Capability

OLDEST: Capability = (7, 5)  # compiled for, not in the tables
CAPABILITIES: tuple[Capability, ...] = ((8, 0), (9, 0), (10, 0), (12, 0))  # in the tables
ONE: tuple[Capability, ...] = ((9, 0),)

# The dtypes of parameters in memory, and whether there is a master copy.
STORED = {
    "float32": (False,),
    "float64": (False,),
    "float16": (False, True),
    "bfloat16": (False, True),
}
# Of the rules but Nesterov's: with a master copy or not, for lists or not.
FEW = {
    "float32": ((False, False), (False, True)),
    "float64": ((False, False),),
    "bfloat16": ((True, True),),
}


class Entry(NamedTuple):
    """A kernel of the table; it is made when it is called for."""

    name: str
    make: Callable[[], Kernel]
    capabilities: tuple[Capability, ...]


def short_name(kernel: Kernel) -> str:
    """Without the digest of the sources."""
    return kernel.name.rpartition("_")[0]


class StepKind(NamedTuple):
    """Which of a rule's kernels for arrays of one dtype, and the architectures that it is looked at on."""

    options: tuple
    master: bool
    lists: bool
    capabilities: tuple[Capability, ...]


def step_kinds(rule: Rule, storage: str) -> list[StepKind]:
    """Of Nesterov's rule everything; of the others, whose kernels differ in the rule alone, a few on one architecture.

    In float32 with each other value of the first option too.
    """
    options = rule.defaults()
    if rule.name == "nesterov":
        found = [StepKind(options, m, lists, CAPABILITIES) for m in STORED[storage] for lists in (False, True)]
    else:
        found = [StepKind(options, m, lists, ONE) for m, lists in FEW.get(storage, ())]
    if storage == "float32":
        others = next(iter(rule.options.values()))[1:]
        found += [StepKind((value, *options[1:]), False, False, ONE) for value in others]
    return found


def step_entries(rule: Rule, storage: str) -> Iterator[Entry]:
    """The kernels of `step_kinds`."""
    for options, master, lists, capabilities in step_kinds(rule, storage):
        yield _step_entry(rule, options, storage, master, lists, capabilities)


def default_step(rule: Rule, storage: str) -> Entry:
    return _step_entry(rule, rule.defaults(), storage, False, False)


def _step_entry(
    rule: Rule,
    options: tuple,
    storage: str,
    master: bool,
    lists: bool,
    capabilities: tuple[Capability, ...] = CAPABILITIES,
) -> Entry:
    make = functools.partial(elementwise.kernel, rule, options, storage, master, lists)
    return Entry(short_name(make()), make, capabilities)


def network_entries() -> Iterator[Entry]:
    """The network's kernels, each with some of its options; on every architecture the hot ones."""
    rule = RULES["nesterov"]
    default: dict[str, Any] = {"rule": rule, "options": rule.defaults()}

    def product(purpose: str, tile: int, *kind: Any, everywhere: bool = False, **named: Any) -> Entry:
        made = Kind(*kind, **named)
        return _entry(gemm.kernel, purpose, made, tile, everywhere=everywhere)

    yield product("hidden", 64, "float32", "relu", everywhere=True)
    yield product("hidden", 32, "float32", "tanh", True, "float32", everywhere=True)
    yield product("hidden", 64, "float32", "sigmoid", False, "uint8")
    yield product("hidden", 32, "float32", "identity", True, "float64")
    yield product("hidden", 64, "float64", "tanh", True)
    yield product("hidden", 32, "float64", "relu", False, "uint8")
    yield product("output", 64, "float32")
    yield product("output", 32, "float64", source="float64")
    yield product("delta", 64, "float32", "relu", everywhere=True)
    yield product("delta", 32, "float32", "tanh", True)
    yield product("delta", 32, "float64", "sigmoid", True)
    yield product("delta", 64, "float64", "identity")
    yield product("gradient", 64, "float32")
    yield product("gradient", 32, "float32", source="uint8")
    yield product("gradient", 64, "float64")
    yield product("update", 64, "float32", **default, everywhere=True)
    yield product("update", 32, "float32", source="uint8", **default)
    yield product("update", 32, "float64", **default)

    yield product("hidden", 64, "float32", "relu", tf32=True)
    yield product("hidden", 32, "float32", "tanh", True, "uint8", tf32=True)
    yield product("output", 64, "float32", tf32=True, everywhere=True)
    yield product("delta", 32, "float32", "relu", tf32=True, everywhere=True)
    yield product("gradient", 64, "float32", tf32=True)
    yield product("update", 64, "float32", tf32=True, **default, everywhere=True)

    yield _entry(gemm.part_kernel, "hidden", Kind("float32"), 32, everywhere=True)
    yield _entry(gemm.part_kernel, "gradient", Kind("float32", source="uint8"), 64)
    yield _entry(gemm.part_kernel, "delta", Kind("float64"), 32)
    yield _entry(split.sum_kernel, "hidden", Kind("float32", "relu", True))
    yield _entry(split.sum_kernel, "gradient", Kind("float64"))
    yield _entry(split.sum_kernel, "update", Kind("float32", **default))

    yield _entry(split.sum_kernel, "hidden", Kind("float32", "relu"))
    yield _entry(split.sum_kernel, "update", Kind("float64", **default))

    for at, loss in enumerate(("cross_entropy", "mse", "binary_cross_entropy", "soft_cross_entropy")):
        yield _entry(losses.losses_kernel, "float32", loss, False, at == 1, everywhere=at == 0)
        yield _entry(losses.losses_kernel, "float64", loss, True, at != 1)
    yield _entry(losses.targets_kernel, "float32", "int64", losses.LABELS)
    yield _entry(losses.targets_kernel, "float32", "int32", losses.ONE_HOT)
    yield _entry(losses.targets_kernel, "float64", "bool", losses.BINARY)
    yield _entry(losses.targets_kernel, "float64", "float64", losses.REAL)
    yield _entry(losses.targets_kernel, "float32", "float32", losses.PROBABILITIES)
    for dtype in ("float32", "float64"):
        for flag in (False, True):
            yield _entry(losses.probabilities_kernel, dtype, flag)
            yield _entry(losses.classes_kernel, dtype, flag)
            yield _entry(reductions.squares_kernel, dtype, flag)
            yield _entry(reductions.apply_kernel, dtype, rule, rule.defaults(), flag)

    kinds = "float32", "float32", "relu", "cross_entropy", False, False, False
    yield _entry(persistent.kernel, *kinds, rule, rule.defaults(), everywhere=True)
    kinds = "float64", "uint8", "tanh", "mse", True, True, True
    yield _entry(persistent.kernel, *kinds, rule, rule.defaults())


MASK = Parts(mask="bytes")
BOUNDS = Parts(lower=NUMBER, upper=NUMBER)
RATES = Parts(rates=("lr",))
EVERYTHING = Parts(ARRAY, ARRAY, L1, average=True, rates=("lr", "weight_decay"), mask="bytes")


def composed_entries() -> Iterator[Entry]:
    """The kernels of rules with masks, bounds, averages and rates for elements: each alone, and all of it."""
    for name, parts, storage, lists in (
        ("nesterov", MASK, "float32", False),
        ("nesterov", MASK, "bfloat16", True),
        ("nesterov", BOUNDS, "float32", False),
        ("nesterov", RATES, "float32", False),
        ("nesterov", Parts(average=True), "float32", False),
        ("nesterov", EVERYTHING, "float32", False),
        ("nesterov", EVERYTHING, "float64", True),
        ("adam", replace(EVERYTHING, prox=SCALED_L1), "float32", False),
    ):
        rule = composed(RULES[name], parts)
        yield _entry(
            elementwise.kernel, rule, rule.defaults(), storage, False, lists, everywhere=parts in (MASK, RATES)
        )
    yield _entry(exchange.kernel)


def other_entries() -> Iterator[Entry]:
    """The kernels of steps with a guard, of hyper-parameters in the device's memory, of rows, and of small storage."""
    nesterov, adam = RULES["nesterov"], RULES["adam"]
    for storage in ("float32", "bfloat16"):
        yield _entry(guard_kernels.sums_kernel, storage, 1)
    for before in (True, False):
        yield _entry(guard_kernels.judge_kernel, "float32", 1, before)
    yield _entry(guard_kernels.step_kernel, nesterov, nesterov.defaults(), "float32", False, False)
    yield _entry(guard_kernels.step_kernel, nesterov, nesterov.defaults(), "bfloat16", True, True)
    yield _entry(guard_scale.scale_kernel, "float32")
    yield _entry(hyper_kernels.prepare_kernel, adam, adam.defaults(), "float32")
    yield _entry(finite.counts_kernel, "float32")
    yield _entry(row_kernels.look_kernel)
    yield _entry(row_kernels.note_kernel)
    for exact in ("float32", "float64"):
        yield _entry(row_kernels.step_kernel, nesterov, nesterov.defaults(), exact)
        yield _entry(row_kernels.finish_kernel, exact)
    yield _entry(stored_kernel.kernel, nesterov, nesterov.defaults(), RANDOM, "bfloat16", ("int8",))
    yield _entry(stored_kernel.kernel, nesterov, nesterov.defaults(), COMPENSATED, "float16", ("float32",))
    yield _entry(stored_kernel.kernel, adam, adam.defaults(), RANDOM, "bfloat16", ("int8", "uint8"))


def _entry(make: Callable[..., Kernel], *arguments: object, everywhere: bool = False) -> Entry:
    made = functools.partial(make, *arguments)
    return Entry(short_name(made()), made, CAPABILITIES if everywhere else ONE)


def entries() -> Iterator[Entry]:
    """Everything that is in the table."""
    for rule in RULES.values():
        for storage in STORED:
            yield from step_entries(rule, storage)
    yield from network_entries()
    yield from composed_entries()
    yield from other_entries()
