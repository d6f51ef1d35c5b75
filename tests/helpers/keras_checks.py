"""Checks of the optimizers for Keras on one backend, for a process of their own: Keras has one backend a process.

`KERAS_BACKEND=jax python -m tests.helpers.keras_checks NAME...` runs the checks of these names, and prints for each a
line of JSON: its name, and the traceback of its failure or null.
"""

import io
import json
import re
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers, optimizers

import nagd_numba
from nagd_numba.adapters.keras import NAG, Adam, AdamW, Lion, Nadam
from tests.helpers.keras_networks import BACKEND, COMPILED, articles, convolutions, recurrences

RATE, MOMENTUM, DECAY, STEPS = 0.1, 0.9, 0.05, 30
SHAPES = [(3, 4), (5,), (), (2, 1, 7)]


def arrays(seed, dtype="float32"):
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.normal(size=shape), dtype) for shape in SHAPES]


def gradients(steps=STEPS, dtype="float32"):
    return [arrays(100 + k, dtype) for k in range(steps)]


def applied(optimizer, start, grads):
    """The variables after steps with these gradients, and the optimizer's; as a program of the backend where it can."""
    variables = [keras.Variable(x, dtype=x.dtype.name) for x in start]
    if hasattr(optimizer, "exclude"):
        optimizer.exclude_from_weight_decay(variables[:1])
    optimizer.build(variables)
    if BACKEND == "jax":
        import jax

        step = jax.jit(optimizer.stateless_apply)
        state, values = [x.value for x in optimizer.variables], [x.value for x in variables]
        for own in grads:
            values, state = step(state, [jax.numpy.asarray(g) for g in own], values)
        for x, value in zip([*variables, *optimizer.variables], [*values, *state], strict=True):
            x.assign(value)
    else:

        def step(own):
            optimizer.apply(own, variables)

        if BACKEND == "tensorflow":
            import tensorflow as tf

            step = tf.function(step)
        for own in grads:
            step([keras.ops.convert_to_tensor(g) for g in own])
    return [x.numpy() for x in variables], [x.numpy() for x in optimizer.variables]


def bound(start, grads, rate=RATE, momentum=MOMENTUM, wd=0.0):
    """How far two ways to round the same steps may lead apart.

    In a step the velocity takes 3 roundings of numbers up to `m`, and the difference of two velocities shrinks by the
    momentum; the parameters take 4 of numbers up to `m` and 4 (with weight decay) of numbers up to `p`.
    """
    largest = max(abs(g).max() for own in grads for g in own)
    m = rate * largest / (1 - momentum)
    p = max(abs(x).max() for x in start) + len(grads) * m / 3  # signs change: the sum of all moves is never reached
    u = np.finfo(start[0].dtype).eps / 2
    velocity = 2 * 3 * u * m / (1 - momentum)
    return len(grads) * (2 * u * (4 * m + 4 * p) + velocity)


def same(ours, theirs, tolerance):
    """Equal bits under NumPy, whose roundings the convention of Keras has; else within a tolerance."""
    for x, y in zip(ours, theirs, strict=True):
        assert (x.dtype, x.shape) == (y.dtype, y.shape)
        if BACKEND == "numpy":
            assert np.array_equal(x, y), abs(x - y).max()
        else:
            assert abs(x - y).max() <= tolerance, (abs(x - y).max(), tolerance)


def sgd():
    """Variables and state after steps of NAG are those of SGD(nesterov=True), and of its other forms."""
    start, grads = arrays(0), gradients()
    for options in (
        {"momentum": MOMENTUM, "nesterov": True},
        {"momentum": MOMENTUM, "nesterov": False},
        {"momentum": MOMENTUM, "nesterov": True, "weight_decay": DECAY},
    ):
        ours, state = applied(NAG(RATE, **options), start, grads)
        theirs, expected = applied(optimizers.SGD(RATE, **options), start, grads)
        same([*ours, *state], [*theirs, *expected], bound(start, grads))
        assert max(abs(x - y).max() for x, y in zip(ours, start, strict=True)) > 0.1
    ours, _ = applied(NAG(RATE, momentum=0.0), start, grads)
    theirs, _ = applied(optimizers.SGD(RATE), start, grads)
    same(ours, theirs, bound(start, grads))


def library():
    """The bits of the steps of this library, with its conventions and two momenta."""
    start, grads = arrays(1), gradients(5)
    for options in (
        {"convention": "torch"},
        {"convention": "caffe", "momentum_next": 0.95},
        {"convention": "bengio", "momentum_next": 0.8, "nesterov": False},
    ):
        ours, state = applied(NAG(0.5, **options), start, grads)
        params, vel = [x.copy() for x in start], [np.zeros_like(x) for x in start]
        for own in grads:
            nagd_numba.step(params, own, vel, lr=0.5, **options)
        for x, y in zip([*ours, *state[2:]], [*params, *vel], strict=True):
            assert np.array_equal(x, y)


def rules():
    """The other rules against Keras', in float64, where the two ways to write the corrections of Adam meet.

    `1 - beta_2^t` is about `0.001 t` and rounded to a unit of 1; no step is longer than some rates.  Under NumPy and
    TensorFlow Keras computes in float32 whatever the variables are.
    """
    unit = 2.0**-52 if BACKEND in ("jax", "torch") else 2.0**-24
    tolerance = 10 * RATE * sum(unit / (0.001 * t) for t in range(1, STEPS + 1))
    start, grads = arrays(0, "float64"), gradients(dtype="float64")
    if BACKEND == "jax":
        import jax

        jax.config.update("jax_enable_x64", True)
    for ours, theirs, options in (
        (Adam, optimizers.Adam, {}),
        (Adam, optimizers.Adam, {"beta_1": 0.5, "epsilon": 0.1}),
        (AdamW, optimizers.AdamW, {"weight_decay": DECAY}),
        (Nadam, optimizers.Nadam, {"beta_2": 0.99}),
        (Lion, optimizers.Lion, {"weight_decay": DECAY}),
    ):
        found, state = applied(ours(RATE, **options), start, grads)
        expected, other = applied(theirs(RATE, **options), start, grads)
        for x, y in zip([*found, *state[2:]], [*expected, *other[2 : len(state)]], strict=True):
            assert x.dtype == np.float64
            assert abs(x - y).max() <= tolerance, (ours, options, abs(x - y).max())
    if BACKEND == "jax":
        jax.config.update("jax_enable_x64", False)


def options():
    """Keras' own options, with the results that they have with Keras' own class."""
    start, grads = arrays(0), gradients(12)
    decaying = optimizers.schedules.ExponentialDecay(RATE, 3, 0.8)
    for given in (
        {"clipnorm": 0.5, "use_ema": True, "ema_momentum": 0.5, "ema_overwrite_frequency": 4},
        {"clipvalue": 0.3, "loss_scale_factor": 4.0, "weight_decay": DECAY},
        {"global_clipnorm": 1.0, "gradient_accumulation_steps": 3},
        {"learning_rate": decaying},
    ):
        given = {"learning_rate": RATE, "momentum": MOMENTUM, "nesterov": True, **given}
        pair = NAG(**given), optimizers.SGD(**given)
        if "weight_decay" in given:
            for x in pair:
                x.exclude = True
        (ours, state), (theirs, expected) = (applied(x, start, grads) for x in pair)
        same([*ours, *state], [*theirs, *expected], bound(start, grads))
    scaled = [[np.asarray(8 * g) for g in own] for own in grads]
    scaled[5][1][2] = np.inf  # is skipped, and halves the scale
    for k in range(6, 12):
        scaled[k] = [np.asarray(g / 2) for g in scaled[k]]
    pair = NAG(RATE), optimizers.SGD(RATE, momentum=MOMENTUM, nesterov=True)
    (ours, _), (theirs, _) = (applied(optimizers.LossScaleOptimizer(x, initial_scale=8.0), start, scaled) for x in pair)
    same(ours, theirs, bound(start, grads))
    unscaled, _ = applied(NAG(RATE), start, [own for k, own in enumerate(grads) if k != 5])
    assert all(map(np.array_equal, ours, unscaled))  # powers of 2 have no roundings


def parts():
    """Gradients of some variables only, and one variable by Keras' `update_step`."""
    start, own = arrays(0), arrays(1)
    results = []
    for optimizer in (NAG(RATE), optimizers.SGD(RATE, momentum=MOMENTUM, nesterov=True)):
        variables = [keras.Variable(x) for x in start]
        for missing in ((), (0, 2), (), (1,)):
            grads = [None if k in missing else keras.ops.convert_to_tensor(g) for k, g in enumerate(own)]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                optimizer.apply(grads, variables)
        optimizer.update_step(keras.ops.convert_to_tensor(own[1]), variables[1], keras.ops.convert_to_tensor(0.2))
        results.append([x.numpy() for x in [*variables, *optimizer.variables]])
    same(*results, bound(start, [own] * 5, rate=2 * RATE))


def configs():
    """Each class is made again from what Keras saves of it; state goes on in NAG where SGD had it."""
    for made in (
        NAG(0.2, momentum=0.8, nesterov=False, convention="caffe", momentum_next=0.7, clipnorm=2.0, name="mine"),
        Adam(0.2, beta_1=0.5, beta_2=0.9, epsilon=1e-3, weight_decay=0.1),
        AdamW(optimizers.schedules.CosineDecay(0.2, 10)),
        Nadam(0.2, beta_1=0.5, use_ema=True),
        Lion(0.2, beta_2=0.9, gradient_accumulation_steps=2),
    ):
        again = optimizers.deserialize(optimizers.serialize(made))
        assert type(again) is type(made)
        assert again.get_config() == made.get_config()
        assert json.dumps(made.get_config())
    start, grads = arrays(0), gradients()
    one = optimizers.SGD(RATE, momentum=MOMENTUM, nesterov=True)
    two = NAG(RATE, momentum=MOMENTUM)
    variables, others = ([keras.Variable(x) for x in start] for _ in range(2))
    for own in grads[:3]:
        one.apply([keras.ops.convert_to_tensor(g) for g in own], variables)
    two.build(others)
    two.set_weights([x.numpy() for x in one.variables])
    for x, y in zip(others, variables, strict=True):
        x.assign(y.numpy())
    for own in grads[3:6]:
        for optimizer, of in ((one, variables), (two, others)):
            optimizer.apply([keras.ops.convert_to_tensor(g) for g in own], of)
    same([x.numpy() for x in [*others, *two.variables]], [x.numpy() for x in [*variables, *one.variables]],
         bound(start, grads[:6]))  # fmt: skip


def files():
    """A model that is saved in mid-training and loaded goes on to the same bits."""
    keras.utils.set_random_seed(0)
    X, y = np.random.default_rng(0).normal(size=(64, 8)).astype("float32"), np.arange(64) % 3
    model = keras.Sequential([layers.Input((8,)), layers.Dense(8, activation="tanh"), layers.Dense(3)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(NAG(RATE, momentum=0.8, weight_decay=0.01), loss, **COMPILED)
    model.fit(X, y, batch_size=16, epochs=2, shuffle=False, verbose=0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        loaded = keras.models.load_model(path)
    assert (type(loaded.optimizer), int(loaded.optimizer.iterations.numpy())) == (NAG, 8)
    history = [x.fit(X, y, batch_size=16, epochs=2, shuffle=False, verbose=0).history["loss"] for x in (model, loaded)]
    assert history[0] == history[1]
    assert history[0][1] < history[0][0]
    for x, y in zip(
        model.optimizer.variables + model.weights, loaded.optimizer.variables + loaded.weights, strict=True
    ):
        assert np.array_equal(x.numpy(), y.numpy())


def raises(kind, text, function):
    with pytest.raises(kind, match=re.escape(text)):
        function()


def refusals():
    """What does not fit is named, and nothing was written."""
    raises(ValueError, "momentum is -0.5; a finite number >= 0 is needed", lambda: NAG(momentum=-0.5))
    raises(TypeError, "NAG: momentum is '0.5'; a number is needed", lambda: NAG(momentum="0.5"))
    raises(ValueError, "did you mean 'keras'", lambda: NAG(convention="Keras"))
    raises(ValueError, "lr is -0.1", lambda: NAG(-0.1))
    raises(ValueError, "beta2 is 1.0", lambda: Adam(beta_2=1.0))
    raises(TypeError, "beta2 is None", lambda: Adam(beta_2=None))
    raises(ValueError, "nonsense", lambda: NAG(nonsense=1))
    raises(
        TypeError, "is float16; float32 or float64 is needed", lambda: NAG().build([keras.Variable(np.float16([1]))])
    )
    start = arrays(0)
    variables = [keras.Variable(x) for x in start]
    tensors = [keras.ops.convert_to_tensor(g) for g in start]
    optimizer = NAG(RATE, weight_decay=DECAY)
    optimizer.build(variables)
    wrong = [*tensors[:3], keras.ops.ones((14,))]
    raises(ValueError, "has shape (14,); (2, 1, 7) is needed", lambda: optimizer.apply(wrong, variables))
    optimizer.momentum = -1.0
    raises(ValueError, "momentum is -1.0", lambda: optimizer.apply(tensors, variables))
    optimizer.momentum = 0.9
    optimizer.learning_rate = -1.0
    raises(ValueError, "lr is -1.0", lambda: optimizer.apply(tensors, variables))
    assert all(np.array_equal(x.numpy(), y) for x, y in zip(variables, start, strict=True))
    assert not any(x.numpy().any() for x in optimizer.variables[2:])


def stateless():
    """Keras' functional interface leaves its arguments as they are."""
    start, own = arrays(0), arrays(1)
    optimizer, variables = NAG(RATE), [keras.Variable(x) for x in start]
    optimizer.build(variables)
    state, values, grads = (
        [keras.ops.convert_to_tensor(np.array(x)) for x in given]
        for given in ([x.numpy() for x in optimizer.variables], start, own)
    )
    values_, state_ = optimizer.stateless_apply(state, grads, values)
    for x, y in zip([*values, *variables], [*start, *start], strict=True):
        assert np.array_equal(keras.ops.convert_to_numpy(x), y)
    assert not any(keras.ops.convert_to_numpy(x).any() for x in state[2:])
    optimizer.apply(grads, variables)
    for x, y in zip([*values_, *state_], [*variables, *optimizer.variables], strict=True):
        assert np.array_equal(keras.ops.convert_to_numpy(x), y.numpy())


def memory():
    """On PyTorch: in place, all variables in one call, whatever their strides; autograd is told."""
    import torch

    from nagd_numba.adapters.torch_vectors import Vectors

    calls, run = [], Vectors.run
    Vectors.run = lambda self, *args: (calls.append(len(self.tensors[0])), run(self, *args))
    start, grads = arrays(0), gradients(4)
    strided = [keras.Variable(torch.from_numpy(np.array(x, order="F"))) for x in start]
    plain = [keras.Variable(x) for x in start]
    assert strided[0].value.stride() == (1, 3)
    one, two = NAG(RATE), NAG(RATE)
    one.build(strided)
    two.build(plain)
    held = [x.value for x in [*strided, *one.variables]]
    for k, own in enumerate(grads):
        if k == 2:
            strided[1].value.data = strided[1].value.data.clone()
        for optimizer, variables in ((one, strided), (two, plain)):
            optimizer.apply(list(map(torch.from_numpy, own)), variables)
    Vectors.run = run
    assert calls == [4] * 8
    assert all(x is y.value for x, y in zip(held, [*strided, *one.variables], strict=True))
    for x, y in zip([*strided, *one.variables], [*plain, *two.variables], strict=True):
        assert np.array_equal(x.numpy(), y.numpy())
    loss = (plain[0].value ** 2).sum()
    two.apply(list(map(torch.from_numpy, grads[0])), plain)
    raises(RuntimeError, "modified by an inplace operation", loss.backward)
    shared = torch.zeros(6)
    variables = [keras.Variable(torch.nn.Parameter(shared[:4])), keras.Variable(torch.nn.Parameter(shared[2:]))]
    raises(ValueError, "two variables share memory", lambda: NAG().apply([torch.ones(4), torch.ones(4)], variables))
    sparse = [torch.ones(3, 4).to_sparse(), *map(torch.from_numpy, grads[0][1:])]
    before = [x.numpy().copy() for x in plain]
    raises(TypeError, "is sparse", lambda: two.apply(sparse, plain))
    assert all(np.array_equal(x.numpy(), y) for x, y in zip(plain, before, strict=True))


def graphs():
    """On TensorFlow: no XLA, no strategies; gradients of an embedding."""
    import tensorflow as tf

    variables = [keras.Variable(x) for x in arrays(0)]
    optimizer = NAG(RATE)
    optimizer.build(variables)

    @tf.function(jit_compile=True)
    def step(own):
        optimizer.apply(own, variables)

    raises(ValueError, "jit_compile=False", lambda: step([tf.constant(x) for x in arrays(1)]))
    with tf.distribute.OneDeviceStrategy("cpu").scope():
        raises(ValueError, "tf.distribute is not supported",
               lambda: optimizer.apply([tf.constant(x) for x in arrays(1)], variables))  # fmt: skip
    results = []
    for optimizer in (NAG(RATE), optimizers.SGD(RATE, momentum=MOMENTUM, nesterov=True)):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([layers.Input((2,)), layers.Embedding(5, 3), layers.Flatten(), layers.Dense(1)])
        model.compile(optimizer, "mse", jit_compile=False)
        model.fit(np.array([[0, 1], [1, 1]]), np.ones(2), epochs=3, verbose=0)
        results.append([x.numpy() for x in model.weights])
    for x, y in zip(*results, strict=True):
        assert abs(x - y).max() < 1e-5


def main(names):
    checks = {**globals(), **{check.__name__: check for check in (articles, convolutions, recurrences)}}
    for name in names:
        failure, began = io.StringIO(), time.process_time()
        try:
            checks[name]()
        except (Exception, pytest.fail.Exception):
            traceback.print_exc(file=failure)
        print(json.dumps([name, failure.getvalue() or None]), flush=True)
        print(name, "took", round(time.process_time() - began, 2), "s of the processors", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
