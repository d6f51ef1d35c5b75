"""Small problems for networks, and how their trainings are compared."""

import numpy as np

from nagd_numba import MLP, step
from nagd_numba.mlp.dropout import splitmix

TANH = {"activation": "tanh", "loss": "mse", "dtype": "float64"}
BINARY = {"loss": "binary_cross_entropy"}
EPS32 = float(np.finfo(np.float32).eps)


def problem(sizes=(5, 7, 3), rows=50, seed=0, **options):
    """A network with nonzero biases, and data."""
    net = MLP(sizes, **options)
    random = np.random.default_rng(seed)
    params = net.init(seed) + random.normal(scale=0.1, size=net.size).astype(net.dtype)
    X = random.normal(size=(rows, sizes[0])).astype(net.dtype)
    if net.loss_name == "cross_entropy":
        y = random.integers(0, sizes[-1], rows)
    elif net.loss_name == "mse":
        y = random.normal(size=(rows, sizes[-1])).astype(net.dtype)
    else:
        y = random.integers(0, 2, (rows, sizes[-1])).astype(net.dtype)
    return net, params, X, y


def fitted(net, params, X, y, epochs=3, batch_size=16, **options):
    """Parameters, velocity and history of a training that leaves its arguments alone."""
    params = params.copy()
    vel = options.pop("vel", None)
    vel = np.zeros_like(params) if vel is None else vel.copy()
    history = net.fit(params, X, y, epochs, batch_size, vel=vel, **options)
    return params, vel, history


def assert_same(a, b):
    """Equal parameters and velocities, to the last bit, and equal histories."""
    for x, y in zip(a[:2], b[:2], strict=True):
        assert x.tobytes() == y.tobytes()
    first, second = a[2].to_dict(), b[2].to_dict()
    for name in set(first) & set(second):
        np.testing.assert_array_equal(first[name], second[name], name)


def read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


def changed(x, index, value):
    x = x.copy()
    x[index] = value
    return x


def word(key, index):
    return int(splitmix(np.uint64(key), index))


def permutation(rows, seed, epoch):
    """Fisher's and Yates's shuffle with the documented numbers."""
    order = list(rows)
    key = word(word(seed, 1 << 63), epoch)
    for i in range(len(order) - 1, 0, -1):
        k = ((word(key, i) >> 32) * (i + 1)) >> 32
        order[i], order[k] = order[k], order[i]
    return order


def by_hand(
    net, params, X, y, epochs=3, batch=16, lr=0.05, momentum=0.9, optimizer="nag", seed=0, shuffle=True, vel=None
):
    """The training of `fit` as a loop in Python; `lr` and `momentum` may be functions.  Returns the losses as well."""
    params, vel = params.copy(), np.zeros_like(params) if vel is None else vel.copy()
    rate = lr if callable(lr) else lambda t: lr
    mu = (lambda t: 0.0) if optimizer == "gd" else momentum if callable(momentum) else lambda t: momentum
    t, losses = 0, []
    for epoch in range(epochs):
        order = permutation(range(len(X)), seed, epoch) if shuffle else range(len(X))
        total = 0.0
        for first in range(0, len(X), batch):
            rows = list(order[first : first + batch])
            loss, grads = net.value_and_grad(params, X[rows], y[rows], dropout_seed=word(seed, t))
            step(params, grads, vel, rate(t), mu(t), momentum_next=mu(t + 1), nesterov=optimizer != "momentum")
            vel[abs(vel) < np.finfo(vel.dtype).smallest_normal] = 0
            total += loss * len(rows)
            t += 1
        losses.append(total / len(X))
    return params, vel, losses
