"""Parameters of 16 bits and states of 8 bits on the host, against NumPy's, ml_dtypes' and exact arithmetic."""

import copy

import numpy as np
import pytest

import nagd_numba
from nagd_numba import Int8State, StochasticRounding, adam_step, int8_states, step
from nagd_numba.optimizers.registry import OPTIMIZERS
from tests.helpers.backends import JIT_OFF, SIMULATOR
from tests.helpers.bits import same_bits
from tests.helpers.stored_steps import BFLOAT16, FLOAT16, Step, bits_of, settings

FORMS = ("nearest", "master", "compensation", "random", "int8", "float32 int8")
SLOW = JIT_OFF or SIMULATOR


def cases():
    for name, optimizer in OPTIMIZERS.items():
        for dtype in (BFLOAT16, FLOAT16):
            for form in FORMS:
                if dtype == FLOAT16 and form == "float32 int8":
                    continue
                first = (name, dtype) == ("nesterov", BFLOAT16) and form in ("compensation", "random", "int8")
                always = first or (name, dtype, form) == ("adam", BFLOAT16, "int8")
                some = name == "nesterov" or (name == "rmsprop" and form == "compensation")
                marks = [] if always else [pytest.mark.ci if some else pytest.mark.slow]
                yield pytest.param(optimizer, dtype, form, marks=marks, id=f"{name}-{dtype}-{form}")


@pytest.mark.parametrize(("optimizer", "dtype", "form"), list(cases()))
def test_every_optimizer_in_every_form(optimizer, dtype, form):
    n = 37 if SLOW else 321
    ours, wanted = (Step(optimizer, dtype, form, n) for _ in range(2))
    for _ in range(2 if SLOW else 4):
        assert ours.take() is ours.params
        wanted.expect()
        for x, y in zip(ours.arrays(), wanted.arrays(), strict=True):
            assert same_bits(bits_of(x), bits_of(y))
    if ours.rounding is not None:
        assert ours.rounding.steps == wanted.rounding.steps > 0


def test_bits_do_not_depend_on_cuts_threads_and_places():
    """One array, lists of parts, parts one by one, PyTorch's tensors, a bound step: the bits are those of one array."""
    n, cut = (200, 64) if SLOW else (70_001, 41_024)
    one = Step(OPTIMIZERS["nesterov"], BFLOAT16, "int8", n)
    start = copy.deepcopy(one)
    one.take()
    one.take()

    def parts(x):
        (vel,) = x.states
        return [
            [x.params[at], x.grads[at], Int8State(vel.codes[at], vel.scales[scales])]
            for at, scales in (
                (slice(0, cut), slice(0, cut // 32)),
                (slice(cut, n), slice(cut // 32, None)),
            )
        ]

    def same(x):
        return all(same_bits(bits_of(a), bits_of(b)) for a, b in zip(one.arrays(), x.arrays(), strict=True))

    given = settings(one.optimizer)
    lists = copy.deepcopy(start)
    columns = list(map(list, zip(*parts(lists), strict=True)))
    for _ in range(2):
        step(*columns, **given, rounding=lists.rounding)
    assert same(lists)
    alone = copy.deepcopy(start)
    for first, part in zip((0, cut), parts(alone), strict=True):
        rounding = StochasticRounding(7, first=first)
        take = nagd_numba.bind(step, *part, **given, rounding=rounding)
        take()
        assert take(lr=0.05) is part[0]
        assert rounding.steps == 2
    assert same(alone)


@pytest.mark.skipif(SLOW, reason="of arrays, as the others")
def test_tensors_of_torch():
    torch = pytest.importorskip("torch")
    one = Step(OPTIMIZERS["nesterov"], BFLOAT16, "compensation", 321)
    tensors = [torch.from_numpy(bits_of(x).astype(np.int16)).view(torch.bfloat16) for x in (one.params, one.grads)]
    kept, vel = torch.zeros(321, dtype=torch.bfloat16), torch.zeros(321)
    version = tensors[0]._version
    take = nagd_numba.bind(step, *tensors, vel, **settings(one.optimizer), compensation=kept)
    for _ in range(3):
        one.take()
        take()
        tensors[0].data = tensors[0].data.clone()  # its memory moves
    assert tensors[0]._version > version
    made = [x.view(torch.int16).numpy() for x in (tensors[0], kept)]
    assert all(same_bits(x, bits_of(y)) for x, y in zip(made, (one.params, one.beside["compensation"]), strict=True))
    with pytest.raises(TypeError, match="vel has dtype bfloat16; float32 is needed beside params"):
        step(*tensors, kept)


def test_refusals():
    p, g, v = np.ones(40, BFLOAT16), np.ones(40, BFLOAT16), np.zeros(40, np.float32)
    exact, rounding = np.ones(40, np.float32), StochasticRounding(1)
    (vel,) = int8_states(step, p)
    m, square = int8_states(adam_step, p)
    read_only = p.copy()
    read_only.flags.writeable = False
    overlap = Int8State(vel.codes, vel.codes.view(np.float32)[:2])
    for arguments, more, error, message in [
        ((p, exact, v), {}, TypeError, "grads has dtype float32; bfloat16 is needed beside params"),
        ((p, g.astype(FLOAT16), v), {}, TypeError, "grads has dtype float16; bfloat16 is needed"),
        ((p, g, p.copy()), {}, TypeError, "vel has dtype bfloat16; float32 is needed"),
        ((p, g[1:], v), {}, ValueError, r"grads has shape \(39,\)"),
        ((p[::2], g[::2], v[::2]), {}, ValueError, "strided"),
        ((p, p, v), {}, ValueError, "params and grads overlap in memory"),
        ((p, g, v), {"compensation": p}, ValueError, "params and compensation overlap in memory"),
        ((p, g, v), {"compensation": v}, TypeError, "compensation has dtype float32; bfloat16 is needed"),
        ((p, g, v), {"master": v}, ValueError, "vel and master are the same memory"),
        ((p, g, v), {"master": exact, "compensation": g}, ValueError, "master and compensation are two ways"),
        ((p, g, v), {"master": exact, "rounding": rounding}, ValueError, "rounding has nothing to round"),
        ((exact, exact.copy(), v), {"rounding": rounding}, ValueError, "rounding has nothing to round"),
        ((exact, exact.copy(), v), {"compensation": exact.copy()}, ValueError, "compensation is for parameters of"),
        ((p, g, v), {"rounding": 3}, TypeError, "rounding is an int; a nagd_numba.StochasticRounding is needed"),
        ((p, g, v), {"rounding": rounding, "guard": nagd_numba.Guard()}, ValueError, "guard is for states of full"),
        ((read_only, g, v), {}, ValueError, "params is read-only"),
        ((p.astype(">f2"), g.astype(">f2"), v), {}, TypeError, "params has dtype >f2"),
        ((p, g, vel), {}, TypeError, "vel is an Int8State, whose codes are rounded by random bits, and there are none"),
        ((p, g, square), {"rounding": rounding}, TypeError, "vel.codes has dtype uint8; int8 is needed, since vel can"),
        ((p, g, overlap), {"rounding": rounding}, ValueError, "vel.codes and vel.scales overlap"),
        ((p, g, Int8State(vel.codes[1:], vel.scales)), {"rounding": rounding}, ValueError, r"vel.codes has shape \(39"),
        ((p, g, Int8State(vel.codes, vel.scales[1:])), {"rounding": rounding}, ValueError, r"vel.scales has shape \(1"),
        ((np.ones(40), np.ones(40), vel), {"rounding": rounding}, TypeError, "params has dtype float64; .* beside vel"),
        ((p, g, v), {"lr": -1.0}, ValueError, "lr is -1"),
    ]:
        with pytest.raises(error, match=f"^step: .*{message}"):
            step(*arguments, **more)
    with pytest.raises(TypeError, match=r"v\.codes has dtype int8; uint8 is needed, since v is never negative"):
        adam_step(p, g, m, m, 1, rounding=rounding)
    with pytest.raises(ValueError, match="guard is for states of full precision"):
        step([exact], [g], [vel], guard=nagd_numba.Guard())
    with pytest.raises(ValueError, match="fista_step, whose state does not begin with zeros"):
        int8_states(nagd_numba.fista_step, p)
    with pytest.raises(TypeError, match=r"step is .*; one of nagd_numba's is needed"):
        int8_states(np.add, p)
    for wrong in (-1, 2**64, 0.5):
        with pytest.raises((TypeError, ValueError), match="StochasticRounding: seed is"):
            StochasticRounding(wrong)
    assert (p == 1).all()
    assert not v.any()
    assert not vel.codes.any()
    assert rounding.steps == 0


def test_what_goes_on_from_a_count_is_what_would_have_gone_on():
    one = Step(OPTIMIZERS["nesterov"], BFLOAT16, "random", 50)
    one.take()
    other = copy.deepcopy(one)
    other.rounding = StochasticRounding(other.rounding.seed, other.rounding.steps)
    one.take()
    other.take()
    assert same_bits(bits_of(one.params), bits_of(other.params))
    other.rounding.steps = 0
    other.take()
    one.take()
    assert not same_bits(bits_of(one.params), bits_of(other.params))


def decayed(dtype, form, n, g, steps, lr):
    """Parameters of ones after steps of gradient descent along a constant gradient, and the exact ones."""
    made = Step(OPTIMIZERS["nesterov"], dtype, form, n)
    made.params[...], made.grads[...] = 1.0, g
    exact = 1.0
    for _ in range(steps):
        given = {} if made.rounding is None else {"rounding": made.rounding}
        step(made.params, made.grads, *made.states, lr=lr, momentum=0.0, weight_decay=0.01, **made.beside, **given)
        exact -= lr * (float(made.grads[0]) + 0.01 * exact)
    return made, exact


@pytest.mark.skipif(SLOW, reason="many steps")
def test_what_nearest_loses_compensation_and_random_rounding_keep():
    """300 steps of 1e-4 from 1 on; to nearest the next bfloat16 below is 2^-8 away, and no step is half of that."""
    steps, lr, u = 300, 1e-4, 2.0**-8
    kahan, exact = decayed(BFLOAT16, "compensation", 8, 0.5, steps, lr)
    kept = kahan.params.astype(np.float64) + kahan.beside["compensation"].astype(np.float64)
    assert abs(kept - exact).max() <= steps * (u**2 + 2.0**-24)  # each step rounds the compensation, |c| <= u
    assert abs(kahan.params.astype(np.float64) - exact).max() <= u + steps * u**2
    n = 20_000
    random, exact = decayed(BFLOAT16, "random", n, 0.5, steps, lr)
    deviation = np.sqrt(steps) * u / 2  # of an element: a step's is at most half of the distance of its neighbours
    errors = random.params.astype(np.float64) - exact
    assert abs(errors.mean()) < 5 * deviation / np.sqrt(n)
    assert errors.std() < deviation
    assert (np.float32(1) - np.float32(lr * 0.51)).astype(BFLOAT16) == 1.0  # where nearest stays


@pytest.mark.skipif(SLOW, reason="many steps")
def test_a_velocity_of_int8_has_the_mean_of_the_exact_one():
    """A gradient of a thousandth beside one of 1: v <- 0.9 v + g has the limit 10 g, and its variance a bound.

    Rounded to nearest it would stay 0: 0.001 is a fraction of the block's scale, 10/127.
    """
    made = Step(OPTIMIZERS["nesterov"], BFLOAT16, "int8", 3200)
    made.params[...], made.grads[...] = 0.0, 1e-3
    made.grads[::32] = 1.0
    seen = []
    for t in range(200):
        step(made.params, made.grads, *made.states, lr=0.0, weight_decay=0.01, rounding=made.rounding)
        if t >= 100:
            seen.append(made.states[0].values().reshape(-1, 32)[:, 1:])
    small = np.array(seen, np.float64)
    scale = 10 / 127
    bound = scale**2 / (4 * (1 - 0.9**2))
    independent = small.size / 20  # successive velocities are correlated over about (1 + mu)/(1 - mu) steps
    assert abs(small.mean() - 10 * float(made.grads[1])) < 5 * np.sqrt(bound / independent)
    assert small.var() < bound


def test_states_go_through_a_file(tmp_path):
    """What was saved after two steps goes on as what was not."""
    path = tmp_path / "run.npz"
    one = Step(OPTIMIZERS["nesterov"], BFLOAT16, "int8", 50)
    one.take()
    one.take()
    content = {"params": [one.params], "vel": one.states[0], "rounding": one.rounding, "t": 2, "lr": 0.5}
    nagd_numba.save_states(path, **content, half=np.ones(3, FLOAT16), wide=np.ones((2, 2)))
    found = nagd_numba.load_states(path)
    assert list(found) == [*content, "half", "wide"]
    assert (found["t"], found["lr"], found["half"].dtype, found["wide"].shape) == (2, 0.5, FLOAT16, (2, 2))
    assert found["params"][0].dtype == BFLOAT16
    other = copy.deepcopy(one)
    other.params, other.states, other.rounding = found["params"][0], [found["vel"]], found["rounding"]
    one.take()
    other.take()
    assert all(same_bits(bits_of(x), bits_of(y)) for x, y in zip(one.arrays(), other.arrays(), strict=True))
    before = path.read_bytes()
    with pytest.raises(TypeError, match="save_states: things is a set"):
        nagd_numba.save_states(path, params=one.params, things={1})
    assert path.read_bytes() == before
    np.savez(path, params=np.ones(3))
    with pytest.raises(ValueError, match=r"load_states: .* is not a file of save_states"):
        nagd_numba.load_states(path)
    np.savez(path, **{"nagd_numba_states": 1, "vel.codes": np.ones(3), "vel.scales": np.ones(1)})
    with pytest.raises(ValueError, match=r"load_states: .*vel\.codes and its scales have dtypes float64"):
        nagd_numba.load_states(path)
