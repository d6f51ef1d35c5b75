"""Masks and averages on device arrays: on streams, in graphs, and what is copied and exchanged in their order."""

import numpy as np
import pytest
from numba import cuda

from nagd_numba import Average, bind, step

from .arrays import arrays, graph_of, new_stream, on_device, replay, same


def with_mask(n):
    host, mask = arrays(n), np.random.default_rng(1).random(n) < 0.7
    return host, mask, on_device(host), on_device([mask])[0]


def test_a_mask_in_a_graph(seed):
    host, mask, device, there = with_mask(1003)
    step(*device, mask=there)
    step(*host, mask=mask)
    take = bind(step, *device, mask=there, stream=new_stream())
    cuda.synchronize()
    take(0.1)
    step(*host, 0.1, mask=mask)
    graph, stream = graph_of(lambda s: [step(*device, 0.2, mask=there, stream=s) for _ in range(2)])
    for _ in range(2):
        replay(graph, stream)
    for _ in range(4):
        step(*host, 0.2, mask=mask)
    same(device, host)


def test_what_is_written_to_a_mask_counts_from_the_next_step(seed):
    host, mask, device, there = with_mask(300)
    step(*device, mask=there)
    step(*host, mask=mask)
    there.copy_to_device(~mask)
    step(*device, mask=there)
    step(*host, mask=~mask)
    same(device, host)


@pytest.mark.parametrize("own", [False, True], ids=["default", "stream"])
def test_an_average_is_copied_and_exchanged_in_order(own, seed):
    host = arrays(1003)
    stream = cuda.stream() if own else 0
    device = [cuda.to_device(x, stream=stream) for x in host]  # not waited for
    averages = [Average(x, decay=0.75) for x in (host[0], device[0])]
    for _ in range(3):
        step(*host, average=averages[0])
        step(*device, average=averages[1])
    for average, x in zip(averages, (host, device), strict=True):
        average.swap(x[0])
    step(*host)
    step(*device)
    same([*device, averages[1].value], [*host, averages[0].value])


def test_a_graph_takes_no_average(seed):
    host = arrays(300)
    device = on_device(host)
    averages = [Average(x) for x in (host[0], device[0])]
    step(*host, average=averages[0])
    step(*device, average=averages[1])

    def captured(stream):
        with pytest.raises(ValueError, match="a graph is being captured"):
            step(*device, average=averages[1], stream=stream)

    graph_of(captured)
    assert averages[1].steps == 1
    same([*device, averages[1].value], [*host, averages[0].value])
