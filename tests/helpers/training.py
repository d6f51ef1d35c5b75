"""Small problems for networks, and how their trainings are compared."""

import numpy as np

from nagd_numba import MLP


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
