"""Who trains the digits network: ours and each peer, from the same weights to the same loss.

Everybody's arrays and compiled functions are made beforehand; setting parameters and velocities back is part of every
call.  Torch is eager.  Where a peer can be run in several ways (threads, kinds of its optimizer), all are returned, by
name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import nagd_numba

from . import timing
from .contenders import Missing
from .digits import EPOCHS, LR, MOMENTUM, Case, Weights, sklearn_model, sklearn_reset, sklearn_weights, torch_model
from .timing import FEW_ROUNDS, SETTLE, Seconds

TOLERANCE = 1e-4  # relative, of the losses at the end

Train = Callable[[], Weights]  # all epochs, from the initial weights
Forms = dict[str, Train]


def train_ours(case: Case, epochs: int = EPOCHS) -> Forms:
    params = case.flat.copy()

    def train():
        params[:] = case.flat
        case.net.fit(params, case.X, case.y, epochs, case.batch, LR, MOMENTUM, shuffle=False)
        return case.views(params)

    return {"": train}


def train_jax(case: Case, epochs: int = EPOCHS) -> Forms:
    """A scan over the batches in a scan over the epochs, one donating call: faster than a call for each epoch,
    as fast with one-hot targets, and faster than unrolled or on one flat vector."""
    try:
        import jax
        import jax.numpy as jnp
    except ImportError:
        raise Missing("jax is not installed") from None
    data = jnp.asarray(case.X.reshape(case.steps, case.batch, 64)), jnp.asarray(case.y.reshape(case.steps, case.batch))

    loss = case.jax_loss()

    def step(state, batch):
        weights, vel = state
        value, grads = jax.value_and_grad(loss)(weights, *batch)
        vel = jax.tree.map(lambda v, g: MOMENTUM * v + g, vel, grads)
        weights = jax.tree.map(lambda p, g, v: p - LR * (g + MOMENTUM * v), weights, grads, vel)
        return (weights, vel), value

    def training(state, data):
        return jax.lax.scan(lambda state, _: jax.lax.scan(step, state, data), state, length=epochs)

    compiled = jax.jit(training, donate_argnums=0)

    def train():
        weights = [jnp.array(w) for w in case.weights]
        (weights, _), _ = compiled((weights, [jnp.zeros_like(w) for w in weights]), data)
        return [np.asarray(w) for w in weights]

    return {"": train}


def train_torch(case: Case, epochs: int = EPOCHS) -> Forms:
    try:
        import torch
    except ImportError:
        raise Missing("torch is not installed") from None
    batches = list(
        zip(torch.from_numpy(case.X).split(case.batch), torch.from_numpy(case.y).split(case.batch), strict=True)
    )
    model, weights = torch_model(case)
    initial = [w.detach().clone() for w in weights]

    def make(threads, options):
        def train():
            torch.set_num_threads(threads)
            with torch.no_grad():
                for w, start in zip(weights, initial, strict=True):
                    w.copy_(start)
            optimizer = torch.optim.SGD(weights, LR, MOMENTUM, nesterov=True, **options)
            for _ in range(epochs):
                for X, y in batches:
                    optimizer.zero_grad()
                    torch.nn.functional.cross_entropy(model(X), y).backward()
                    optimizer.step()
            return [w.detach().numpy().T for w in weights]

        return train

    kinds = {"single": {"foreach": False}, "foreach": {"foreach": True}, "fused": {"fused": True}}
    return {
        f"{kind}, {threads} thread{'s' * (threads > 1)}": make(threads, options)
        for threads in sorted({1, torch.get_num_threads()})
        for kind, options in kinds.items()
    }


def train_sklearn(case: Case, epochs: int = EPOCHS) -> Forms:
    model = sklearn_model(case, epochs)

    def train():
        model.fit(case.X, case.y)  # which begins with new velocities
        done = [w.copy() for w in sklearn_weights(model)]
        sklearn_reset(model, case)
        return done

    from threadpoolctl import ThreadpoolController  # which scikit-learn needs

    blas = ThreadpoolController().select(user_api="blas")

    def make(threads):
        def limited():
            with blas.limit(limits=threads):
                return train()

        return limited

    default = max((library["num_threads"] for library in blas.info()), default=1)
    return {f"{threads} BLAS thread{'s' * (threads > 1)}": make(threads) for threads in sorted({1, default})}


TRAINERS: dict[str, Callable[..., Forms]] = {
    "ours": train_ours,
    "JAX": train_jax,
    "torch": train_torch,
    "scikit-learn": train_sklearn,
}


def fastest_form(case: Case, make: Callable[..., Forms]) -> tuple[Train, str]:
    """The fastest form of a peer and its name, found out on a single epoch."""
    forms = make(case)
    if len(forms) == 1:
        way = next(iter(forms))
    else:
        seconds = timing.interleaved(make(case, 1), rounds=2, settle=SETTLE)
        way = min(seconds, key=lambda name: min(seconds[name]))
    return forms[way], way


def measure(batch: int, hidden: int) -> tuple[Seconds, dict[str, str], dict[str, Any]]:
    """Seconds for each step of training, why some have none, and what there is to tell.

    Raises `Missing` where the losses at the end differ: it would not be the same training.
    """
    case = Case(batch, hidden)
    contenders, ways, missing = {}, {}, {}
    for name, make in TRAINERS.items():
        try:
            contenders[name], ways[name] = fastest_form(case, make)
        except Missing as error:
            missing[name] = str(error)
    losses = {name: case.loss(train()) for name, train in contenders.items()}
    if not all(abs(loss - losses["ours"]) <= TOLERANCE * losses["ours"] for loss in losses.values()):
        raise Missing(f"the losses at the end differ by more than {TOLERANCE}: {losses}")
    calls = {name: timing.Repeated(train, EPOCHS * case.steps) for name, train in contenders.items()}
    seconds = timing.interleaved(calls, FEW_ROUNDS, SETTLE)
    return seconds, missing, {"ways": ways, "losses": losses, "flop": case.flop, "bytes": case.bytes}


def many_ours(case: Case, networks: int) -> tuple[Callable[[], np.ndarray], Callable[[], np.ndarray]]:
    """Networks with seeds of their own, all at once, and one after another."""
    start = np.stack([case.net.init(seed) for seed in range(networks)])
    together, alone = start.copy(), start.copy()
    rest = case.X, case.y, EPOCHS, case.batch, LR, MOMENTUM

    def fit_many():
        together[:] = start
        nagd_numba.fit_many(case.net, together, *rest, seed=range(networks))
        return together

    def one_by_one():
        alone[:] = start
        for seed, params in enumerate(alone):
            case.net.fit(params, *rest, seed=seed)
        return alone

    return fit_many, one_by_one
