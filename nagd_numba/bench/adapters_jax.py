"""Who makes a step inside a program of JAX: the adapter's step, its transformation, and optax's.

Two programs: a call of `jax.jit` for each step, with the gradient as an argument, and a `lax.scan` over many steps,
which computes a gradient (`p - g`) in each.  Parameters and states are donated in both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import timing
from .memory import vectors
from .steps import LR, MOMENTUM, Missing
from .timing import Seconds

FORMS = ("jit", "scan")
MOST_STEPS = 1_000  # of a scan
ELEMENTS = 100_000_000  # of all steps of a scan together

Update = Callable[[Any, Any, Any], tuple[Any, Any]]  # params, state, gradient -> params, state


def step() -> tuple[Callable[[Any], Any], Update]:
    """`nagd_numba.adapters.optax.step`: how the state begins, and the update."""
    import jax.numpy as jnp

    from ..adapters import optax as adapter

    return jnp.zeros_like, lambda p, vel, g: adapter.step(p, g, vel, LR, MOMENTUM)


def transformation(make: Callable[[], Any]) -> tuple[Callable[[Any], Any], Update]:
    """The same of a `GradientTransformation`, with `optax.apply_updates`."""
    import optax

    made = make()

    def update(p: Any, state: Any, g: Any) -> tuple[Any, Any]:
        change, state = made.update(g, state, p)
        return optax.apply_updates(p, change), state

    return made.init, update


def _nag() -> Any:
    from ..adapters import optax as adapter

    return adapter.nag(LR, momentum=MOMENTUM)


def _sgd() -> Any:
    import optax

    return optax.sgd(LR, momentum=MOMENTUM, nesterov=True)


CONTENDERS: dict[str, Callable[[], tuple[Callable[[Any], Any], Update]]] = {
    "ours": step,
    "ours, transformation": lambda: transformation(_nag),
    "optax": lambda: transformation(_sgd),
}


class Program:
    """A compiled program on arrays of its own; `steps` of them in a call."""

    def __init__(self, form: str, arrays: Sequence[np.ndarray], init: Callable[[Any], Any], update: Update) -> None:
        import jax

        self.steps = 1 if form == "jit" else max(1, min(MOST_STEPS, ELEMENTS // arrays[0].size))

        def many(p: Any, state: Any, g: Any) -> tuple[Any, Any]:
            def body(carry: Any, _: None) -> tuple[Any, None]:
                return update(carry[0], carry[1], carry[0] - g), None

            return jax.lax.scan(body, (p, state), None, self.steps)[0]

        self.program = jax.jit(update if form == "jit" else many, donate_argnums=(0, 1))
        self.params, self.grads = map(jax.numpy.array, arrays[:2])
        self.state = init(self.params)

    def __call__(self) -> None:
        self.params, self.state = self.program(self.params, self.state, self.grads)
        self.params.block_until_ready()


def measure(form: str, n: int, dtype: str = "float32", rounds: int = timing.ROUNDS) -> Seconds:
    """Seconds a step of each contender, in a program of this form; raises `Missing` without JAX and optax."""
    try:
        import jax
        import optax  # noqa: F401
    except ImportError as error:
        raise Missing(f"{error.name} is not installed") from None
    if dtype == "float64":
        jax.config.update("jax_enable_x64", True)
    arrays = vectors(n, dtype)
    return timing.interleaved({name: Program(form, arrays, *make()) for name, make in CONTENDERS.items()}, rounds)


if __name__ == "__main__":
    for form in FORMS:
        for n in (1_000, 100_000, 10_000_000):
            seconds = measure(form, n, rounds=timing.FEW_ROUNDS)
            ratios = {name: round(timing.ratio(seconds, name, "ours"), 2) for name in seconds if name != "ours"}
            print(f"{form}, n = {n:,}: ours {np.median(seconds['ours']) * 1e6:.2f} us; times as long: {ratios}")
