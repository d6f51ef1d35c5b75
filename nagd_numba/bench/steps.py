"""Who makes a step of Nesterov's accelerated gradient or of Adam: ours, called in several ways, and each peer.

All work on the same arrays where they can.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

import nagd_numba

from . import timing
from .contenders import BETAS, EPS, LR, MOMENTUM, Arrays, Makers, Missing
from .frameworks import DrJitStep, OptaxStep, TorchStep, warp_step
from .memory import MOVERS, STATES, vectors
from .timing import Repeated, Seconds

PARALLEL_FROM = 40_000  # elements from which the bytes are moved by all threads
INSIDE = 10  # steps of one call of a compiled caller


def ours(arrays: Arrays) -> Callable[[], object]:
    p, g, v = arrays
    return partial(nagd_numba.step, p, g, v, LR, MOMENTUM)


class OurAdam:
    """`adam_step` with the number of the step."""

    def __init__(self, arrays: Arrays):
        self.arrays, self.t = arrays, 0

    def __call__(self):
        self.t += 1
        nagd_numba.adam_step(*self.arrays, self.t, LR, *BETAS, EPS)


def our_kernel(parallel: bool, arrays: Arrays) -> Callable[[], object]:
    """The compiled kernel alone, without `step` around it."""
    try:
        from nagd_numba.kernels.array_call import BoundCall
        from nagd_numba.kernels.forms import ALWAYS_PARALLEL, threads_may_run
        from nagd_numba.kernels.segments import Step, Table
        from nagd_numba.optimizers.registry import RULES
    except ImportError:
        raise Missing("this version of nagd_numba has its kernels elsewhere") from None
    rule = RULES["nesterov"]
    step = Step(rule, rule.defaults(), arrays[0].dtype, ALWAYS_PARALLEL if parallel else None)
    numbers = LR, MOMENTUM, MOMENTUM, 0.0
    threads_may_run()
    return partial(BoundCall(step, Table.of([arrays]), numbers, [-1] * 4, -1).call, numbers)


def our_compiled(arrays: Arrays) -> Callable[[], object]:
    """`step` inside of an `@njit` function."""
    return Repeated(partial(_many_steps(), *arrays, INSIDE), INSIDE)


def _many_steps():
    from numba import njit

    step = nagd_numba.step

    @njit
    def many(p, g, v, count):
        for _ in range(count):
            step(p, g, v, LR, MOMENTUM)

    return many


def moved(rule: str, arrays: Arrays) -> Callable[[], object]:
    """The same bytes, with one sum in place of the step: no step can be faster in memory."""
    mover = MOVERS[rule][arrays[0].size >= PARALLEL_FROM]
    return partial(mover, *vectors(arrays[0].size, arrays[0].dtype.name, len(arrays)))


class NumPyStep:
    """The step as NumPy users write it: six in-place ufuncs and one buffer."""

    def __init__(self, arrays: Arrays):
        self.arrays = arrays
        self.buffer = np.empty_like(arrays[0])
        self.lr, self.momentum = arrays[0].dtype.type(LR), arrays[0].dtype.type(MOMENTUM)

    def __call__(self):
        p, g, v = self.arrays
        t = self.buffer
        np.multiply(v, self.momentum, out=v)
        np.add(v, g, out=v)
        np.multiply(v, self.momentum, out=t)
        np.add(t, g, out=t)
        np.multiply(t, self.lr, out=t)
        np.subtract(p, t, out=p)


def numexpr_step(arrays: Arrays) -> Callable[[], object]:
    """Two expressions, in place."""
    try:
        import numexpr
    except ImportError:
        raise Missing("numexpr is not installed") from None
    p, g, v = arrays
    names = {"p": p, "g": g, "v": v, "lr": p.dtype.type(LR), "mu": p.dtype.type(MOMENTUM)}

    def call():
        numexpr.evaluate("mu*v + g", names, out=v)
        numexpr.evaluate("p - lr*(g + mu*v)", names, out=p)

    return call


OURS: Makers = {
    "ours": ours,
    "ours, inside @njit": our_compiled,
    "ours, kernel, one thread": partial(our_kernel, False),
    "ours, kernel, all threads": partial(our_kernel, True),
}
PEERS: Makers = {
    "NumPy": NumPyStep,
    "numexpr": numexpr_step,
    "torch": partial(TorchStep, "nesterov", {}),
    "torch fused": partial(TorchStep, "nesterov", {"fused": True}),
    "optax jit": partial(OptaxStep, "nesterov"),
    "Warp graph": partial(warp_step, "nesterov"),
    "Dr.Jit frozen": partial(DrJitStep, "nesterov"),
}
FOREACH: Makers = {"torch foreach": partial(TorchStep, "nesterov", {"foreach": True})}  # seldom used on a CPU
LIMIT: Makers = {"moved bytes": partial(moved, "nesterov")}
ALL: Makers = {**OURS, **PEERS, **FOREACH, **LIMIT}
ADAM: Makers = {
    "ours": OurAdam,
    "torch": partial(TorchStep, "adam", {}),
    "torch fused": partial(TorchStep, "adam", {"fused": True}),
    "optax jit": partial(OptaxStep, "adam"),
    "Warp": partial(warp_step, "adam"),
    "Dr.Jit frozen": partial(DrJitStep, "adam"),
    "moved bytes": partial(moved, "adam"),
}


def measure(
    n: int, dtype: str, makers: Makers = ALL, rounds: int = timing.ROUNDS, rule: str = "nesterov"
) -> tuple[Seconds, dict[str, str]]:
    """Seconds a step of each contender at one size, and why the others have none."""
    arrays = vectors(n, dtype, 2 + STATES[rule])
    contenders, reasons = {}, {}
    for name, make in makers.items():
        try:
            contenders[name] = make(arrays)
        except Missing as error:
            reasons[name] = str(error)
    return timing.interleaved(contenders, rounds, timing.SETTLE), reasons
