"""Trainings that tests make on one rank and on many, and all that they leave behind."""

import hashlib

import numpy as np

import nagd_numba
from nagd_numba.cli.data import load_digits
from nagd_numba.optimizers.registry import METHODS, optimizer_of
from nagd_numba.schedules import Adaptive, StepDecay

RANDOM = np.random.default_rng(5)
X = RANDOM.normal(size=(83, 6)).astype(np.float32)  # batches of 16 and one of 3: fewer rows than micro-batches
LABELS = (X[:, :3] + 0.3 * RANDOM.normal(size=(83, 3))).argmax(axis=1)
WEIGHTS = RANDOM.random(83).astype(np.float32)
LR = {"lr": 0.05}
CASES = {
    **{name: {"optimizer": name, "lr": 0.05 if method.lr == "lr" else 0.01} for name, method in METHODS.items()},
    "l2": {"l2": 0.01},
    "float64": {"dtype": "float64", "l2": 0.01},
    "weights": {"sample_weight": WEIGHTS, "l2": 0.01},
    "accumulate": {"accumulate": 3, "l2": 0.01},
    "clip": {"clip": 0.2},
    "schedules": {"lr": StepDecay(0.1, 7), "momentum": StepDecay(0.9, 5, 0.9)},
    "adaptive": {"lr": Adaptive(0.1, patience=0, tolerance=0.05, least=0.01), "epochs": 12},
    "best": {"keep": "best", "patience": 2, "lr": 0.4, "epochs": 12},
    "target": {"target_loss": 0.9, "epochs": 12},
    "data": {"validation": (X[::3], LABELS[::3]), "shuffle": False},
    "few": {"batch_size": 2, "micro_batches": 2},
    "many": {"micro_batches": 16},
    "one": {"micro_batches": 1},
    "wide": {"sizes": (6, 600, 3), "batch_size": 70, "micro_batches": 5},
    "diverges": {"lr": 1e30, "epochs": 4},
}


def train(comm, reproducible=True, **options):
    """The network, its parameters, states and History after a training."""
    options = {**LR, "epochs": 2, "batch_size": 16, "validation": 0.2, "metrics": ["accuracy"], **options}
    sizes, l2, dtype = options.pop("sizes", (6, 9, 3)), options.pop("l2", 0.0), options.pop("dtype", "float32")
    net = nagd_numba.MLP(sizes, dropout=0.3, l2=l2, dtype=dtype)
    params = net.init(1)
    states = len(optimizer_of(options.get("optimizer", "nag")).rule.states)
    vel = np.zeros(states * net.size, dtype)
    history = net.fit(params, X, LABELS, vel=vel, seed=3, comm=comm, reproducible=reproducible, **options)
    return net, params, vel, history


def digest(params, vel, history):
    """All of it, but for the seconds."""
    columns = history.to_dict()
    said = repr([(name, columns[name]) for name in sorted(columns)]) + repr(history.stopped)
    return hashlib.sha256(params.tobytes() + vel.tobytes() + said.encode()).hexdigest()


def train_digits(comm, reproducible):
    """The sha256 of the parameters after 20 epochs on the digits."""
    digits = load_digits()
    net = nagd_numba.MLP([64, 128, 10], dropout=0.2)
    params = net.init(0)
    net.fit(params, (digits.X / 16).astype(np.float32), digits.y, comm=comm, reproducible=reproducible, epochs=20)
    return hashlib.sha256(params.tobytes()).hexdigest()
