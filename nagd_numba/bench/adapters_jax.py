"""Who makes a step inside a program of JAX: the adapter's step, its transformation, and optax's.

Two programs: a call of `jax.jit` for each step, with the gradient as an argument, and a `lax.scan` over many steps,
which computes a gradient (`p - g`) in each.  Parameters and states are donated in both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import timing
from .contenders import LR, MOMENTUM, Missing
from .memory import vectors
from .timing import Seconds

FORMS = ("jit", "scan")
MOST_STEPS = 1_000  # of a scan
ELEMENTS = 100_000_000  # of all steps of a scan together

PROGRAMS = {f"{n:,} in {form}": (form, n) for form in FORMS for n in (1_000, 100_000, 10_000_000)}
CASES = [
    {"framework": "JAX", "rule": "NAG", "parameters": parameters}
    for parameters in (list(PROGRAMS)[:1] if timing.QUICK else PROGRAMS)
]

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


def measure(case: dict[str, Any], rounds: int) -> Seconds:
    """Seconds a step of each contender, in a program of JAX; raises `Missing` without JAX and optax."""
    try:
        import jax  # noqa: F401
        import optax  # noqa: F401
    except ImportError as error:
        raise Missing(f"{error.name} is not installed") from None
    form, n = PROGRAMS[case["parameters"]]
    arrays = vectors(n, "float32")
    return timing.interleaved({name: Program(form, arrays, *make()) for name, make in CONTENDERS.items()}, rounds)
