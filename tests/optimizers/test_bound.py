"""Steps that are bound to host arrays: the bits of the step, what may change from call to call, and refusals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nagd_numba import Guard, adam_step, nadam_step, step
from nagd_numba.kernels.jit import SIMULATOR
from nagd_numba.optimizers.bound import bind
from nagd_numba.optimizers.registry import OPTIMIZERS
from tests.helpers.backends import JIT_OFF


def arrays(count, n=40, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    return [abs(rng.normal(size=n)).astype(dtype) for _ in range(count)]


def pair(count, **options):
    made = arrays(count, **options)
    return made, [x.copy() for x in made]


def same(a, b):
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(*(np.ascontiguousarray(z).view(np.uint8) for z in (x, y)))


USUAL = ("nesterov", "adam")


def value_of(optimizer, name):
    """A value of that number, in its range."""
    range_ = optimizer.rule.range_of(name)
    return st.sampled_from([x for x in (0, 0.05, 0.25, 0.5, 1, 7) if range_.holds(x) and (range_.whole or x < 1)])


@pytest.mark.parametrize("name", [x if x in USUAL else pytest.param(x, marks=pytest.mark.ci) for x in OPTIMIZERS])
@settings(max_examples=10)
@given(data=st.data())
def test_calls_are_steps(name, data):
    """Any numbers by name, in calls one after the other."""
    optimizer = OPTIMIZERS[name]
    numbers = [x for x in optimizer.settings if optimizer.is_number(x) and x != "t"]
    drawn = st.sets(st.sampled_from(numbers))
    ours, theirs = pair(len(optimizer.arrays))
    base = {x: data.draw(value_of(optimizer, x), label=x) for x in data.draw(drawn)}
    take = bind(optimizer.step, *ours, **base)
    count = "t" in optimizer.settings
    for t in range(1, 5):
        given_ = {x: data.draw(value_of(optimizer, x), label=x) for x in data.draw(drawn)}
        now = {**base, **given_, **({"t": t} if count else {})}
        optimizer.step(*theirs, **now)
        assert take(**given_, **({"t": t} if count else {})) is ours[0]
        same(ours, theirs)


def test_numbers_by_position_are_in_the_order_of_the_step():
    ours, theirs = pair(4)
    take = bind(adam_step, *ours, eps=1e-6)
    for t in range(1, 4):
        take(t, 0.1 / t, 0.8)
        adam_step(*theirs, t, 0.1 / t, 0.8, eps=1e-6)
    take(np.int64(4), np.float32(0.5))
    adam_step(*theirs, 4, float(np.float32(0.5)), eps=1e-6)
    same(ours, theirs)


def test_choices_and_flags_stay_as_they_were_bound():
    ours, theirs = pair(3)
    take = bind(step, *ours, convention="keras", maximize=True)
    for lr in (0.1, 0.2):
        take(lr)
        step(*theirs, lr, convention="keras", maximize=True)
    same(ours, theirs)


def test_momentum_next_follows_the_momentum_unless_it_is_given():
    ours, theirs = pair(3)
    take = bind(step, *ours, lr=0.1)
    for momentum, following in [(0.5, None), (0.9, 0.2), (0.3, None)]:
        named = {} if following is None else {"momentum_next": following}
        take(momentum=momentum, **named)
        step(*theirs, 0.1, momentum, **named)
        take(0.2, momentum)
        step(*theirs, 0.2, momentum)
    same(ours, theirs)


def test_a_gradient_that_is_filled_anew():
    p, g, v = arrays(3)
    take = bind(step, p, g, v, lr=0.1, momentum=0.0)
    for value in (1.0, 2.0):
        before = p.copy()
        g[:] = value
        take()
        np.testing.assert_array_equal(p, before - 0.1 * value)


@pytest.mark.parametrize("n", [0, 1, 39, 50_000])
def test_any_length(n):
    ours, theirs = pair(3, n=n)
    take = bind(step, *ours)
    for lr in (0.1, 0.2):
        take(lr)
        step(*theirs, lr)
    same(ours, theirs)


def test_strided_arrays_and_lists():
    wide, other = arrays(3, n=60), arrays(3, n=60)
    ours, theirs = [x[::3] for x in wide], [x[::3].copy() for x in wide]
    columns = [[x, y[::2], x[:0]] for x, y in zip(arrays(3, seed=1), other, strict=True)]
    copies = [[x.copy() for x in column] for column in columns]
    single, many = bind(step, *ours), bind(step, *columns)
    for lr in (0.1, 0.2):
        single(lr)
        many(lr)
        step(*theirs, lr)
        step(*copies, lr)
    same(ours, theirs)
    for a, b in zip(columns, copies, strict=True):
        same(a, b)
    assert bind(step, [], [], [])() == []


def test_lists_of_two_dtypes_are_refused_as_a_whole():
    """A rate that only float64 has: nothing of it is used."""
    columns = [[x, x.astype(np.float32)] for x in arrays(3)]
    before = [[x.copy() for x in column] for column in columns]
    take = bind(step, *columns)
    with pytest.raises(ValueError, match="bound step: lr is 1e\\+50; a finite number >= 0 is needed"):
        take(1e50)
    for a, b in zip(columns, before, strict=True):
        same(a, b)
    take(0.1)
    step(*before, 0.1)
    for a, b in zip(columns, before, strict=True):
        same(a, b)


def test_memory_of_a_tensor_that_is_exchanged():
    torch = pytest.importorskip("torch")
    p, g, v = (torch.from_numpy(x) for x in arrays(3))
    take = bind(step, p, g, v)
    take()
    p.data, old = torch.zeros(40, dtype=torch.float64), p.data
    before = old.clone()
    take()
    assert torch.equal(old, before)
    assert p.any()
    leaf = torch.ones(5, dtype=torch.float64, requires_grad=True)
    loss = (leaf * leaf).sum()
    bind(step, leaf, torch.ones(5, dtype=torch.float64), torch.zeros(5, dtype=torch.float64))()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_numbers_that_are_left_out_are_as_bound():
    """None too, and a number that follows another follows it again."""
    ours, theirs = pair(3)
    take = bind(step, *ours, lr=0.5, momentum=0.25)
    for given_, now in [
        ((None, 0.5), {"momentum": 0.5}),
        ((None, None, 0.5), {"momentum_next": 0.5}),
        ((np.float64(0.125), None), {"lr": 0.125}),
        ((1,), {"lr": 1.0}),
        ((0.5, 0.25, None, 0.5), {"weight_decay": 0.5}),  # another kernel
        ((), {}),
    ]:
        take(*given_)
        step(*theirs, **{"lr": 0.5, "momentum": 0.25, **now})
        same(ours, theirs)


def test_refusals_write_nothing():
    made, copies = pair(3)
    strided = [np.zeros(6)[::2] for _ in range(3)]
    for wrong, error, message in [
        (
            lambda: bind(print, *made),
            TypeError,
            "bind: step is <built-in function print>; one of",
        ),
        (lambda: bind(step, *made[:2]), TypeError, "bind: 2 arrays were given; params, grads, vel are needed"),
        (lambda: bind(step, *made, beta1=0.9), TypeError, "bind: beta1 is no setting of step; there are lr, momentum"),
        (lambda: bind(step, *made, guard=Guard()), TypeError, "bind: a guard decides anew at each step"),
        (lambda: bind(step, *made, lr=-1), ValueError, "bind: lr is -1"),
        (lambda: bind(step, *made, convention="pytorch"), ValueError, "convention is 'pytorch'"),
        (lambda: bind(step, made[0], made[0], made[2]), ValueError, "bind: params and grads are the same memory"),
        *([] if SIMULATOR else [(lambda: bind(step, *made, stream=0), ValueError, "bind: stream needs CUDA arrays")]),
        (lambda: bind(step, *made)(-1), ValueError, "bound step: lr is -1"),
        (lambda: bind(step, *made)(np.nan), ValueError, "bound step: lr is nan"),
        (lambda: bind(step, *made)("0.1"), TypeError, "bound step: lr is '0.1'; a number is needed"),
        (lambda: bind(step, *made)(*[0.1] * 5), TypeError, r"bound step(: 5 numbers were|\(\) takes from 0 to 4 pos)"),
        (lambda: bind(step, *made)(nesterov=False), TypeError, r"bound step(: nesterov is|\(\) got an unexpected key)"),
        (lambda: bind(step, *strided)(*[0.1] * 5), TypeError, "bound step: 5 numbers were given; there are lr, mome"),
        (lambda: bind(step, *strided)(nesterov=False), TypeError, "bound step: nesterov is no number of the step"),
        (lambda: bind(nadam_step, *made, made[0] + 1)(1.5), TypeError, "t is 1.5; a whole number is needed"),
    ]:
        with pytest.raises(error, match=message):
            wrong()
    same(made, copies)
    assert repr(bind(step, *strided)) == "<step, bound to a numpy.ndarray>"
    if not JIT_OFF:
        assert bind(step, *made).__name__ == "bound step"
