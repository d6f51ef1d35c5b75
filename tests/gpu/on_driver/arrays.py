"""Arrays, streams and graphs for the tests of this folder."""

import gc

import numpy as np
from cuda.bindings import driver as api
from numba import cuda

from nagd_numba.gpu import driver

NON_BLOCKING = 1
GLOBAL = api.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_GLOBAL


def arrays(n, count=3, dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=n).astype(dtype) for _ in range(count)]


def on_device(columns):
    """On the device, where nothing is queued any more."""
    made = [cuda.to_device(x) for x in columns]
    cuda.synchronize()
    return made


def new_stream(flags=NON_BLOCKING):
    cuda.current_context()
    status, stream = api.cuStreamCreate(flags)
    assert status == 0
    return int(stream)


def same(device, host):
    cuda.synchronize()
    for x, y in zip(device, host, strict=True):
        np.testing.assert_array_equal(driver.current().download(x), y)


def graph_of(body, mode=GLOBAL):
    """What a function does with a stream, as a graph, and the stream; after all that was started before."""
    gc.collect()  # as PyTorch does: an array that a collection frees within a capture ends it
    cuda.synchronize()
    stream = new_stream()
    assert api.cuStreamBeginCapture(stream, mode)[0] == 0
    body(stream)
    status, graph = api.cuStreamEndCapture(stream)
    assert status == 0
    status, executable = api.cuGraphInstantiate(graph, 0)
    assert status == 0
    return executable, stream


def replay(graph, stream):
    assert api.cuGraphLaunch(graph, stream)[0] == 0
