"""What the public functions of every optimizer in the registry must do: the common suite beside that of the rules."""

import functools
import inspect

import numpy as np
import pytest

import nagd_numba
from nagd_numba.optimizers.registry import METHODS, OPTIMIZERS, optimizer_of
from tests.helpers.bits import assert_same_bits

optimizers = pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)


def required(optimizer):
    """Values for the settings without a default."""
    parameters = inspect.signature(optimizer.step).parameters
    without = [x for x in optimizer.settings if parameters[x].default is inspect.Parameter.empty]
    return {x: 3 if optimizer.rule.range_of(x).whole else 2.5 for x in without}


def arrays(optimizer, shape=20, dtype=np.float32):
    """Parameters, gradients and states; squares are not negative."""
    rng = np.random.default_rng(0)
    p, g, *states = (rng.normal(size=shape).astype(dtype) for _ in range(2 + len(optimizer.rule.states)))
    return [p, g, *map(np.abs, states)]


def element_by_element(optimizer, p, g, *states):
    """The rule with the defaults of the step, on scalars."""
    rule, T = optimizer.rule, p.dtype.type
    hyper = tuple(float(x) for x in {**rule.hyper, **required(optimizer)}.values())
    scalars, update = rule.scalars(hyper, p.dtype, rule.defaults()), rule.update
    rows = [
        update(T(row[0]), T(row[1]), tuple(map(T, row[2:])), scalars, rule.defaults())
        for row in zip(*(x.ravel() for x in (p, g, *states)), strict=True)
    ]
    made = zip(*((x, *state) for x, state in rows), strict=True)
    return [np.array(x, T).reshape(p.shape) for x in made]


@optimizers
def test_defaults_are_those_of_the_rule(optimizer):
    parameters, rule = inspect.signature(optimizer.step).parameters, optimizer.rule
    for name, x in rule.hyper.items():
        default = parameters[name].default
        if name in optimizer.choices:
            assert optimizer.choices[name].index(default) == x
        elif name in optimizer.follows:
            assert default is None
            assert x == rule.hyper[optimizer.follows[name]]
        elif default is not inspect.Parameter.empty:
            assert default == x
    flags = {x: parameters[x].default for x in optimizer.fixed}
    assert optimizer.options(flags, zero=True) == rule.defaults()
    assert tuple(parameters)[: 2 + len(rule.states)] == optimizer.arrays
    if optimizer.constants is not None:
        for name, parameter in inspect.signature(optimizer.constants).parameters.items():
            assert name == "dtype" or parameter.default == parameters[name].default


@optimizers
def test_public_names(optimizer):
    for name, function in optimizer.public.items():
        assert getattr(nagd_numba, name) is function
    described = inspect.getdoc(optimizer.step)
    sections = ("Parameters", "Returns", "Raises", "References", "Examples")
    assert all(f"\n{section}\n---" in described for section in sections)
    for name in optimizer.settings:
        assert name in described


@optimizers
def test_every_way_from_python_gives_the_rule(optimizer):
    given, step = required(optimizer), optimizer.step
    p, g, *states = arrays(optimizer, (4, 6))
    want = element_by_element(optimizer, p, g, *states)
    for _ in range(2):  # with every check, then the kernel that is known
        own, *rest = (x.copy() for x in (p, *states))
        assert step(own, g, *rest, **given) is own
        assert_same_bits([own, *rest], want)
    strided = [np.zeros((4, 12), np.float32)[:, ::2] for _ in (p, *states)]
    for x, y in zip(strided, (p, *states), strict=True):
        x[...] = y
    step(strided[0], g, *strided[1:], **given)
    assert_same_bits([x.copy() for x in strided], want)
    lists = [[x[:2].copy(), x[2:].copy()] for x in (p, g, *states)]
    step(*lists, **given)
    assert_same_bits([np.concatenate(x) for x in (lists[0], *lists[2:])], want)


@optimizers
def test_messages_begin_with_the_function(optimizer):
    given, name = required(optimizer), optimizer.name
    p, g, *states = arrays(optimizer)
    before = [x.copy() for x in (p, *states)]
    for changes, error, message in [
        ({"lr": -1.0}, ValueError, "lr is -1.0; a finite number >= 0 is needed"),
        ({"lr": "fast"}, TypeError, "lr is 'fast'; a number is needed"),
        ({"grads": g[1:]}, ValueError, r"grads has shape \(19,\)"),
        ({"grads": g.astype(np.float64)}, TypeError, "grads has dtype float64"),
        ({"grads": p}, ValueError, "params and grads are the same memory"),
        ({"guard": 1}, TypeError, "guard is an int; a nagd_numba.Guard is needed"),
        ({"master": p}, ValueError, "master is for parameters of half precision, and these are float32"),
        *([({x: "no"}, TypeError, f"{x} is 'no'; True or False") for x in optimizer.fixed if x == "maximize"]),
        *([({x: "no"}, ValueError, f"{x} is 'no'; one of ") for x in optimizer.choices]),
        *(
            [
                ({x: 0.5}, TypeError, f"{x} is 0.5; a whole number is needed")
                for x in ["t"]
                if optimizer.rule.counts_steps
            ]
        ),
    ]:
        arguments = dict(zip(optimizer.arrays, (p, g, *states), strict=True)) | given | changes
        with pytest.raises(error, match=f"^{name}: {message}"):
            optimizer.step(**arguments)
    assert_same_bits([p, *states], before)


@optimizers
def test_constants_are_those_of_the_rule(optimizer):
    if optimizer.constants is None:
        pytest.skip("its scalar form takes the hyper-parameters")
    rule = optimizer.rule
    hyper = {**rule.hyper, **required(optimizer)}
    for dtype in (np.float32, np.float64):
        want = rule.scalars(tuple(map(float, hyper.values())), np.dtype(dtype), rule.defaults())
        made = optimizer.constants(dtype, **required(optimizer))
        assert list(map(type, made)) == [dtype] * len(want)
        assert made == want
    name = optimizer.constants.__name__
    with pytest.raises(ValueError, match=f"^{name}: lr is -1.0"):
        optimizer.constants(np.float32, **required(optimizer), lr=-1.0)
    with pytest.raises(TypeError, match=rf"^{name}: dtype is .*int32.*; np\.float32 or np\.float64 is needed"):
        optimizer.constants(np.int32, **required(optimizer))


def test_methods_of_training():
    names = [method.name for optimizer in OPTIMIZERS.values() for method in optimizer.methods]
    assert names == list(METHODS)  # none twice
    for method in METHODS.values():
        rule = optimizer_of(method.name).rule
        hyper = {*method.hyper, *filter(None, (method.momentum, method.momentum_next))}
        assert hyper <= set(rule.hyper)
        assert set(method.options) <= set(rule.options)


@optimizers
def test_it_goes_down(optimizer):
    """A quadratic, with the defaults but for the learning rate."""
    step = functools.partial(optimizer.step, lr=0.01)
    counts = optimizer.rule.counts_steps
    p = np.array([3.0, -2.0])
    states = [np.zeros(2) for _ in optimizer.rule.states] if optimizer.methods else [p.copy()]
    for t in range(1, 201):
        step(p, 2 * p, *states, **({"t": t} if counts else required(optimizer)))
    assert (p**2).sum() < 12.9
