"""Who makes a step of Nesterov's accelerated gradient: ours, called in several ways, and each peer.

All work on the same arrays where they can; those of JAX are its own, since it takes them away (donation).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

import nagd_numba

from . import timing
from .memory import move_parallel, move_serial, vectors
from .timing import Repeated, Seconds

LR, MOMENTUM = 0.01, 0.9
PARALLEL_FROM = 40_000  # elements from which the bytes are moved by all threads
INSIDE = 10  # steps of one call of a compiled caller

Arrays = Sequence[np.ndarray]  # params, grads, vel
Makers = Mapping[str, Callable[[Arrays], Callable[[], object]]]


class Missing(Exception):
    """A contender cannot run here; the message says why."""


def ours(arrays: Arrays) -> Callable[[], object]:
    p, g, v = arrays
    return partial(nagd_numba.step, p, g, v, LR, MOMENTUM)


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


def moved(arrays: Arrays) -> Callable[[], object]:
    """The same bytes, with one sum in place of the step: no step can be faster in memory."""
    mover = move_parallel if arrays[0].size >= PARALLEL_FROM else move_serial
    return partial(mover, *vectors(arrays[0].size, arrays[0].dtype.name))


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


class TorchStep:
    """`torch.optim.SGD(nesterov=True).step`, on the same memory.

    But for `foreach`, which adds the momentum to the gradient in place: it has copies, which soon are infinite.  That
    changes no time.
    """

    def __init__(self, options: Mapping[str, bool], arrays: Arrays):
        try:
            import torch
        except ImportError:
            raise Missing("torch is not installed") from None
        p, g, v = (torch.from_numpy(x.copy() if options.get("foreach") else x) for x in arrays)
        parameter = torch.nn.Parameter(p)
        parameter.grad = g
        optimizer = torch.optim.SGD([parameter], LR, MOMENTUM, nesterov=True, **options)
        optimizer.state[parameter]["momentum_buffer"] = v
        self.params, self.step = p, optimizer.step

    def __call__(self):
        self.step()


class OptaxStep:
    """`optax.sgd` under `jax.jit`, which may write over the parameters and the state (donation)."""

    def __init__(self, arrays: Arrays):
        try:
            import jax
            import optax
        except ImportError as error:
            raise Missing(f"{error.name} is not installed") from None
        if arrays[0].dtype == np.float64:
            jax.config.update("jax_enable_x64", True)
        optimizer = optax.sgd(LR, momentum=MOMENTUM, nesterov=True)

        def update(p, state, g):
            change, state = optimizer.update(g, state)
            return optax.apply_updates(p, change), state

        self.update = jax.jit(update, donate_argnums=(0, 1))
        self.params, self.grads = map(jax.numpy.array, arrays[:2])
        self.state = optimizer.init(self.params)

    def __call__(self):
        self.params, self.state = self.update(self.params, self.state, self.grads)
        self.params.block_until_ready()


OURS: Makers = {
    "ours": ours,
    "ours, inside @njit": our_compiled,
    "ours, kernel, one thread": partial(our_kernel, False),
    "ours, kernel, all threads": partial(our_kernel, True),
}
PEERS: Makers = {
    "NumPy": NumPyStep,
    "numexpr": numexpr_step,
    "torch": partial(TorchStep, {"foreach": False}),
    "torch foreach": partial(TorchStep, {"foreach": True}),
    "torch fused": partial(TorchStep, {"fused": True}),
    "optax jit": OptaxStep,
}
LIMIT: Makers = {"moved bytes": moved}
ALL: Makers = {**OURS, **PEERS, **LIMIT}


def measure(n: int, dtype: str, makers: Makers = ALL, rounds: int = timing.ROUNDS) -> tuple[Seconds, dict[str, str]]:
    """Seconds a step of each contender at one size, and why the others have none."""
    arrays = vectors(n, dtype)
    contenders, reasons = {}, {}
    for name, make in makers.items():
        try:
            contenders[name] = make(arrays)
        except Missing as error:
            reasons[name] = str(error)
    return timing.interleaved(contenders, rounds), reasons


def best_peer(seconds: Seconds) -> str | None:
    """The peer with the shortest median."""
    there = [name for name in PEERS if name in seconds]
    return min(there, key=lambda name: np.median(seconds[name])) if there else None
