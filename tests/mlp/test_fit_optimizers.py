"""Training with every method of the registry: `MLP.fit` and `fit_many`."""

import inspect

import numpy as np
import pytest

import nagd_numba
from nagd_numba import MLP, fit_many, schedule_free_eval, schedule_free_train
from nagd_numba.kernels.jit import SIMULATOR
from nagd_numba.mlp.dropout import splitmix
from nagd_numba.optimizers.registry import METHODS, optimizer_of
from tests.helpers.backends import JIT_OFF

NET = MLP((5, 7, 3), dropout=0.25, l2=0.01)
# Every number of states and hyper-parameters; the others differ from these in the rule alone.
SOME = ("adam", "nadam", "lion", "adagrad", "schedule_free_sgd")


def data(rows=50):
    random = np.random.default_rng(0)
    return random.normal(size=(rows, 5)).astype(np.float32), random.integers(0, 3, rows)


def stepping(name, lr, momentum):
    """`step(p, g, states, t)`: the public step that a method stands for."""
    method, optimizer = METHODS[name], optimizer_of(name)
    names = inspect.signature(optimizer.step).parameters
    keywords = {x: value for x, value in {**method.hyper, **method.options}.items() if x in names}
    if method.momentum is not None:
        keywords[method.momentum] = momentum

    def step(p, g, states, t, **more):
        optimizer.step(p, g, *states, lr=lr, **keywords, **({"t": t} if "t" in names else {}), **more)

    return step


def states_of(name, networks=()):
    return np.zeros((*networks, len(optimizer_of(name).rule.states) * NET.size), np.float32)


@pytest.mark.parametrize("name", [pytest.param(x, marks=() if x in SOME else pytest.mark.slow) for x in METHODS])
def test_it_is_a_loop_of_value_and_grad_and_the_step(name):
    X, y = data(11 if JIT_OFF else 50)
    batches = -(-len(X) // 8)
    params, vel = NET.init(1), states_of(name)
    options = {"epochs": 2, "batch_size": 8, "lr": 0.01, "momentum": 0.8, "optimizer": name}
    history = NET.fit(params, X, y, vel=vel, shuffle=False, **options)
    step, p, states = stepping(name, 0.01, 0.8), NET.init(1), states_of(name).reshape(-1, NET.size)
    interpolated = optimizer_of(name).rule.interpolated is not None
    for number in range(2 * batches):
        if interpolated and number == batches:
            schedule_free_train(schedule_free_eval(p, states[0], 0.8), states[0], 0.8)
        rows = slice(number % batches * 8, number % batches * 8 + 8)
        seed = int(splitmix(np.uint64(0), np.uint64(number)))
        _, g = NET.value_and_grad(p, X[rows], y[rows], dropout_seed=seed)
        step(p, g, states, number + 1)
    if interpolated:
        schedule_free_eval(p, states[0], 0.8)
    np.testing.assert_array_equal(params, p)
    np.testing.assert_array_equal(vel, states.reshape(-1))
    assert history.last("lr") == 0.01
    assert history.last("momentum") == (0.0 if METHODS[name].momentum is None else 0.8)


@pytest.mark.parametrize("name", ["adam", pytest.param("lion", marks=pytest.mark.slow)])
def test_many_networks_are_each_as_alone(name):
    X, y = data(11 if JIT_OFF else 50)
    options = {"epochs": 2, "batch_size": 8, "optimizer": name}
    params, vel = np.stack([NET.init(1), NET.init(2)]), states_of(name, (2,))
    fit_many(NET, params, X, y, vel=vel, lr=[0.01, 0.02], momentum=[0.8, 0.5], seed=[3, 4], **options)
    for m, (lr, momentum, seed) in enumerate([(0.01, 0.8, 3), (0.02, 0.5, 4)]):
        alone, states = NET.init(m + 1), states_of(name)
        NET.fit(alone, X, y, vel=states, lr=lr, momentum=momentum, seed=seed, **options)
        np.testing.assert_array_equal(params[m], alone)
        np.testing.assert_array_equal(vel[m], states)


@pytest.mark.parametrize("name", ["adam", "schedule_free_adamw"])
def test_goes_on_to_the_same_bits(name):
    X, y = data(11 if JIT_OFF else 50)
    whole, parted = NET.init(1), NET.init(1)
    states = np.zeros((2, 2 * NET.size), np.float32)
    options = {"batch_size": 8, "lr": 0.01, "optimizer": name, "momentum": 0.8}
    NET.fit(whole, X, y, epochs=3, vel=states[0], **options)
    history = NET.fit(parted, X, y, epochs=1, vel=states[1], **options)
    NET.fit(parted, X, y, epochs=3, vel=states[1], history=history, **options)
    np.testing.assert_array_equal(whole, parted)
    np.testing.assert_array_equal(*states)


def test_a_schedule_free_training_is_evaluated_at_x():
    X, y = data(11 if JIT_OFF else 50)
    net, seen = MLP((5, 7, 3)), []
    params, vel = net.init(1), np.zeros(2 * net.size, np.float32)

    def callback(history):
        seen.append((net.loss(params, X, y), params.copy(), history.last("validation_loss")))

    options = {"epochs": 6, "batch_size": 8, "lr": 0.05, "optimizer": "schedule_free_adamw", "validation": (X, y)}
    history = net.fit(params, X, y, vel=vel, keep="best", callback=callback, **options)
    assert all(loss == pytest.approx(held_out, rel=1e-6) for loss, _, held_out in seen)
    best = int(np.argmin(history.values("validation_loss")))
    np.testing.assert_array_equal(params, seen[best][1])
    with pytest.raises(ValueError, match="momentum is a schedule, and with schedule_free_adamw it must be one number"):
        net.fit(params, X, y, **{**options, "momentum": nagd_numba.schedules.Sutskever()})
    with pytest.raises(ValueError, match=r"momentum is 0.0; with schedule_free_adamw it is beta1, which is at least"):
        net.fit(params, X, y, **{**options, "momentum": 0.0})
    np.testing.assert_array_equal(params, seen[best][1])


@pytest.mark.parametrize(
    ("name", "decay", "options"),
    [
        ("nag", 0.9, {}),
        pytest.param("adam", None, {"accumulate": 2, "clip": 0.5}, marks=pytest.mark.ci),
        pytest.param("gd", None, {"start": 3}, marks=pytest.mark.ci),
    ],
)
def test_an_average_is_that_of_a_loop_of_steps(name, decay, options):
    """Of whole epochs, and of the same in two parts; many networks have what each has alone."""
    X, y = data(11 if JIT_OFF else 50)
    start, options = options.pop("start", 0), {**options}
    keywords = {"batch_size": 8, "lr": 0.05, "momentum": 0.8, "optimizer": name, "validation": (X, y), "shuffle": False}
    params, vel, seen = NET.init(1), states_of(name), []
    average = nagd_numba.Average(params, decay, start)

    def callback(history):
        without = MLP((5, 7, 3))  # the loss of the validation has no penalty
        seen.append((without.loss(average.value, X, y), history.last("validation_loss"), average.value.copy()))

    NET.fit(params, X, y, 3, vel=vel, average=average, callback=callback, **keywords, **options)
    assert all(held_out == pytest.approx(loss, rel=1e-5) for loss, held_out, _ in seen)
    assert average.steps == 3 * -(-len(range(0, len(X), 8)) // options.get("accumulate", 1))
    if not options:
        p, own = NET.init(1), states_of(name).reshape(-1, NET.size)
        alone, batches = nagd_numba.Average(p, decay, start), -(-len(X) // 8)
        step = stepping(name, 0.05, 0.8)
        for number in range(3 * batches):
            rows = slice(number % batches * 8, number % batches * 8 + 8)
            _, g = NET.value_and_grad(p, X[rows], y[rows], dropout_seed=int(splitmix(np.uint64(0), np.uint64(number))))
            step(p, g, own, number + 1, average=alone)
        np.testing.assert_array_equal(params, p)
        np.testing.assert_array_equal(average.value, alone.value)
    parted, again, states = NET.init(1), nagd_numba.Average(params, decay, start), states_of(name)
    history = NET.fit(parted, X, y, 1, vel=states, average=again, **keywords, **options)
    NET.fit(parted, X, y, 3, vel=states, average=again, history=history, **keywords, **options)
    np.testing.assert_array_equal(again.value, average.value)
    np.testing.assert_array_equal([parted, states[: NET.size]], [params, vel[: NET.size]])
    both = np.stack([NET.init(1), NET.init(2)])
    of_both = nagd_numba.Average(both, decay, start)
    fit_many(NET, both, X, y, 3, average=of_both, **keywords, **options)
    np.testing.assert_array_equal(of_both.value[0], average.value)
    np.testing.assert_array_equal(both[0], params)


def test_the_best_average_is_kept_and_what_is_refused():
    X, y = data(11 if JIT_OFF else 50)
    params, seen = NET.init(1), []
    average = nagd_numba.Average(params, 0.9)
    options = {"batch_size": 8, "lr": 0.5, "validation": (X, y[::-1].copy())}
    history = NET.fit(
        params, X, y, 8, average=average, keep="best", callback=lambda _: seen.append(average.value.copy()), **options
    )
    best = int(np.argmin(history.values("validation_loss")))
    np.testing.assert_array_equal(average.value, seen[best])
    before = params.copy()
    for more, error, message in [
        ({"average": 0.9}, TypeError, "average is a float; a nagd_numba.Average is needed"),
        ({"average": nagd_numba.Average(params[1:])}, ValueError, "average has shape .*; that of params is needed"),
        ({"average": nagd_numba.Average([params])}, ValueError, "average is of a list; that of params is needed"),
        ({"average": average, "optimizer": "schedule_free_sgd"}, ValueError, "average is for other optimizers"),
        ({"average": average, "reproducible": True}, ValueError, "average is for the training of one process"),
    ]:
        with pytest.raises(error, match=f"MLP.fit: {message}"):
            NET.fit(params, X, y, **{**options, **more})
    np.testing.assert_array_equal(params, before)


@pytest.mark.skipif(SIMULATOR, reason="the simulator has its own arrays")
def test_refused_before_any_write():
    X, y = data(11)
    params = NET.init(1)
    before = params.copy()
    many = params[None]
    for call, error, message in [
        (lambda: NET.fit(params, X, y, optimizer="Adam"), ValueError, "optimizer is 'Adam'; .* did you mean 'adam'"),
        (lambda: NET.fit(params, X, y, optimizer="adam", vel=before.copy()), ValueError, "vel has shape "),
        (lambda: NET.fit(params, X, y, optimizer="adam", vel=np.zeros(2 * NET.size)), TypeError, "vel has .* float64"),
        (lambda: NET.fit(params, X, y, optimizer="adam", momentum=1.0), ValueError, "momentum is 1.0; with adam it is"),
        (lambda: fit_many(NET, many, X, y, optimizer="Adam"), ValueError, "optimizer is 'Adam'; one of"),
        (lambda: fit_many(NET, many, X, y, optimizer="adam", vel=before[None].copy()), ValueError, "vel has shape "),
    ]:
        with pytest.raises(error, match=message):
            call()
    np.testing.assert_array_equal(params, before)
