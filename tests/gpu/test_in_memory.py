"""Hyper-parameters in device memory: read when the step runs, and turned into the constants of the host."""

import numpy as np
import pytest

from nagd_numba import Guard, adam_step, step
from nagd_numba.optimizers.registry import OPTIMIZERS
from tests.gpu.arrays import arrays
from tests.helpers.bits import same_bits

pytestmark = pytest.mark.usefixtures("compiler")

CHANGES = {"lr": 0.05, "weight_decay": 0.1, "weight": 0.02, "lr_decay": 0.3}


def check(gpu, name, dtype, options, lists=False, t=3):
    """Three steps whose hyper-parameters all lie on the device; `t` is counted."""
    optimizer = OPTIMIZERS[name]
    rule = optimizer.rule
    host = arrays(700, len(rule.states), dtype)
    device = [gpu.array(x) for x in host]
    numbers = {x: CHANGES.get(x, rule.hyper[x]) for x in optimizer.settings if optimizer.is_number(x)}
    if rule.counts_steps:
        numbers["t"] = t
    there = {
        x: gpu.array(np.array([v], np.int64 if x == "t" and rule.counts_steps else dtype)) for x, v in numbers.items()
    }
    for k in range(3):
        rate = dtype(0.05 / (k + 1))
        there["lr"].pointer.array[0] = rate
        exact = {x: v if x == "t" else float(dtype(v)) for x, v in numbers.items()}
        settings = {**exact, "lr": float(rate)}
        if rule.counts_steps:
            settings["t"] = t + k
        optimizer.step(*host, **settings, **options)
        if lists:
            columns = [[x] for x in device]
            optimizer.step(*columns, **there, **options)
        else:
            optimizer.step(*device, **there, **options)
        assert all(same_bits(x, gpu.download(y)) for x, y in zip(host, device, strict=True))
    if rule.counts_steps:
        assert gpu.download(there["t"]) == [t + 3]


def test_a_step_reads_them_when_it_runs(gpu):
    check(gpu, "nesterov", np.float32, {})


@pytest.mark.parametrize("options", [{}, pytest.param({"decoupled": True}, marks=pytest.mark.ci)])
def test_a_weight_decay_of_0_has_the_bits_of_none(gpu, options):
    """Also where a product with 0 would be NaN, or would change the sign of a zero."""
    host = arrays(40, 1)
    host[0][:4], host[1][:4], host[2][:4] = [1, -1, np.inf, np.nan], [-0.0, -0.0, 1, 1], [-0.0, -0.0, 1, 1]
    device = [gpu.array(x) for x in host]
    decay = gpu.array(np.zeros(1, np.float32))
    for _ in range(2):
        step(*host, lr=0.1, **options)
        step(*device, lr=0.1, weight_decay=decay, **options)
        for x, y in zip(host, device, strict=True):
            np.testing.assert_array_equal(x, gpu.download(y))
            assert (np.signbit(x) == np.signbit(gpu.download(y)))[~np.isnan(x)].all()


def test_the_number_of_the_step_is_counted(gpu):
    check(gpu, "adam", np.float32, {})


@pytest.mark.ci
@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "nesterov"])
def test_every_rule(gpu, name):
    dtype = np.float32 if name in ("adamw", "lion") else np.float64
    options = {"prox": "l1"} if name == "fista" else {}
    check(gpu, name, dtype, options, lists=dtype is np.float64)


@pytest.mark.ci
@pytest.mark.parametrize("variant", ["torch", "keras"])
def test_the_schedules_of_nadam(gpu, variant):
    """Powers of 0.96 and their product, from the first factors to where the others are negligible."""
    for t in (1, 40, 230, 2000):
        check(gpu, "nadam", np.float64, {"variant": variant, "decoupled": True}, t=t)


def test_with_a_guard_a_skipped_step_is_not_counted(gpu):
    host = arrays(300, 2)
    device = [gpu.array(x) for x in host]
    scale, t = gpu.array(np.array([4.0], np.float32)), gpu.array(np.array([1]))
    here, there = Guard(nonfinite="skip", grad_scale=4.0), Guard(nonfinite="skip", grad_scale=scale)
    adam_step(*host, t=1, lr=0.1, guard=here)
    adam_step(*device, t=t, lr=0.1, guard=there)
    device[1].pointer.array[7] = np.inf
    adam_step(*device, t=t, lr=0.1, guard=there)
    assert there.skipped
    assert there.nonfinite_count == 1
    device[1].pointer.array[7] = host[1][7]
    here.grad_scale = 2.0
    scale.pointer.array[0] = 2.0
    adam_step(*host, t=2, lr=0.1, guard=here)
    adam_step(*device, t=t, lr=0.1, guard=there)
    assert all(same_bits(x, gpu.download(y)) for x, y in zip(host, device, strict=True))
    assert (here.norm, here.dot, there.skipped_steps) == (there.norm, there.dot, 1)
    assert gpu.download(t) == [3]
    scale.pointer.array[0] = np.nan
    t.pointer.array[0] = 0
    for unfit in (scale, t):
        adam_step(*device, t=t, lr=0.1, guard=there)
        assert there.skipped
        unfit.pointer.array[0] = 2
    assert all(same_bits(x, gpu.download(y)) for x, y in zip(host, device, strict=True))
    assert (there.skipped_steps, gpu.download(t)[0]) == (3, 2)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0])
def test_an_unfit_value_changes_nothing(gpu, value):
    host = arrays(100, 2)
    device = [gpu.array(x) for x in host]
    t = gpu.array(np.array([5]))
    adam_step(*device, t=t, lr=gpu.array(np.array([value], np.float32)))
    assert all(same_bits(x, gpu.download(y)) for x, y in zip(host, device, strict=True))
    assert gpu.download(t) == [5]


def test_what_the_host_can_see_is_refused_before_any_launch(gpu):
    host = arrays(100, 1)
    device = [gpu.array(x) for x in host]
    moments = [*device, gpu.array(host[2])]
    one = gpu.array(np.ones(1, np.float32))
    for call, error, message in [
        (lambda: step(*device, lr=gpu.array(np.ones(1))), TypeError, "step: lr is a device array of dtype float64"),
        (lambda: step(*device, lr=gpu.array(np.ones(2, np.float32))), ValueError, r"lr has shape \(2,\)"),
        (lambda: step(*device, lr=gpu.array(np.ones(1, np.float32), device=1)), ValueError, "different devices"),
        (lambda: step(*device, lr=one, momentum=-1.0), ValueError, "momentum is -1.0"),
        (lambda: step(*device, weight_decay=gpu.array(np.ones(1))), TypeError, "weight_decay is a device array"),
        (lambda: step(*host, lr=one), TypeError, "lr is"),
        (lambda: adam_step(*moments, t=one), TypeError, "t is a device array of dtype float32.*int64 is needed"),
    ]:
        with pytest.raises(error, match=message):
            call()
    assert not gpu.launches


def test_a_captured_step_needs_one_before(gpu):
    device = [gpu.array(x) for x in arrays(100, 1)]
    lr = gpu.array(np.full(1, 0.1, np.float32))
    gpu.captured.add(7)
    with pytest.raises(ValueError, match="step once before the capture"):
        step(*device, lr=lr, stream=7)
    with pytest.raises(ValueError, match="step once before the capture"):
        step(*device, guard=Guard(), stream=7)
    with pytest.raises(ValueError, match='nonfinite="raise" reads'):
        step(*device, guard=Guard(nonfinite="raise"), stream=7)
    assert not gpu.launches
    step(*device, lr=lr)
    step(*device, lr=lr, stream=7)
    step(*([x] for x in device), lr=lr, stream=7)
    assert [stream for _, _, stream in gpu.launches] == [0, 0, 7, 7, 7, 7]
