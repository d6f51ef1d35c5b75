"""A step of the optimizers for PyTorch beside those of `torch.optim`, on the parameters of whole networks.

Everything about the gradients is looked at anew in each step by all of them, so that they stay where they are changes
no time.  (`foreach` adds the momentum to them in place, and they soon are infinite, which changes none either.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from . import timing
from .contenders import LR, MOMENTUM, Missing
from .timing import Seconds

Shapes = list[tuple[int, ...]]


def perceptron() -> Shapes:
    """64-64-32-10, for the digits."""
    return [(64, 64), (64,), (32, 64), (32,), (10, 32), (10,)]


def resnet18() -> Shapes:
    """The 11.7 million parameters of a ResNet-18."""
    return [(64, 3, 7, 7), (64,), (64,), *_blocks(), (1000, 512), (1000,)]


def _blocks() -> Iterator[tuple[int, ...]]:
    before = 64
    for width in (64, 128, 256, 512):
        for _ in range(2):
            yield from [(width, before, 3, 3), (width,), (width,), (width, width, 3, 3), (width,), (width,)]
            if before != width:
                yield from [(width, before, 1, 1), (width,), (width,)]
            before = width


def vectors() -> Shapes:
    """A thousand of a hundred elements."""
    return [(100,)] * 1000


PARAMETERS: dict[str, Callable[[], Shapes]] = {
    "perceptron 64-64-32-10": perceptron,
    "ResNet-18": resnet18,
    "1,000 of 100": vectors,
}
RULES = ("NAG", "Adam")
CASES = [
    {"framework": "PyTorch", "rule": rule, "parameters": parameters}
    for parameters in (list(PARAMETERS)[:1] if timing.QUICK else PARAMETERS)
    for rule in RULES
]


def measure(case: dict[str, Any], rounds: int) -> Seconds:
    """Seconds of a step of ours, and of PyTorch's class of the same rule in its two fast forms."""
    try:
        import torch

        from nagd_numba.adapters import torch as ours
    except ImportError as error:
        raise Missing(str(error)) from None
    shapes = PARAMETERS[case["parameters"]]()
    makers = {
        "NAG": (lambda p: ours.NAG(p, LR, MOMENTUM), lambda p, **form: torch.optim.SGD(p, LR, MOMENTUM, **form)),
        "Adam": (lambda p: ours.Adam(p, LR), lambda p, **form: torch.optim.Adam(p, LR, **form)),
    }
    mine, theirs = makers[case["rule"]]
    more = {"nesterov": True} if case["rule"] == "NAG" else {}
    contenders: dict[str, Callable[[], object]] = {
        "ours": mine(_parameters(torch, shapes)).step,
        "torch fused": theirs(_parameters(torch, shapes), fused=True, **more).step,
        "torch foreach": theirs(_parameters(torch, shapes), foreach=True, **more).step,
    }
    return timing.interleaved(contenders, rounds)


def _parameters(torch: Any, shapes: Shapes) -> list[Any]:
    params = [torch.nn.Parameter(torch.ones(shape)) for shape in shapes]
    for p in params:
        p.grad = torch.full_like(p, 1e-3)
    return params
