"""AdamW: Adam whose weight decay shrinks the parameters and does not pass through the averages.

    p <- (1 - lr w) p                       the weight decay w
    m, v, p as in Adam (`rules/adam.py`) without its penalty

Roundings are pinned to those of `torch.optim.AdamW`, as they are in Adam to those of `torch.optim.Adam`.

Reference: I. Loshchilov and F. Hutter, ICLR 2019, arXiv:1711.05101.
"""

from __future__ import annotations

from ..compile import inlined
from ..rounding import mul
from .adam import RANGES, corrections, descend, moments
from .base import Rule


@inlined
def adamw_update(p, g, m, v, constants):
    """One element of AdamW: returns the new `(p, m, v)`.

        p = (1 - lr w) p;    m = beta1 m + (1 - beta1) g;    v = beta2 v + (1 - beta2) g^2
        p = p - lr/(1 - beta1^t) m / (sqrt(v)/sqrt(1 - beta2^t) + eps)

    For use as `adam_update`; `constants` is what `adamw_constants` makes of the hyper-parameters, once a step.
    """
    step_size, weight, beta2, square_weight, correction, eps, shrink = constants
    m, v = moments(g, m, v, weight, beta2, square_weight)
    return descend(mul(shrink, p), m, v, step_size, correction, eps), m, v


@inlined
def _constants(hyper, T, options):
    lr, beta1, beta2, eps, weight_decay, t = hyper
    step_size, correction = corrections(lr, beta1, beta2, t)
    shrink = 1.0 - lr * weight_decay
    return T(step_size), T(1.0 - beta1), T(beta2), T(1.0 - beta2), T(correction), T(eps), T(shrink)


@inlined
def _update(p, g, state, constants, options):
    (maximize,) = options
    m, v = state
    p, m, v = adamw_update(p, -g if maximize else g, m, v, constants)
    return p, (m, v)


RULE = Rule(
    name="adamw",
    update=_update,
    constants=_constants,
    states=("m", "v"),
    hyper={"lr": 0.001, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.01, "t": 1.0},
    options={"maximize": (False, True)},
    ranges=RANGES,
)
