"""Our optimizers as `OptimizerInfo`s, which PyTorch's own tests of optimizers take: what it tests its classes with."""

import inspect

import hypothesis

from nagd_numba.adapters import torch as ours

own_profile = hypothesis.settings.default
from torch.testing._internal import common_optimizers as common  # noqa: E402  (which loads a profile of PyTorch's)

hypothesis.settings.register_profile("own", own_profile)
hypothesis.settings.load_profile("own")
OptimizerErrorEnum = common.OptimizerErrorEnum

# Inputs of PyTorch's tests that every class refuses itself: what ours say instead.
MESSAGES = {
    "Tensor lr must be 1-element": "lr is a tensor of 2 elements; a number is needed",
    "Invalid beta parameter at index 0: 1.0": "beta1 is 1.0; a finite number >= {low} and < 1 is needed",
    "Invalid beta parameter at index 1: 1.0": "beta2 is 1.0; a finite number >= 0 and < 1 is needed",
    "Invalid weight_decay value: -1": "weight_decay is -1.*; a finite number >= 0 is needed",
    "Invalid momentum value: -0.5": "momentum is -0.5; a finite number >= 0 is needed",
    "Invalid lr_decay value: -0.5": "lr_decay is -0.5; a finite number >= 0 is needed",
}

# Classes whose own default learning rate is for other problems than PyTorch's, and what they take of its class instead.
# Schedule-free SGD has 1, as the package: too large here, with a scheduler or without.  The largest curvature of the
# loss is L = 2 (1 + |x|^2) = 35; gradient descent diverges at rates above 2/L = 0.06, and late schedule-free steps,
# which move the parameters by `(1 - momentum) lr` times the gradient, at rates above 2/((1 - momentum) L) = 0.57.
UNSTABLE = ("SGDScheduleFree",)


def info_of(cls):
    """The info of PyTorch's class of the same rule (Lion's: of Adam), with ours in its place."""
    peer = cls.form.peer or "Adam"
    theirs = next(x for x in common.optim_db if x.optim_cls.__name__ == peer)
    options = inspect.signature(cls).parameters
    low = cls.form.optimizer.rule.range_of("beta1").low

    def inputs(device, dtype=None):
        made = theirs.optim_inputs_func(device=device)
        made = [x for x in made if options_of(x) <= set(options)]
        for x in made:
            if cls.__name__ in UNSTABLE:
                x.kwargs.setdefault("lr", inspect.signature(theirs.optim_cls).parameters["lr"].default)
        return made

    def errors(device, dtype):
        made = theirs.optim_error_inputs_func(device, dtype)
        made = [x for x in made if options_of(x.optimizer_error_input) <= set(options)]
        made = [x for x in made if "both floats or both Tensors" not in x.error_regex]  # ours takes either
        for x in made:
            x.error_regex = MESSAGES.get(x.error_regex, x.error_regex).replace("{low}", f"{low:g}")
        return made

    return common.OptimizerInfo(
        cls,
        optim_inputs_func=inputs,
        optim_error_inputs_func=errors,
        scheduler_inputs=theirs.scheduler_inputs,
        supported_impls=(),
        not_og_supported_flags=("maximize",),
    )


def options_of(x):
    return {name for name, value in x.kwargs.items() if value is not False}


INFOS = [info_of(getattr(ours, name)) for name in sorted(x for x in ours.__all__ if x != "Fused")]
