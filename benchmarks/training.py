"""`python -m benchmarks.training [BATCHxHIDDEN ...]`: a small network against its peers.

Training: 20 epochs over the digits, a 64-hidden-10 network in float32 with Nesterov's method at one rate, from the same
weights, with the same batches in the same order.  Losses at the end that disagree are an error.  Everybody's arrays and
compiled functions are made beforehand; setting parameters and velocities back is part of every call.  Torch is eager.
Where a peer can be run in several ways (threads, kinds of its optimizer), all are tried and the fastest is what counts.

Above 1 in a column: ours is that many times faster.  In brackets: what we aim at.  `others` is the number of cores that
other processes kept busy meanwhile: kernels with a thread for each core suffer most, and figures far from 0 mislead.
"""

import argparse
import importlib.metadata
import os
import platform
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numba
import numpy as np
from rich.console import Console
from rich.table import Table
from threadpoolctl import ThreadpoolController

import nagd_numba
from nagd_numba.data import load_digits

from .common import interleaved, ratio

EPOCHS, LR, MOMENTUM = 20, 0.05, 0.9
PEERS = ("JAX", "torch", "scikit-learn")
CASES = {  # (batch, hidden): the ratios to reach, in the order of PEERS
    (32, 32): (2.0, 20.0, 15.0),
    (32, 128): (1.8, 12.0, 10.0),
    (256, 128): (1.8, 4.0, 4.0),
    (256, 1024): (1.0, 1.1, 2.0),
}
TOLERANCE = 1e-4  # relative, of the losses at the end
ROUNDS = 7
SETTLE = 0.05  # OpenBLAS's threads spin for some 30 ms after their last product
PREDICT_US, FORWARD_RATIO = 6, 1
ENSEMBLES = ((32, 32, 16), (32, 128, 16))  # batch, hidden, networks
ENSEMBLE_RATIO = 1.8  # on two cores

Weights = list[np.ndarray]  # W1, b1, W2, b2
Train = Callable[[], Weights]  # all epochs, from the initial weights


@dataclass
class Case:
    """One network and its data, cut to whole batches: peers differ in how they treat a smaller last one."""

    batch: int
    hidden: int

    def __post_init__(self):
        digits = load_digits()
        count = len(digits.X) // self.batch * self.batch
        rows = np.random.default_rng(0).permutation(len(digits.X))[:count]
        self.X, self.y = (digits.X[rows] / 16).astype(np.float32), digits.y[rows]
        self.steps = count // self.batch
        self.net = nagd_numba.MLP([64, self.hidden, 10])
        self.flat = self.net.init(0)
        self.weights = self.views(self.flat)

    def views(self, params: np.ndarray) -> Weights:
        named = self.net.unflatten(params)
        return [named[name] for name in ("W1", "b1", "W2", "b2")]

    def loss(self, weights: Weights) -> float:
        """The mean over all rows, in float64: the same judge for everybody."""
        W1, b1, W2, b2 = (np.asarray(w, np.float64) for w in weights)
        z = np.maximum(self.X @ W1 + b1, 0) @ W2 + b2
        z -= z.max(axis=1, keepdims=True)
        return float(np.mean(np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(z)), self.y]))


def train_ours(case: Case) -> Train:
    params = case.flat.copy()

    def train():
        params[:] = case.flat
        case.net.fit(params, case.X, case.y, EPOCHS, case.batch, LR, MOMENTUM, shuffle=False)
        return case.views(params)

    return train


def train_jax(case: Case) -> dict[str, Train]:
    """A scan over the batches in a scan over the epochs, one donating call: faster than a call for each epoch,
    as fast with one-hot targets, and faster than unrolled or on one flat vector."""
    try:
        import jax
        import jax.numpy as jnp
    except ImportError:
        return {}
    data = jnp.asarray(case.X.reshape(case.steps, case.batch, 64)), jnp.asarray(case.y.reshape(case.steps, case.batch))

    def loss(weights, X, y):
        W1, b1, W2, b2 = weights
        z = jax.nn.relu(X @ W1 + b1) @ W2 + b2
        return -jnp.take_along_axis(jax.nn.log_softmax(z), y[:, None], axis=1).mean()

    def step(state, batch):
        weights, vel = state
        value, grads = jax.value_and_grad(loss)(weights, *batch)
        vel = jax.tree.map(lambda v, g: MOMENTUM * v + g, vel, grads)
        weights = jax.tree.map(lambda p, g, v: p - LR * (g + MOMENTUM * v), weights, grads, vel)
        return (weights, vel), value

    def epochs(state, data):
        return jax.lax.scan(lambda state, _: jax.lax.scan(step, state, data), state, length=EPOCHS)

    compiled = jax.jit(epochs, donate_argnums=0)

    def train():
        weights = [jnp.array(w) for w in case.weights]
        (weights, _), _ = compiled((weights, [jnp.zeros_like(w) for w in weights]), data)
        return [np.asarray(w) for w in weights]

    return {"": train}


def train_torch(case: Case) -> dict[str, Train]:
    try:
        import torch
    except ImportError:
        return {}
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
            for _ in range(EPOCHS):
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


def torch_model(case: Case):
    """The network with the initial weights, and its parameters in the order of `Weights`."""
    import torch

    model = torch.nn.Sequential(torch.nn.Linear(64, case.hidden), torch.nn.ReLU(), torch.nn.Linear(case.hidden, 10))
    weights = list(model.parameters())
    with torch.no_grad():
        for w, start in zip(weights, case.weights, strict=True):
            w.copy_(torch.from_numpy(start.T.copy()))
    return model, weights


def train_sklearn(case: Case) -> dict[str, Train]:
    model = sklearn_model(case, EPOCHS)
    if model is None:
        return {}

    def train():
        model.fit(case.X, case.y)  # which begins with new velocities
        done = [w.copy() for w in sklearn_weights(model)]
        sklearn_reset(model, case)
        return done

    blas = ThreadpoolController().select(user_api="blas")

    def make(threads):
        def limited():
            with blas.limit(limits=threads):
                return train()

        return limited

    default = max((library["num_threads"] for library in blas.info()), default=1)
    return {f"{threads} BLAS thread{'s' * (threads > 1)}": make(threads) for threads in sorted({1, default})}


def sklearn_model(case: Case, epochs: int):
    """An MLPClassifier that starts at the initial weights: `warm_start` goes on from its `coefs_`, set in place."""
    try:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.neural_network import MLPClassifier
    except ImportError:
        return None
    warnings.simplefilter("ignore", ConvergenceWarning)  # that all epochs were done
    options = {"solver": "sgd", "learning_rate_init": LR, "momentum": MOMENTUM, "nesterovs_momentum": True, "alpha": 0}
    endless = {"max_iter": epochs, "tol": 0, "n_iter_no_change": 10**9, "shuffle": False, "warm_start": True}
    model = MLPClassifier((case.hidden,), batch_size=case.batch, **options, **endless).fit(case.X, case.y)
    sklearn_reset(model, case)
    return model


def sklearn_weights(model) -> Weights:
    return [model.coefs_[0], model.intercepts_[0], model.coefs_[1], model.intercepts_[1]]


def sklearn_reset(model, case: Case) -> None:
    for w, start in zip(sklearn_weights(model), case.weights, strict=True):
        w[...] = start


def fastest(variants: dict[str, Callable]) -> str:
    """The name of the fastest in its better round."""
    if len(variants) == 1:
        return next(iter(variants))
    seconds = interleaved(variants, rounds=2, settle=SETTLE)
    return min(seconds, key=lambda name: min(seconds[name]))


def training(console: Console, cases: list[tuple[int, int]]) -> None:
    table = Table(title=f"a step of training: 64-hidden-10, {EPOCHS} epochs over the digits, float32")
    for column in ("batch", "hidden", "ours (us)", *PEERS, "others"):
        table.add_column(column, justify="right")
    for batch, hidden in cases:
        case = Case(batch, hidden)
        contenders, ways = {"ours": train_ours(case)}, {}
        for peer, make in zip(PEERS, (train_jax, train_torch, train_sklearn), strict=True):
            variants = make(case)
            if variants:
                ways[peer] = fastest(variants)
                contenders[peer] = variants[ways[peer]]
        losses = {name: case.loss(train()) for name, train in contenders.items()}
        said = (f"{name} {f'({ways[name]}) ' if ways.get(name) else ''}{loss:.7f}" for name, loss in losses.items())
        console.print(
            f"batch {batch}, hidden {hidden}, loss at the end: {'; '.join(said)}", highlight=False, soft_wrap=True
        )
        if not all(abs(loss - losses["ours"]) <= TOLERANCE * losses["ours"] for loss in losses.values()):
            raise SystemExit(f"error: these losses differ by more than {TOLERANCE}: it is not the same training")
        start = elapsed_and_elsewhere()
        seconds = interleaved(contenders, rounds=ROUNDS, settle=SETTLE)
        others = cores_elsewhere(start)
        row = [f"{batch}", f"{hidden:,}", f"{np.median(seconds['ours']) / (EPOCHS * case.steps) * 1e6:,.1f}"]
        targets = CASES.get((batch, hidden), (None,) * len(PEERS))
        row += [judged(seconds, peer, target) for peer, target in zip(PEERS, targets, strict=True)]
        table.add_row(*row, others)
    console.print(table)


def ensemble(console: Console, _: object) -> None:
    """Many networks at once, against one after another with the kernels for one thread."""
    table = Table(title="an ensemble: 20 epochs over the digits, float32, networks a second")
    for column in ("batch", "hidden", "networks", "fit_many", "one by one", "others"):
        table.add_column(column, justify="right")
    for batch, hidden, networks in ENSEMBLES:
        case = Case(batch, hidden)
        start_at = np.stack([case.net.init(seed) for seed in range(networks)])
        together, alone = start_at.copy(), start_at.copy()
        rest = case.X, case.y, EPOCHS, batch, LR, MOMENTUM

        def fit_many(together=together, start_at=start_at, case=case, rest=rest):
            together[:] = start_at
            nagd_numba.fit_many(case.net, together, *rest, seed=range(len(together)))

        def one_by_one(alone=alone, start_at=start_at, case=case, rest=rest):
            alone[:] = start_at
            for seed, params in enumerate(alone):
                case.net.fit(params, *rest, seed=seed)

        fit_many(), one_by_one()
        if not np.array_equal(together, alone):
            raise SystemExit("error: fit_many differs from fit")
        start = elapsed_and_elsewhere()
        seconds = interleaved({"ours": fit_many, "one by one": one_by_one}, rounds=ROUNDS, settle=SETTLE)
        rate = networks / np.median(seconds["ours"])
        ratios = judged(seconds, "one by one", ENSEMBLE_RATIO if os.cpu_count() == 2 else None)
        table.add_row(f"{batch}", f"{hidden}", f"{networks}", f"{rate:,.0f}", ratios, cores_elsewhere(start))
    console.print(table)


def inference(console: Console, _: object) -> None:
    case = Case(32, 128)
    table = Table(title="inference: 64-128-10, float32")
    for column in ("rows", "ours (us)", "torch", "scikit-learn", "NumPy", "others"):
        table.add_column(column, justify="right")

    one = case.X[:1].copy()
    contenders = {"ours": lambda: case.net.predict(case.flat, one)}
    try:
        import torch

        model, _ = torch_model(case)
        tensor = torch.from_numpy(one)

        def torch_predict():
            with torch.no_grad():
                return model(tensor).argmax(1).numpy()

        contenders["torch"] = torch_predict
    except ImportError:
        pass
    classifier = sklearn_model(case, 1)
    if classifier is not None:
        contenders["scikit-learn"] = lambda: classifier.predict(one)
    said = {name: int(call()[0]) for name, call in contenders.items()}
    if len(set(said.values())) > 1:
        raise SystemExit(f"error: the predictions differ: {said}")
    start = elapsed_and_elsewhere()
    seconds = interleaved(contenders, settle=SETTLE)
    ours = f"{np.median(seconds['ours']) * 1e6:.2f} [{PREDICT_US}]"
    peers = judged(seconds, "torch"), judged(seconds, "scikit-learn")
    table.add_row("1", ours, *peers, "", cores_elsewhere(start))

    X = np.resize(case.X, (10_000, 64))
    W1, b1, W2, b2 = case.weights
    contenders = {
        "ours": lambda: case.net.forward(case.flat, X),
        "NumPy": lambda: np.maximum(X @ W1 + b1, 0) @ W2 + b2,
    }
    if not np.allclose(contenders["ours"](), contenders["NumPy"](), rtol=1e-4, atol=1e-5):
        raise SystemExit("error: the outputs differ from NumPy's")
    start = elapsed_and_elsewhere()
    seconds = interleaved(contenders, settle=SETTLE)
    ours = f"{np.median(seconds['ours']) * 1e6:,.0f}"
    table.add_row("10,000", ours, "", "", judged(seconds, "NumPy", FORWARD_RATIO), cores_elsewhere(start))
    console.print(table)


def judged(seconds: dict[str, list[float]], peer: str, target: float | None = None) -> str:
    if peer not in seconds:
        return "n/a"
    goal = "" if target is None else f" [{target:g}]"
    return f"{ratio(seconds, peer, 'ours'):.2f}{goal}"


def elapsed_and_elsewhere() -> tuple[float, float]:
    """Seconds on the clock, and those that the cores of the machine spent outside this process (Linux, else NaN)."""
    try:
        with open("/proc/stat") as file:
            user, nice, system, _, _, *more = map(int, file.readline().split()[1:9])
    except OSError:
        return time.perf_counter(), np.nan
    own = os.times()
    busy = (user + nice + system + sum(more)) / os.sysconf("SC_CLK_TCK")
    return time.perf_counter(), busy - own.user - own.system


def cores_elsewhere(start: tuple[float, float]) -> str:
    now = elapsed_and_elsewhere()
    cores = (now[1] - start[1]) / (now[0] - start[0])
    return "n/a" if np.isnan(cores) else f"{max(0.0, cores):.2f}"


def environment() -> str:
    def version(package: str) -> str:
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            return "n/a"

    packages = ("numba", "numpy", "scipy", "jax", "torch", "scikit-learn")
    try:
        layer = numba.threading_layer() if numba.get_num_threads() else ""  # which starts the layer
    except (ValueError, ImportError):
        layer = "none"
    return (
        f"{platform.machine()}, {os.cpu_count()} cores, numba's threads by {layer}; "
        f"Python {platform.python_version()}, {', '.join(f'{name} {version(name)}' for name in packages)}"
    )


SECTIONS = {"training": training, "ensemble": ensemble, "inference": inference}


def main() -> None:
    def shape(text: str) -> tuple[int, int]:
        batch, hidden = map(int, text.split("x"))
        return batch, hidden

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", type=shape, default=list(CASES), metavar="BATCHxHIDDEN", help="as 32x128")
    parser.add_argument("--only", choices=list(SECTIONS), help="one section")
    options = parser.parse_args()
    console = Console()
    console.print(environment(), highlight=False, soft_wrap=True)
    for name, section in SECTIONS.items():
        if options.only in (None, name):
            section(console, options.cases)
    console.print("Ratios: above 1, ours is faster. In brackets: what we aim at.", markup=False)


if __name__ == "__main__":
    main()
