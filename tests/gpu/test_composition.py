"""Masks, bounds, proximal maps, averages, groups and rates of elements on device arrays, to the bits of the host."""

import math
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

import nagd_numba
from nagd_numba import adam_step, bind, step
from nagd_numba.gpu import device_array, elementwise, repeats
from nagd_numba.kernels.composed import Parts, composed
from nagd_numba.optimizers.registry import OPTIMIZERS
from tests.gpu.arrays import arrays, same
from tests.helpers import fake_driver, rules
from tests.helpers.bits import same_bits
from tests.helpers.half import Half, round_to, widen

pytestmark = pytest.mark.usefixtures("compiler")


DEFAULTS = {"convention": "torch", "nesterov": True, "decoupled": False, "maximize": False}


def masks(n, seed, part):
    """Elements at random, but for runs of ones and of zeros, so that there are groups of each kind."""
    rng = np.random.default_rng(seed)
    mask = rng.random(n) < part
    mask[n // 5 : n // 3], mask[n // 2 : n // 2 + n // 7] = True, False
    return mask


offsets = st.one_of(st.integers(0, 5).map(lambda k: [k] * 12), st.lists(st.integers(0, 5), min_size=12, max_size=12))
drawn = {
    "n": st.integers(0, 2000),
    "offsets": offsets,
    "part": st.sampled_from([0.0, 0.3, 0.9, 1.0]),
    "seed": st.integers(0, 99),
    "multiprocessors": st.integers(1, 3),
    "threads": st.sampled_from([1, 31, 64, 256]),
    "order": st.sampled_from(["forward", "reverse", "random"]),
}


@settings(max_examples=30)
@given(**drawn, byte=st.sampled_from([np.bool_, np.uint8]))
def test_masked_elements_have_no_part_in_the_step(n, offsets, part, seed, multiprocessors, threads, order, byte):
    """Any length, offset and grid: the bits of the host's where the mask is not 0, and what was there elsewhere."""
    host, mask = arrays(n, seed=seed), masks(n, seed, part)
    host[1][~mask] = np.nan  # which would spread
    before = [x.copy() for x in host]
    with (
        mock.patch.object(elementwise, "THREADS", threads),
        fake_driver.installed(multiprocessors=multiprocessors, order=order) as gpu,
    ):
        device = [gpu.array(x, offset=4 * k) for x, k in zip(host, offsets, strict=False)]
        bytes_ = gpu.array(mask if byte is np.bool_ else mask * np.uint8(7), offset=offsets[3])
        for _ in range(2):
            assert step(*device, lr=0.1, weight_decay=0.01, mask=bytes_) is device[0]
            step(*host, lr=0.1, weight_decay=0.01, mask=mask)
        same(gpu, host, device)
        assert all(same_bits(gpu.download(y)[~mask], x[~mask]) for x, y in zip(before, device, strict=True))


@pytest.mark.parametrize("offset", [0, 1])
def test_masked_elements_are_not_written(gpu, offset):
    """Not even with what was there, which others may change; in groups, and in arrays that are nothing but rest."""
    n, mask = 500, masks(500, 0, 0.6)
    host = arrays(n)
    device = [gpu.array(x, offset=4 * (offset if k == 1 else 0)) for k, x in enumerate(host)]
    bytes_ = gpu.array(mask)
    optimizer = OPTIMIZERS["nesterov"]
    rule, options = composed(optimizer.rule, Parts(mask="bytes")), optimizer.options(DEFAULTS)
    kernel = gpu.load(elementwise.kernel(rule, options, "float32", False, False), 0)
    numbers = rule.scalars(tuple(rule.hyper.values()), np.dtype(np.float32), options)
    addresses = [int(x.pointer) for x in (*device, bytes_)]
    found = kernel((2, 1, 1), (32, 1, 1), *addresses, 0, n, offset * n, *numbers, footprint=True)
    written = {place for start, stop in found.written for place in range(start, stop)}
    wanted = 4 * np.flatnonzero(mask)
    assert written == {x + k + b for x in (addresses[0], addresses[2]) for k in wanted for b in range(4)}
    step(*host, mask=mask)
    same(gpu, host, device)


def settings_of(n, dtype=np.float32, seed=0, scaled=False):
    """Everything at once: settings on the host, and the arrays among them by name."""
    rng = np.random.default_rng(seed)
    made = {
        "lr": rng.uniform(0, 0.5, n).astype(dtype),
        "weight_decay": rng.uniform(0, 0.1, n).astype(dtype),
        "mask": masks(n, seed, 0.7),
        "lower": (-np.abs(rng.normal(size=n))).astype(dtype),
    }
    return {**made, "upper": 0.5, "prox": "scaled_l1" if scaled else "l1", "prox_weight": 0.125}, tuple(made)


@settings(max_examples=10)
@given(**drawn)
def test_everything_at_once(n, offsets, part, seed, multiprocessors, threads, order):
    host = arrays(n, seed=seed)
    own, there = settings_of(n, seed=seed)
    own["mask"] = masks(n, seed, part)
    with (
        mock.patch.object(elementwise, "THREADS", threads),
        fake_driver.installed(multiprocessors=multiprocessors, order=order) as gpu,
    ):
        device = [gpu.array(x, offset=4 * k) for x, k in zip(host, offsets, strict=False)]
        for name, k in zip(there, offsets[3:], strict=False):
            own[name] = own[name], gpu.array(own[name], offset=k if name == "mask" else 4 * k)
        averages = [nagd_numba.Average(x, decay=0.75, start=1) for x in (host[0], device[0])]
        for _ in range(3):
            for k, columns in enumerate((host, device)):
                mine = {name: x[k] if name in there else x for name, x in own.items()}
                step(*columns, **mine, average=averages[k])
        same(gpu, [*host, averages[0].value], [*device, averages[1].value])
        for average, columns in zip(averages, (host, device), strict=True):
            average.swap(columns[0])
        same(gpu, [*host, averages[0].value], [*device, averages[1].value])


def on(gpu, own, there):
    """The settings with their arrays on the device."""
    return {name: gpu.array(x) if name in there else x for name, x in own.items()}


@pytest.mark.parametrize("name", ["lr", "weight_decay"])
def test_an_element_with_an_unfit_rate_stays_as_it_is(gpu, name):
    host = arrays(64)
    own, there = settings_of(64)
    own["mask"][:] = True
    device, average = [gpu.array(x) for x in host], nagd_numba.Average(host[0])
    there_average = nagd_numba.Average(gpu.array(host[0]))
    unfit = np.zeros(64, bool)
    unfit[[3, 20, 41]] = True
    wrong = {**own, name: np.where(unfit, np.resize([np.nan, -1.0, np.inf], 64), own[name]).astype(np.float32)}
    step(*device, **on(gpu, wrong, there), average=there_average)
    own["mask"][unfit] = False
    step(*host, **own, average=average)
    same(gpu, host, device)
    same(gpu, [average.value], [there_average.value])


def test_groups_of_lists_are_a_launch_for_each_settings(gpu):
    sizes = (40, 40, 0, 300)
    host = [[arrays(n, seed=k)[j] for k, n in enumerate(sizes)] for j in range(3)]
    device = [list(map(gpu.array, column)) for column in host]
    groups = [{"lr": 0.5}, None, {}, {"lr": 0.5}]
    for lr in (0.1, 0.2):
        step(*host, lr=lr, groups=groups)
        step(*device, lr=lr, groups=groups)
    assert len(gpu.launches) == 4
    takes = [bind(step, *columns, groups=groups) for columns in (host, device)]
    for take in takes:
        take(lr=0.3)
    for here, there in zip(host, device, strict=True):
        same(gpu, here, there)
    before = [[x.copy() for x in column] for column in host]
    for wrong in ({"momentum": -1.0}, {"momentum": float("nan")}):
        with pytest.raises(ValueError, match="momentum is"):
            step(*device, groups=[{}, wrong, {}, {}])
        with pytest.raises(ValueError, match="momentum is"):  # of arrays that were met before
            step(*device, groups=[{"lr": 0.5}, wrong, wrong, {"lr": 0.5}])
    with pytest.raises(ValueError, match=r"vel\[0\] and params\[1\] overlap"):
        step(*device[:2], [device[0][1], *device[2][1:]], groups=groups)
    with pytest.raises(TypeError, match="groups must be a list of 4 dicts"):
        step(*device, groups=[{}])
    for here, there in zip(before, device, strict=True):
        same(gpu, here, there)


def test_arrays_met_before_are_not_described_again(gpu, monkeypatch):
    n = 100
    host, mask = arrays(n), masks(n, 0, 0.5)
    device, bytes_ = [gpu.array(x) for x in host], gpu.array(mask)
    take = bind(step, *device, lr=0.1, mask=bytes_, stream=5)
    step(*device, lr=0.1, mask=bytes_)
    step(*host, lr=0.1, mask=mask)
    monkeypatch.setattr(device_array, "describe", None)
    step(*device, lr=0.2, mask=bytes_)
    take()
    take(lr=0.3)
    for lr in (0.2, 0.1, 0.3):
        step(*host, lr=lr, mask=mask)
    same(gpu, host, device)
    assert [stream for _, _, stream in gpu.launches] == [0, 0, 5, 5]
    with pytest.raises(ValueError, match=r"step: lr is -1\.0"):
        step(*device, lr=-1.0, mask=bytes_)
    with pytest.raises(ValueError, match=r"bound step: lr is -1\.0"):
        take(lr=-1.0)
    same(gpu, host, device)
    del device, bytes_, take
    assert not repeats.known


def test_a_graph_takes_a_mask_and_no_average(gpu):
    device, bytes_ = [gpu.array(x) for x in arrays(100)], gpu.array(masks(100, 0, 0.5))
    gpu.captured.add(7)
    step(*device, mask=bytes_, stream=7)
    assert len(gpu.launches) == 1
    average = nagd_numba.Average(device[0])
    for call in (
        lambda: step(*device, average=average, stream=7),
        lambda: bind(step, *device, average=average, stream=7)(),
    ):
        with pytest.raises(ValueError, match="a graph is being captured"):
            call()
    assert (len(gpu.launches), average.steps) == (1, 0)


def test_averages_are_copies(gpu):
    host = arrays(33)
    device = gpu.array(host[0])
    lists = nagd_numba.Average([device, gpu.array(host[1])])
    assert isinstance(lists.value, list)
    average = nagd_numba.Average(device)
    device.pointer.array[:] = 7
    assert same_bits(gpu.download(average.value), host[0])
    with average.swapped(device):
        same(gpu, [host[0], np.full(33, 7, np.float32)], [device, average.value])
    same(gpu, [host[0], np.full(33, 7, np.float32)], [average.value, device])
    for wrong, error, message in [
        (gpu.array(host[0][:5]), ValueError, r"params has dtype float32 and shape \(5,\), and the average"),
        (host[0], ValueError, "the average lives on a CUDA device and params on the host"),
        (average.value, ValueError, "overlap"),
    ]:
        with pytest.raises(error, match=message):
            average.swap(wrong)
    with pytest.raises(TypeError, match="Average: params has dtype float16"):
        nagd_numba.Average(Half(gpu, np.zeros(4, np.uint16), "float16", 0))


@pytest.mark.parametrize("name", rules.marked(default=(), ci=("nesterov", "adam")))
def test_every_rule(gpu, name):
    optimizer = OPTIMIZERS[name]
    n, dtype = 333, np.float64 if name in ("adam", "lion") else np.float32
    host = arrays(n, len(optimizer.rule.states), dtype)
    device = [gpu.array(x) for x in host]
    own, there = settings_of(n, dtype, scaled=optimizer.rule.scale is not None)
    if name == "fista":
        own["weight"] = own.pop("weight_decay")
        own = {x: own[x] for x in own if x not in ("prox", "prox_weight")}
        there = tuple(x if x != "weight_decay" else "weight" for x in there)
    if "weight_decay" not in optimizer.settings:
        own.pop("weight_decay", None)
    there = tuple(x for x in there if x in own)
    averages = [nagd_numba.Average(x[0]) for x in (host, device)]
    for t in (3, 4):
        counted = {"t": t} if optimizer.rule.counts_steps or "t" in optimizer.settings else {}
        optimizer.step(*host, **own, **counted, average=averages[0])
        optimizer.step(*device, **on(gpu, own, there), **counted, average=averages[1])
    same(gpu, [*host, averages[0].value], [*device, averages[1].value])


@pytest.mark.ci
def test_lists_with_everything(gpu):
    sizes = (5, 2 * elementwise.CHUNK + 5, 0, 300)
    own = [settings_of(n, seed=k) for k, n in enumerate(sizes)]
    host = [[arrays(n, seed=k)[j] for k, n in enumerate(sizes)] for j in range(3)]
    device = [[gpu.array(x, offset=4 * k) for k, x in enumerate(column)] for column in host]
    names = own[0][1]
    here = {name: [x[0][name] for x in own] for name in names}
    there = {name: [gpu.array(x, offset=k) if name == "mask" else gpu.array(x) for k, x in enumerate(column)]
             for name, column in here.items()}  # fmt: skip
    numbers = {"upper": 0.5, "prox": "l1", "prox_weight": 0.125, "groups": [{"momentum": 0.5}, {}, {}, {"upper": 0.25}]}
    averages = [nagd_numba.Average(columns[0]) for columns in (host, device)]
    for _ in range(2):
        step(*host, **here, **numbers, average=averages[0])
        step(*device, **there, **numbers, average=averages[1])
    for x, y in zip([*host, averages[0].value], [*device, averages[1].value], strict=True):
        same(gpu, x, y)
    assert len(gpu.launches) == 6


@pytest.mark.parametrize(
    "storage", [pytest.param("float16", marks=pytest.mark.slow), pytest.param("bfloat16", marks=pytest.mark.ci)]
)
@pytest.mark.parametrize("with_master", [False, True])
def test_half_precision_memory(gpu, storage, with_master):
    """What is stepped is the master copy, or the parameters as they were rounded."""
    n = 203
    p, g, v = arrays(n)
    own, _ = settings_of(n)
    p_bits, g_bits, own = round_to(p, storage), round_to(g, storage), {"mask": own["mask"], "lower": own["lower"]}
    device = [Half(gpu, bits, storage, 0) for bits in (p_bits, g_bits)]
    device.append(gpu.array(v))
    master = gpu.array(p) if with_master else None
    exact = p.copy() if with_master else widen(p_bits, storage)
    there = on(gpu, own, own)
    for _ in range(2):
        step(*device, **there, master=master)
        step(exact, widen(g_bits, storage), v, **own)
        if not with_master:
            exact = widen(round_to(exact, storage), storage)
    mask = own["mask"]
    assert same_bits(gpu.download(device[0].inner), np.where(mask, round_to(exact, storage), p_bits))
    assert same_bits(gpu.download(device[2]), v)
    if with_master:
        assert same_bits(gpu.download(master), exact)


@pytest.mark.ci
def test_numbers_in_device_memory(gpu):
    """Beside a mask, and beside rates of elements, whose constants are float64."""
    host, mask = arrays(100, 2), masks(100, 0, 0.5)
    rates = np.random.default_rng(0).uniform(0, 0.5, 100).astype(np.float32)
    device, bytes_ = [gpu.array(x) for x in host], gpu.array(mask)
    t, decay = gpu.array(np.array([3])), gpu.array(np.full(1, 0.25, np.float32))
    adam_step(*host, t=3, lr=0.125, upper=0.5, mask=mask)
    adam_step(*device, t=t, lr=0.125, upper=0.5, mask=bytes_)
    adam_step(*host, t=4, lr=rates, weight_decay=0.25, mask=mask)
    adam_step(*device, t=t, lr=gpu.array(rates), weight_decay=decay, mask=bytes_)
    same(gpu, host, device)
    assert gpu.download(t) == [5]
    average = nagd_numba.Average(device[0])
    gpu.captured.add(7)
    with pytest.raises(ValueError, match="a graph is being captured"):
        adam_step(*device, t=t, average=average, stream=7)
    with pytest.raises(ValueError, match="groups set numbers"):
        step([device[0]] * 2, [device[1]] * 2, [device[2]] * 2, lr=decay, groups=[{}, {"momentum": 0.5}])
    same(gpu, host, device)


@pytest.mark.parametrize(
    "kind", [pytest.param("njit", marks=pytest.mark.slow), pytest.param("cuda.jit", marks=pytest.mark.ci)]
)
def test_a_proximal_map_of_the_users(gpu, kind):
    from numba import cuda

    def shrunk(x, lr):
        return math.copysign(max(abs(x) - np.float32(0.5) * lr, np.float32(0)), x)

    host = arrays(50)
    device = [gpu.array(x) for x in host]
    there = njit(shrunk) if kind == "njit" else cuda.jit(device=True)(shrunk)
    for _ in range(2):
        step(*host, prox=njit(shrunk), lower=-1.0)
        step(*device, prox=there, lower=-1.0)
    same(gpu, host, device)
    if kind == "cuda.jit":
        with pytest.raises(TypeError, match=r"prox is .*CUDADispatcher"):
            step(*host, prox=there)
