"""The ratios that the project promises, to which `benchmarks/gate.py` holds it.

`docs/explanation/performance.md` shows them in brackets.

They are below what was measured, by as much as a shared machine takes away in a bad minute; those that the number of
cores decides say for how many they are meant, and are judged only there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


def described(case: Mapping[str, Any]) -> str:
    """A case in words."""
    return ", ".join(f"{name} {value:,}" if isinstance(value, int) else value for name, value in case.items())


@dataclass(frozen=True)
class Promise:
    """In the case of a section, `against` takes at least `ratio` times as long as ours."""

    section: str
    case: Mapping[str, Any]
    against: str
    ratio: float
    cores: int | None = None  # None: one thread, or as many as there are, all the same

    def __str__(self) -> str:
        where = f" on {self.cores} cores" if self.cores is not None else ""
        return f"{self.section}, {described(self.case)}, against {self.against}{where}: at least {self.ratio:g}"


def _step(n: int, cores: int | None, **ratios: float) -> list[Promise]:
    case = {"n": n, "dtype": "float32"}
    return [Promise("step", case, name.replace("_", " "), ratio, cores) for name, ratio in ratios.items()]


def _training(batch: int, hidden: int, cores: int | None, jax: float, torch: float, sklearn: float) -> list[Promise]:
    case = {"batch": batch, "hidden": hidden}
    ratios = {"JAX": jax, "torch": torch, "scikit-learn": sklearn}
    return [Promise("training", case, name, ratio, cores) for name, ratio in ratios.items()]


PROMISES = (
    *_step(10, None, NumPy=1.5, torch_fused=8, optax_jit=4),
    *_step(1_000, None, NumPy=1.5, torch_fused=8, optax_jit=4),
    *_step(10_000, None, NumPy=2, torch_fused=4, moved_bytes=0.4),
    *_step(100_000, 2, NumPy=3, torch_fused=1.5, moved_bytes=0.4),
    *_step(1_000_000, 2, NumPy=3.5, torch_fused=1.1, moved_bytes=0.75),
    *_step(10_000_000, 2, NumPy=4, torch_fused=1.0, moved_bytes=0.75),
    *_training(32, 32, None, jax=1.4, torch=16, sklearn=9),
    *_training(32, 128, None, jax=1.1, torch=6.5, sklearn=4.5),
    *_training(256, 128, 2, jax=1.2, torch=2.2, sklearn=2.0),
    *_training(256, 1024, 2, jax=0.85, torch=1.5, sklearn=2.5),
    Promise("networks", {"batch": 32, "hidden": 32, "networks": 16}, "one by one", 1.4, 2),
    Promise("networks", {"batch": 32, "hidden": 128, "networks": 16}, "one by one", 1.4, 2),
    Promise("prediction", {"rows": 1}, "torch", 2.5),
    Promise("prediction", {"rows": 1}, "scikit-learn", 15),
    Promise("prediction", {"rows": 10_000}, "NumPy", 0.6, 2),
)


def promised(section: str, case: Mapping[str, Any]) -> dict[str, Promise]:
    """What is promised of a case, by the contender."""
    return {
        promise.against: promise for promise in PROMISES if promise.section == section and promise.case == dict(case)
    }
