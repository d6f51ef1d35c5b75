"""Steps of the frameworks' own optimizers, of Nesterov's rule and of Adam's, each in its fastest form.

All four know the rule in the variables of `nagd_numba.step` (`b = mu b + g`, `p -= lr (g + mu b)`).  Adam is the same
in all but for Dr.Jit, which adds eps before the correction of the second moment: for gradients far from eps that is
the same step.  PyTorch and Warp step the arrays that they are given; JAX and Dr.Jit have copies of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .contenders import BETAS, EPS, LR, MOMENTUM, Arrays, Missing


class TorchStep:
    """`torch.optim.SGD(nesterov=True).step` or `torch.optim.Adam().step`, on the same memory.

    But for `foreach`, which adds the momentum to the gradient in place: it has copies, which soon are infinite.  That
    changes no time.
    """

    def __init__(self, rule: str, options: Mapping[str, bool], arrays: Arrays):
        try:
            import torch
        except ImportError:
            raise Missing("torch is not installed") from None
        optimizer: Any
        p, g, *states = (torch.from_numpy(x.copy() if options.get("foreach") else x) for x in arrays)
        parameter = torch.nn.Parameter(p)
        parameter.grad = g
        if rule == "nesterov":
            optimizer = torch.optim.SGD([parameter], LR, MOMENTUM, nesterov=True, **options)
            optimizer.state[parameter]["momentum_buffer"] = states[0]
        else:
            optimizer = torch.optim.Adam([parameter], LR, BETAS, EPS, **options)
            optimizer.state[parameter].update(step=torch.tensor(0.0), exp_avg=states[0], exp_avg_sq=states[1])
        self.params, self.step = p, optimizer.step

    def __call__(self):
        self.step()


class OptaxStep:
    """`optax.sgd` or `optax.adam` under `jax.jit`, which may write over the parameters and the state (donation)."""

    def __init__(self, rule: str, arrays: Arrays):
        try:
            import jax
            import optax
        except ImportError as error:
            raise Missing(f"{error.name} is not installed") from None
        if arrays[0].dtype == np.float64:
            jax.config.update("jax_enable_x64", True)
        if rule == "nesterov":
            optimizer = optax.sgd(LR, momentum=MOMENTUM, nesterov=True)
        else:
            optimizer = optax.adam(LR, *BETAS, EPS)

        def update(p, state, g):
            change, state = optimizer.update(g, state)
            return optax.apply_updates(p, change), state

        self.update = jax.jit(update, donate_argnums=(0, 1))
        self.params, self.grads = map(jax.numpy.array, arrays[:2])
        self.state = optimizer.init(self.params)

    def __call__(self):
        self.params, self.state = self.update(self.params, self.state, self.grads)
        self.params.block_until_ready()


def warp_step(rule: str, arrays: Arrays) -> Callable[[], object]:
    """`warp.optim.SGD(nesterov=True).step` replayed from a graph, or `warp.optim.Adam.step`.

    Warp computes on one core.  A graph holds the number of the step, on which Adam's corrections depend: Adam is called
    anew each time.
    """
    try:
        import warp
        import warp.optim
    except ImportError:
        raise Missing("warp-lang is not installed") from None
    if arrays[0].dtype != np.float32:
        raise Missing("the optimizers of Warp compute in float32")
    optimizer: Any
    warp.config.log_level = warp.LOG_WARNING  # no banner in the table
    p, g, *states = (warp.array(x, dtype=warp.float32, device="cpu", copy=False) for x in arrays)
    if rule == "nesterov":
        optimizer = warp.optim.SGD([p], LR, MOMENTUM, nesterov=True)
        optimizer.b, optimizer.t = states, 1  # at 0 the velocity that it finds does not count
        with warp.ScopedCapture(device="cpu") as capture:
            optimizer.step([g])
        graph, launch = capture.graph, warp.capture_launch
        return lambda: launch(graph)
    optimizer = warp.optim.Adam([p], LR, BETAS, EPS)
    optimizer.m, optimizer.v = states[:1], states[1:]
    grads = [g]
    return lambda: optimizer.step(grads)


class DrJitStep:
    """`drjit.opt.SGD(nesterov=True).step` or `drjit.opt.Adam.step` in a function that `drjit.freeze` records."""

    def __init__(self, rule: str, arrays: Arrays):
        try:
            import drjit
            from drjit import opt
            from drjit.llvm import ad
        except ImportError:
            raise Missing("drjit is not installed") from None
        if not drjit.has_backend(drjit.JitBackend.LLVM):
            raise Missing("Dr.Jit finds no shared library of LLVM (DRJIT_LIBLLVM_PATH)")
        kind = ad.Float if arrays[0].dtype == np.float32 else ad.Float64
        params, self.grads = {"p": kind(arrays[0])}, kind(arrays[1])
        self.optimizer: Any
        if rule == "nesterov":
            self.optimizer = opt.SGD(LR, params, momentum=MOMENTUM, nesterov=True)
        else:
            self.optimizer = opt.Adam(LR, params, beta_1=BETAS[0], beta_2=BETAS[1], epsilon=EPS)

        def step(optimizer, grads):
            drjit.set_grad(optimizer["p"], grads)
            optimizer.step()

        self.step, self.wait = drjit.freeze(step), drjit.sync_thread

    def __call__(self):
        self.step(self.optimizer, self.grads)
        self.wait()

    @property
    def params(self) -> np.ndarray:
        return self.optimizer["p"].numpy()
