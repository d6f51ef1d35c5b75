"""A guard, and hyper-parameters in device memory, in a captured graph: what is written there between replays counts."""

import copy

import numpy as np
import pytest
from numba import cuda

from nagd_numba import Guard, nadam_step, step

from .arrays import arrays, graph_of, on_device, replay, same


def device_of(x):
    return cuda.to_device(np.atleast_1d(x))


def both_step(graph, stream, device, host, here, grads):
    """A replay on `device` and a step on `host` with the guard `here`, with these gradients: to the same bits."""
    host[1][...] = grads
    device[1].copy_to_device(grads)
    cuda.synchronize()
    replay(graph, stream)
    step(*host, lr=0.1, guard=here)
    same(device, host)


def test_a_graph_follows_a_schedule_and_counts_its_steps(seed):
    host = [abs(x) for x in arrays(300, 4)]
    device, lr, t = on_device(host), device_of(np.float32(0.1)), device_of(np.int64(1))
    cuda.synchronize()
    nadam_step(*device, t=t, lr=lr)
    nadam_step(*host, t=1, lr=float(np.float32(0.1)))
    cuda.synchronize()
    graph, stream = graph_of(lambda s: nadam_step(*device, t=t, lr=lr, stream=s))
    for k in range(2, 5):
        rate = np.float32(0.1 / k)
        lr.copy_to_device(np.array([rate]))
        cuda.synchronize()
        replay(graph, stream)
        nadam_step(*host, t=k, lr=float(rate))
        same(device, host)
    assert t.copy_to_host() == [5]


@pytest.mark.parametrize("lists", [False, True], ids=["one", "lists"])
def test_a_guard_decides_in_each_replay(seed, lists):
    host = arrays(5000)
    device = on_device(host)
    columns = [[x] for x in device] if lists else device
    scale = device_of(np.float32(2))
    here, there = Guard(clip_norm=3.0, nonfinite="skip", grad_scale=2.0), Guard(3.0, None, "skip", scale)
    cuda.synchronize()
    step(*columns, lr=0.1, guard=there)
    step(*host, lr=0.1, guard=here)
    cuda.synchronize()
    graph, stream = graph_of(lambda s: step(*columns, lr=0.1, guard=there, stream=s))
    for factor, bad in ((2.0, False), (8.0, True), (8.0, False)):
        here.grad_scale = factor
        scale.copy_to_device(np.array([factor], np.float32))
        grads = arrays(5000, seed=int(factor))[0]
        grads[100] = np.nan if bad else 1.0
        both_step(graph, stream, device, host, here, grads)
        assert (here.norm, here.skipped) == (there.norm, there.skipped) or (bad and there.skipped)
        assert here.nonfinite_count == there.nonfinite_count == int(bad)
    assert here.skipped_steps == there.skipped_steps == 1


def test_the_loss_scale_follows_the_gradients_of_a_graph(seed):
    """Nothing is read back: the user multiplies the next loss by what stands there, as here the gradient."""
    host = arrays(5000)
    device, scale = on_device(host), device_of(np.float32(8))
    options = {"clip_norm": 3.0, "nonfinite": "skip", "growth_interval": 2}
    here, there = Guard(grad_scale=8.0, **options), Guard(grad_scale=scale, **options)
    cuda.synchronize()
    step(*device, lr=0.1, guard=there)
    step(*host, lr=0.1, guard=here)
    graph, stream = graph_of(lambda s: step(*device, lr=0.1, guard=there, stream=s))
    scales = []
    for k, bad in enumerate((False, True, False, False, False)):
        grads = np.float32(here.grad_scale) * arrays(5000, seed=k)[0]
        grads[100] = np.inf if bad else 1.0
        both_step(graph, stream, device, host, here, grads)
        assert scale.copy_to_host() == [here.grad_scale]
        scales.append(here.grad_scale)
    assert scales == [16.0, 8.0, 8.0, 16.0, 16.0]
    copied = copy.copy(there)
    assert (copied.grad_scale, copied.skipped_steps) == (16.0, 1)
    with pytest.raises(TypeError, match=r"grad_scale is 16\.0 and growth_interval 2; .* one element of float32 on"):
        step(*device, guard=copied)
    copied.grad_scale = device_of(np.float32(copied.grad_scale))
    cuda.synchronize()
    step(*device, lr=0.1, guard=copied)
    step(*host, lr=0.1, guard=here)
    same(device, host)
    assert copied.grad_scale.copy_to_host() == [here.grad_scale] == [32.0]


def test_what_no_graph_can_do_is_refused():
    device = on_device(arrays(100))
    step(*device, guard=Guard(nonfinite="raise"))

    def body(stream):
        for guard, message in ((Guard(nonfinite="raise"), 'nonfinite="raise" reads'), (Guard(), "step once before")):
            with pytest.raises(ValueError, match=message):
                step(*device, guard=guard, stream=stream)

    before = [x.copy_to_host() for x in device]
    graph_of(body)
    same(device, before)


def test_each_step_waits_for_the_uploads_before_it(seed):
    """Nothing is synchronized by the caller: tables, control and numbers are there when the kernels run."""
    host = arrays(3000)
    stream = cuda.stream()
    device = [cuda.to_device(x, stream=stream) for x in host]
    here, there = Guard(clip_norm=1.0), Guard(clip_norm=1.0)
    for _ in range(3):
        step(*([x] for x in device), lr=0.1, guard=there)
        step(*([x] for x in host), lr=0.1, guard=here)
    same(device, host)
    assert (here.norm, here.dot) == (there.norm, there.dot)
