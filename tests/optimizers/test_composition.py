"""Rates for elements and groups, masks and averages, beside every rule; what is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nagd_numba
from nagd_numba.kernels.jit import JIT_OFF
from nagd_numba.optimizers.registry import OPTIMIZERS
from tests.helpers.composed_steps import alone, arrays_of, dtypes, numbers_of, optimizers, rate_name, same


@optimizers
@dtypes
def test_rates_of_elements(optimizer, dtype):
    rng = np.random.default_rng(1)
    n = 70
    arrays, numbers = arrays_of(optimizer, rng, n, dtype), numbers_of(optimizer)
    names = {"lr", rate_name(optimizer)}
    rates = {x: np.where(np.arange(n) % 7, rng.uniform(0, 0.5, n), 0).astype(dtype) for x in names}
    expected = [
        alone(optimizer, arrays, k, **{**numbers, **{x: float(r[k]) for x, r in rates.items()}}) for k in range(n)
    ]
    optimizer.step(*arrays, **{**numbers, **rates})
    for got, wanted in zip([arrays[0], *arrays[2:]], zip(*expected, strict=True), strict=True):
        same(got, np.concatenate(wanted))


@optimizers
@dtypes
@pytest.mark.parametrize("kind", ["bool", "places"])
def test_masked_elements_are_neither_read_nor_written(optimizer, dtype, kind):
    rng = np.random.default_rng(2)
    arrays, numbers = arrays_of(optimizer, rng, 133, dtype), numbers_of(optimizer)
    mask = rng.random(133) < 0.5
    plain = [x.copy() for x in arrays]
    optimizer.step(*plain, **numbers)
    for x in arrays:
        x[~mask] = np.nan
    optimizer.step(*arrays, **numbers, mask=mask if kind == "bool" else np.flatnonzero(mask))
    for got, wanted in zip(arrays, plain, strict=True):
        assert np.isnan(got[~mask]).all()
        same(got[mask], wanted[mask])


@pytest.mark.skipif(JIT_OFF, reason="no threads with the JIT off")
@pytest.mark.parametrize("threads", [pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.ci)])
def test_any_number_of_threads_has_the_bits_of_one_pass(threads):
    import numba

    rng = np.random.default_rng(3)
    n, optimizer = 300_000, OPTIMIZERS["nesterov"]
    arrays = arrays_of(optimizer, rng, n, np.float32)
    lower, mask = np.full(n, -0.5, np.float32), rng.random(n) < 0.7
    average = nagd_numba.Average(arrays[0], decay=0.9)
    expected = [x.copy() for x in arrays]
    for first in range(0, n, 20_011):  # too short for threads
        part = slice(first, first + 20_011)
        own = nagd_numba.Average(expected[0][part], decay=0.9)
        nagd_numba.step(*(x[part] for x in expected), mask=mask[part], lower=lower[part], upper=0.75, average=own)
    before = numba.get_num_threads()
    try:
        numba.set_num_threads(min(threads, before))
        for _ in range(12):  # some in each form
            again = [x.copy() for x in arrays]
            nagd_numba.step(*again, mask=mask, lower=lower, upper=0.75, average=average)
            same(again[0], expected[0])
            same(again[2], expected[2])
    finally:
        numba.set_num_threads(before)


LAYOUT = [("encoder.W", (5, 3)), ("encoder.b", (3,)), ("head/W", (3, 2)), ("head/b", (2,)), ("empty", (0, 4))]


@optimizers
def test_segments_have_the_bits_that_they_have_alone(optimizer):
    rng = np.random.default_rng(4)
    flats = [nagd_numba.FlatParams(LAYOUT, np.float32) for _ in range(2 + len(optimizer.rule.states))]
    for x, values in zip(flats, arrays_of(optimizer, rng, flats[0].flat.size, np.float32), strict=True):
        x.flat[:] = values
    numbers, other = numbers_of(optimizer), rate_name(optimizer)
    groups = {"encoder": {"lr": 0.5}, "*W": {other: 0.03125}, "head/b": {"lr": 0.0625}}
    own = {
        "encoder.W": {"lr": 0.5, other: 0.03125},
        "encoder.b": {"lr": 0.5},
        "head/W": {other: 0.03125},
        "head/b": {"lr": 0.0625},
        "empty": {},
    }
    expected = [x.like(x.flat.copy()) for x in flats]
    for name, entry in own.items():
        optimizer.step(*(x[name] for x in expected), **{**numbers, **entry})
    optimizer.step(*flats, **numbers, groups=groups)
    for got, wanted in zip(flats, expected, strict=True):
        same(got.flat, wanted.flat)


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from([0.0, 0.1, 0.5])), min_size=1, max_size=12), st.data())
@settings(max_examples=30, deadline=None)
def test_groups_and_masks_and_bounds_in_any_layout(segments, data):
    layout = [(f"s{k}", (n,)) for k, (n, _) in enumerate(segments)]
    rng = np.random.default_rng(len(segments))
    p, g, v = (nagd_numba.FlatParams(layout, np.float64) for _ in range(3))
    n = p.flat.size
    for x in (p, g, v):
        x.flat[:] = rng.normal(size=n)
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)), bool)
    places = data.draw(st.booleans())
    expected = [x.like(x.flat.copy()) for x in (p, g, v)]
    groups = {f"s{k}": {"lr": lr, "weight_decay": 2 * lr} for k, (_, lr) in enumerate(segments) if lr > 0.05}
    for name, _ in layout:
        entry = {"lr": 0.01, **groups.get(name, {})}
        where = mask[p.like(np.arange(n, dtype=np.float64))[name].astype(int)]
        nagd_numba.step(*(x[name] for x in expected), **entry, mask=where, upper=0.5)
    chosen = np.flatnonzero(mask) if places else mask
    nagd_numba.step(p, g, v, lr=0.01, mask=chosen, upper=0.5, groups=groups)
    for got, wanted in zip((p, g, v), expected, strict=True):
        same(got.flat, wanted.flat)


@optimizers
@pytest.mark.parametrize("decay", [None, 0.75])
def test_averages(optimizer, decay):
    rng = np.random.default_rng(9)
    arrays, numbers = arrays_of(optimizer, rng, 40, np.float64), numbers_of(optimizer)
    average, seen = nagd_numba.Average(arrays[0], decay, start=2), []
    plain = [x.copy() for x in arrays]
    for k in range(1, 9):
        optimizer.step(*arrays, **numbers, average=average)
        optimizer.step(*plain, **numbers)
        same(arrays[0], plain[0])
        seen.append(plain[0].copy())
        if k <= 3:
            same(average.value, seen[-1])
    weights = np.ones(6) if decay is None else decay ** np.arange(5.0, -1.0, -1.0)
    wanted = np.average(seen[2:], axis=0, weights=weights)
    scale = np.max(np.abs(seen))
    assert np.abs(average.value - wanted).max() < 6 * 4 * np.finfo(float).eps * scale  # 6 steps of at most 4 roundings
    with average.swapped(arrays[0]):
        assert np.abs(arrays[0] - wanted).max() < 24 * np.finfo(float).eps * scale
        same(average.value, plain[0])
    same(arrays[0], plain[0])
    assert average.steps == 8


@pytest.mark.ci
def test_averages_of_pytorch():
    swa_utils = pytest.importorskip("torch.optim.swa_utils")
    import torch

    rng = np.random.default_rng(10)
    layer = torch.nn.Linear(4, 3, bias=False)
    model = swa_utils.AveragedModel(layer)
    p, v = layer.weight.detach().numpy(), np.zeros((3, 4), np.float32)
    average = nagd_numba.Average(p)
    for _ in range(10):
        nagd_numba.step(p, rng.normal(size=(3, 4)).astype(np.float32), v, lr=0.1, average=average)
        model.update_parameters(layer)
    np.testing.assert_allclose(average.value, model.module.weight.detach().numpy(), rtol=0, atol=1e-6)


@pytest.mark.slow
def test_strided_and_fortran_arrays_and_lists():
    rng = np.random.default_rng(11)
    contiguous = [rng.normal(size=(6, 8)) for _ in range(3)]
    mask, lower, rates = rng.random((6, 8)) < 0.5, rng.normal(size=(6, 8)) - 1, rng.uniform(0, 1, (6, 8))
    expected = [x.copy() for x in contiguous]
    nagd_numba.step(*expected, lr=rates, mask=mask, lower=lower)
    fortran = [np.asfortranarray(x) for x in contiguous]
    nagd_numba.step(*fortran, lr=np.asfortranarray(rates), mask=np.asfortranarray(mask), lower=np.asfortranarray(lower))
    strided = [np.repeat(x, 2, axis=1)[:, ::2] for x in contiguous]
    nagd_numba.step(*strided, lr=rates, mask=mask, lower=lower)
    lists = [[x[:2].copy(), np.asfortranarray(x[2:])] for x in contiguous]
    own = {"lr": [rates[:2], rates[2:]], "mask": [mask[:2], mask[2:]], "lower": [lower[:2], lower[2:]]}
    nagd_numba.step(*lists, **own)
    for x, f, s, (first, rest) in zip(expected, fortran, strided, lists, strict=True):
        same(np.ascontiguousarray(f), x)
        same(np.ascontiguousarray(s), x)
        same(np.concatenate([first, np.ascontiguousarray(rest)]), x)


@pytest.mark.ci
def test_bound_steps():
    rng = np.random.default_rng(12)
    arrays = arrays_of(OPTIMIZERS["adam"], rng, 30, np.float32)
    again = [x.copy() for x in arrays]
    averages = [nagd_numba.Average(arrays[0], 0.5) for _ in range(2)]
    mask = rng.random(30) < 0.5
    take = nagd_numba.bind(nagd_numba.adam_step, *arrays, lr=0.1, mask=mask, upper=0.5, average=averages[0])
    for t in (1, 2, 3):
        take(t, lr=0.1 * t)
        nagd_numba.adam_step(*again, t, lr=0.1 * t, mask=mask, upper=0.5, average=averages[1])
    for x, y in zip([*arrays, averages[0].value], [*again, averages[1].value], strict=True):
        same(x, y)
    rates = np.full(30, 0.25, np.float32)
    take = nagd_numba.bind(nagd_numba.step, *arrays[:3], lr=rates, weight_decay=0.0)
    take()
    take(momentum=0.5)
    nagd_numba.step(*again[:3], lr=0.25)
    nagd_numba.step(*again[:3], lr=0.25, momentum=0.5)
    same(arrays[0], again[0])
    for wrong in (lambda: take(0.5), lambda: take(lr=0.5)):
        with pytest.raises(TypeError, match="lr is bound to an array"):
            wrong()
    flats = [nagd_numba.FlatParams([("W", (20,)), ("b", (10,))], flat=x.copy()) for x in arrays[:3]]
    take = nagd_numba.bind(nagd_numba.step, *flats, lr=0.1, groups={"b": {"momentum": 0.25}})
    for lr in (0.1, 0.2):
        take(lr=lr)
        nagd_numba.step(*(x[:20] for x in arrays[:3]), lr=lr)
        nagd_numba.step(*(x[20:] for x in arrays[:3]), lr=lr, momentum=0.25)
    same(flats[0].flat, arrays[0])
    with pytest.raises(ValueError, match=r"lr is -1\.0"):
        take(lr=-1.0)
    same(flats[0].flat, arrays[0])
    # The momentum of the next step follows that of the group, until it is another.
    for next_ in (None, 0.5, None):
        take(momentum=0.75, momentum_next=next_)
        nagd_numba.step(*(x[:20] for x in arrays[:3]), lr=0.1, momentum=0.75, momentum_next=next_)
        nagd_numba.step(*(x[20:] for x in arrays[:3]), lr=0.1, momentum=0.25, momentum_next=next_)
    same(flats[0].flat, arrays[0])
    with pytest.raises(ValueError, match="rounding does not go with"):
        nagd_numba.bind(nagd_numba.step, *arrays[:3], mask=mask, rounding=nagd_numba.StochasticRounding(1))


def test_bound_averages_count_their_steps():
    """Also where a bound call is refused, or takes the way of unusual numbers."""
    rng = np.random.default_rng(13)
    arrays = arrays_of(OPTIMIZERS["nesterov"], rng, 20, np.float64)
    again = [x.copy() for x in arrays]
    averages = [nagd_numba.Average(arrays[0], start=1) for _ in range(2)]
    layout = [("W", (15,)), ("b", (5,))]
    flats = [nagd_numba.FlatParams(layout, flat=x) for x in arrays]
    take = nagd_numba.bind(nagd_numba.step, *flats, average=averages[0], groups={"b": {"lr": 0.5}})
    for k, lr in enumerate((0.1, np.float32(0.25), 0.3, 1)):
        take(lr=lr)
        flats_again = [nagd_numba.FlatParams(layout, flat=x) for x in again]
        nagd_numba.step(*flats_again, lr=lr, average=averages[1], groups={"b": {"lr": 0.5}})
        assert averages[0].steps == averages[1].steps == k + 1
        with pytest.raises(ValueError, match="momentum is -1"):
            take(momentum=-1.0)
    for x, y in zip([*arrays, averages[0].value], [*again, averages[1].value], strict=True):
        same(x, y)


def test_flat_params_are_arrays():
    p, g, v = (nagd_numba.FlatParams([("W", (2, 3))]) for _ in range(3))
    g.flat[:] = 1
    assert nagd_numba.step(p, g, v, lr=0.5, momentum=0.0) is p
    assert p.flat.tolist() == [-0.5] * 6
    nagd_numba.bind(nagd_numba.step, p, g, v, lr=0.5, momentum=0.0)()
    assert p.flat.tolist() == [-1.0] * 6


WRONG = [
    ({"mask": np.ones(4, bool)}, ValueError, r"mask has shape \(4,\) and params \(5,\)"),
    ({"mask": np.ones(5)}, TypeError, "mask has dtype float64"),
    ({"mask": np.array([1, 1])}, ValueError, "mask has places out of order"),
    ({"mask": np.array([0, 5])}, ValueError, "mask has places out of order or out of range"),
    ({"mask": np.array([-1, 2])}, ValueError, "mask has places out of order or out of range"),
    ({"mask": [True] * 5}, TypeError, "mask must be as params is"),
    ({"lower": 1.0, "upper": 0.0}, ValueError, "lower is above upper"),
    ({"lower": np.zeros(5), "upper": np.full(5, -1.0)}, ValueError, "lower is above upper"),
    ({"lower": np.zeros(4)}, ValueError, "lower has shape"),
    ({"lower": np.zeros(5, np.float32)}, TypeError, "lower has dtype float32"),
    ({"lower": np.inf}, ValueError, "lower is inf"),
    ({"upper": "1"}, TypeError, "upper is '1'"),
    ({"prox": "l2"}, ValueError, "prox is 'l2'"),
    ({"prox": "l1"}, ValueError, "prox_weight"),
    ({"prox": "l1", "prox_weight": -1.0}, ValueError, "prox_weight is -1.0"),
    ({"prox_weight": 1.0}, ValueError, "prox_weight is for"),
    ({"prox": "box"}, ValueError, "lower, upper or both"),
    ({"prox": "nonneg", "lower": 1.0}, ValueError, "leave out one of them"),
    ({"prox": "scaled_l1", "prox_weight": 1.0}, ValueError, "nesterov has no scale of elements for it"),
    ({"prox": abs}, TypeError, r"numba.njit\(prox\)"),
    ({"average": np.zeros(5)}, TypeError, "a nagd_numba.Average is needed"),
    ({"average": nagd_numba.Average(np.zeros(4))}, ValueError, "average has shape"),
    ({"groups": {"W": {}}}, TypeError, "groups needs params that are a FlatParams"),
    ({"lr": np.array([0.1, 0.1, -0.1, 0.1, 0.1])}, ValueError, r"lr is -0.1 at \(2,\)"),
    ({"lr": np.array([0.1, 0.1, np.nan, 0.1, 0.1])}, ValueError, "lr is nan"),
    ({"lr": np.full(5, np.inf)}, ValueError, "lr is inf"),
    ({"lr": np.zeros((5, 1))}, ValueError, "lr has shape"),
    ({"momentum": np.zeros(5)}, TypeError, "only lr and weight_decay may be arrays"),
    ({"mask": np.ones(5, bool), "lr": -1.0}, ValueError, "lr is -1.0"),
    ({"mask": np.ones(5, bool), "guard": nagd_numba.Guard()}, ValueError, "guard does not go with"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("keywords", "error", "message"), WRONG, ids=[f"{k}-{next(iter(x[0]))}" for k, x in enumerate(WRONG)]
)
def test_unfit_arguments_are_refused_before_anything_is_written(keywords, error, message):
    arrays = [np.ones(5), np.ones(5), np.ones(5)]
    average = keywords.get("average")
    with pytest.raises(error, match=message):
        nagd_numba.step(*arrays, **keywords)
    assert all((x == 1).all() for x in arrays)
    assert getattr(average, "steps", 0) == 0


@pytest.mark.parametrize(
    ("groups", "error", "message"),
    [
        ({"V": {"lr": 1.0}}, ValueError, r"groups\['V'\] matches no segment; there are 'W', 'b'"),
        ({"W": 0.1}, TypeError, "a dict of settings is needed"),
        ({"W": {"nesterov": False}}, TypeError, "groups names 'nesterov'"),
        ({"W": {"lr": -0.1}}, ValueError, "lr is -0.1"),
        ({"W": {"lower": 1.0}}, TypeError, "groups names 'lower'"),
        ([{"lr": 0.1}], TypeError, "a dict is needed"),
    ],
)
def test_unfit_groups(groups, error, message):
    flats = [nagd_numba.FlatParams([("W", (2, 2)), ("b", (2,))]) for _ in range(3)]
    with pytest.raises(error, match=message):
        nagd_numba.step(*flats, groups=groups)


def test_twenty_thousand_groups():
    """Their constants take more memory than the heap keeps when it is freed."""
    rates = 1e-6 * np.arange(20_000)
    columns = [[np.full(2, x) for _ in rates] for x in (1.0, 0.5, 0.0)]
    wanted = [[x.copy() for x in column] for column in columns]
    nagd_numba.step(*columns, groups=[{"lr": lr} for lr in rates])
    for lr, *arrays in zip(rates, *wanted, strict=True):
        nagd_numba.step(*arrays, lr=lr)
    same(*map(np.array, (columns, wanted)))


def test_bounds_of_groups():
    flats = [nagd_numba.FlatParams([("W", (2, 2)), ("b", (2,))]) for _ in range(3)]
    with pytest.raises(ValueError, match=r"lower is 1\.0, above upper"):
        nagd_numba.step(*flats, lower=-1.0, upper=0.5, groups={"b": {"lower": 1.0}})
    assert not flats[0].flat.any()
    nagd_numba.step(*flats, lower=-1.0, upper=0.5, groups={"b": {"lower": 0.25}})
    assert flats[0].flat.tolist() == [0.0] * 4 + [0.25] * 2


@pytest.mark.ci
def test_memory_is_not_shared_with_what_is_written():
    p, g, v = np.ones(5), np.ones(5), np.ones(5)
    with pytest.raises(ValueError, match="params and lower are the same memory"):
        nagd_numba.step(p, g, v, lower=p)
    bounds = np.zeros(5)
    bounds.flags.writeable = False
    nagd_numba.step(p, g, v, lower=bounds, upper=bounds)  # neither is written
    assert p.tolist() == [0.0] * 5


def test_an_average_of_unfit_arguments():
    for keywords, message in (
        ({"decay": 1.0}, "decay is 1.0"),
        ({"decay": -0.1}, "decay is -0.1"),
        ({"start": -1}, "start"),
    ):
        with pytest.raises(ValueError, match=message):
            nagd_numba.Average(np.zeros(3), **keywords)
    with pytest.raises(TypeError, match="params has dtype int64"):
        nagd_numba.Average(np.zeros(3, np.int64))
    average = nagd_numba.Average(np.zeros(3))
    with pytest.raises(ValueError, match="params has shape"):
        average.swap(np.zeros(4))
