"""`clip=` of gradients whose squares, or whose factors, leave the range of their type: the same on both targets."""

import numpy as np
import pytest

from nagd_numba import MLP
from nagd_numba.mlp import clipping
from tests.helpers import driverless
from tests.helpers.backends import JIT_OFF

# The dtype, the size of the inputs, that of the errors, and the clip: the gradient is about as large as their product.
CASES = [
    ("float64", 1e100, 1e100, 1.0),
    ("float64", 1e150, 1e153, 1e-100),
    ("float64", 1e155, 1e150, 1e160),
    ("float64", 1e153, 1e-10, 1e-150),
    ("float32", 1e19, 1e18, 1e-3),
    ("float32", 1e19, 1e18, 1e-30),
    ("float32", 1.0, 1.0, 1e-37),
]


def problem(dtype, inputs, errors, seed=0):
    """A linear network of many weights at 0; the gradient of its only row is `-2 (x, 1) y`."""
    rng = np.random.default_rng(seed)
    net = MLP([3000, 1], loss="mse", dtype=dtype)
    X = (inputs * rng.uniform(0.5, 1, (1, 3000)) * rng.choice([-1, 1], (1, 3000))).astype(dtype)
    return net, X, np.full((1, 1), errors, dtype)


def trained(net, params, X, y, clip, vel):
    return net.fit(params, X, y, epochs=1, batch_size=1, lr=1.0, optimizer="momentum", momentum=0, clip=clip, vel=vel)


@pytest.mark.filterwarnings("ignore:.*diverged")
@pytest.mark.parametrize(("dtype", "inputs", "errors", "clip"), CASES)
def test_the_step_has_the_length_of_the_clip(dtype, inputs, errors, clip):
    net, X, y = problem(dtype, inputs, errors)
    params, vel = np.zeros(net.size, dtype), np.zeros(net.size, dtype)
    trained(net, params, X, y, clip, vel)
    gradient = np.append(X[0].astype(np.longdouble), 1) * -2 * errors
    want = gradient * (clip / np.sqrt((gradient * gradient).sum()))
    atol = np.finfo(dtype).tiny  # velocities below the smallest normal number are 0
    np.testing.assert_allclose(-params, want.astype(dtype), rtol=20 * np.finfo(dtype).eps, atol=atol)


@pytest.mark.skipif(JIT_OFF, reason="nothing is compiled with the JIT off")
@pytest.mark.filterwarnings("ignore:.*diverged")
@pytest.mark.parametrize(
    ("dtype", "inputs", "errors", "clip"),
    [pytest.param(*case, marks=pytest.mark.slow if case[0] == "float32" else ()) for case in CASES],
)
def test_a_device_has_the_same_bits(dtype, inputs, errors, clip):
    from tests.helpers import fake_driver

    driverless.require()
    net, X, y = problem(dtype, inputs, errors)
    params, vel = np.zeros(net.size, dtype), np.zeros(net.size, dtype)
    with fake_driver.installed(order="random") as gpu:
        there, velocity = gpu.array(params), gpu.array(vel)
        trained(net, there, gpu.array(X), gpu.array(y), clip, velocity)
        trained(net, params, X, y, clip, vel)
        assert gpu.download(there).tobytes() == params.tobytes()
        assert gpu.download(velocity).tobytes() == vel.tobytes()


@pytest.mark.parametrize(("dtype", "clip"), [("float32", 1e-39), ("float32", 1e-50), ("float64", 1e-160)])
def test_clips_that_are_too_small_for_the_type(dtype, clip):
    with pytest.raises(ValueError, match=rf"clip is {clip!r}; a number >= .* is needed \(in {dtype}\)"):
        clipping.limit(clip, np.dtype(dtype))
