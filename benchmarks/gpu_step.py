"""The step on device arrays: against the memory's bandwidth, against peers, and what a launch costs the host."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

import nagd_numba
from nagd_numba.gpu import driver

from . import gpu_peers as peers
from . import gpu_timing as timing
from .gpu_report import Row, Unusable, memory
from .gpu_timing import Contender, compare, finish, measure, values

Job = tuple[dict[str, Any], Callable[[Row], None]]

EXPONENTS = range(10, 29, 2)  # of the sizes
BANDWIDTH, BANDWIDTH_FROM = 0.92, 1 << 24  # of that of a copy, from so many elements on
OTHER_DTYPES = (  # params and gradients, master copy, bytes an element
    ("float16", False, 14),
    ("float16", True, 20),
    ("bfloat16", False, 14),
    ("bfloat16", True, 20),
    ("float64", False, 40),
)
OTHER_EXPONENTS = (24, 26)
LISTS = {  # how many arrays, of which sizes
    "100 of 10^4": [10**4] * 100,
    "100 of 10^5": [10**5] * 100,
    "100 of 10^6": [10**6] * 100,
    "100 of 10^4 to 10^6": [int(10 ** (4 + 2 * k / 99)) for k in range(100)],
}
LAUNCH_US = 2.0
LAUNCH_SIZE, LAUNCHES, CAPTURED = 1024, 1000, 20


class Bfloat16:
    """A device array of bfloat16, by its bits: NumPy and Numba have no such dtype."""

    dtype = SimpleNamespace(name="bfloat16")

    def __init__(self, bits: Any) -> None:
        self.bits = bits
        self.__cuda_array_interface__ = {**bits.__cuda_array_interface__, "typestr": "|V2"}


def device_array(n: int, dtype: str, which: int) -> Any:
    """Small random numbers on the device."""
    if dtype == "bfloat16":
        bits = (values(n, np.float32, which).view(np.uint32) >> 16).astype(np.uint16)
        return Bfloat16(driver.current().upload(np.resize(bits, n), 0))
    return driver.current().upload(np.resize(values(n, dtype, which), n), 0)


def our_step(n: int, dtype: str, master: bool = False) -> Contender:
    half = dtype in ("float16", "bfloat16")
    p, g = (device_array(n, dtype, k) for k in range(2))
    v = device_array(n, "float32" if half else dtype, 2)
    copy = device_array(n, "float32", 0) if master else None
    return Contender(lambda: nagd_numba.step(p, g, v, peers.LR, peers.MOMENTUM, master=copy), finish)


def copy_of(nbytes: int) -> Contender:
    """The driver's own copy, which reads and writes so many bytes together."""
    from cuda.bindings import driver as bindings

    here, half = driver.current(), max(1, nbytes // 2)
    arrays = [here.empty(half, np.uint8, 0) for _ in range(2)]
    source, target = (x.__cuda_array_interface__["data"][0] for x in arrays)
    ok = bindings.CUresult.CUDA_SUCCESS

    def call(arrays=arrays):
        (status,) = bindings.cuMemcpyDtoDAsync(target, source, half, 0)
        if status != ok:
            raise RuntimeError(f"cuMemcpyDtoDAsync: {status.name}")

    return Contender(call, finish)


def sizes(largest: int) -> Iterator[Job]:
    """float32, from 2^10 to 2^largest elements; then other dtypes."""
    for exponent in EXPONENTS:
        if exponent <= largest:
            yield _step_job(exponent, "float32", False, 20)
    for dtype, master, each in OTHER_DTYPES:
        for exponent in sorted({min(e, largest) for e in OTHER_EXPONENTS}):
            yield _step_job(exponent, dtype, master, each)


def _step_job(exponent: int, dtype: str, master: bool, each: int) -> Job:
    n = 1 << exponent
    name = dtype + (", master" if master else "")

    def run(row: Row) -> None:
        free, _ = memory()
        if free is not None and free < 6 * each * n:  # six contenders
            raise Unusable(f"{6 * each * n / 1e9:.0f} GB are needed and {free / 1e9:.0f} are free")
        makers: dict[str, Callable[[], Contender]] = {
            "ours": lambda: our_step(n, dtype, master),
            "copy": lambda: copy_of(each * n),
            "torch fused": lambda: peers.torch_step([n], dtype, fused=True),
            "torch foreach": lambda: peers.torch_step([n], dtype, foreach=True),
        }
        if dtype in ("float32", "float64"):
            makers |= {"CuPy": lambda: peers.cupy_step(n, dtype), "JAX": lambda: peers.jax_step(n, dtype)}
        seconds = measure(row, makers)
        targets = {"copy": BANDWIDTH} if n >= BANDWIDTH_FROM else {}
        compare(row, seconds, "us", 1e6, targets if dtype != "float32" else {"torch fused": 1.0, **targets})
        timing.rate(row, "our rate", each * n, seconds, "ours")
        timing.rate(row, "copy's rate", each * n, seconds, "copy")
        peers.give_back()

    return {"n": f"2^{exponent}", "dtype": name, "bytes": each}, run


def lists(largest: int) -> Iterator[Job]:
    """Lists of float32 arrays in one call."""
    for name, counts in LISTS.items():
        if max(counts) <= 1 << largest:
            yield {"arrays": name}, functools.partial(_list_row, counts)


def _list_row(counts: Sequence[int], row: Row) -> None:
    def ours(make: Callable[[int, str, int], Any]) -> Contender:
        p, g, v = ([make(n, "float32", 3 * k + part) for k, n in enumerate(counts)] for part in range(3))
        return Contender(lambda: nagd_numba.step(p, g, v, peers.LR, peers.MOMENTUM), finish)

    seconds = measure(
        row,
        {
            "ours": lambda: ours(device_array),
            "ours, torch tensors": lambda: ours(peers.torch_array),
            "copy": lambda: copy_of(20 * sum(counts)),
            "torch fused": lambda: peers.torch_step(counts, "float32", fused=True),
            "torch foreach": lambda: peers.torch_step(counts, "float32", foreach=True),
        },
    )
    compare(row, seconds, "us", 1e6, {"torch fused": 1.0})
    timing.rate(row, "our rate", 20 * sum(counts), seconds, "ours")
    peers.give_back()


def launches(_: int) -> Iterator[Job]:
    """Microseconds of the host for each call, and a captured graph of calls."""
    yield {"what": f"a call, {LAUNCHES} started"}, _launch_row
    yield {"what": f"a step of {CAPTURED} in a CUDA graph"}, _graph_row


def _launch_row(row: Row) -> None:
    n = LAUNCH_SIZE

    def ours(make: Callable[[int, str, int], Any]) -> Contender:
        p, g, v = (make(n, "float32", k) for k in range(3))
        return Contender(lambda: nagd_numba.step(p, g, v, peers.LR, peers.MOMENTUM), finish)

    makers: dict[str, Callable[[], Contender]] = {
        "ours": lambda: ours(device_array),
        "ours, torch tensors": lambda: ours(peers.torch_array),
        "ours, CuPy arrays": lambda: ours(peers.cupy_array),
        "torch fused": lambda: peers.torch_step([n], "float32", fused=True),
        "CuPy": lambda: peers.cupy_step(n, "float32"),
        "JAX": lambda: peers.jax_step(n, "float32"),
    }
    seconds = measure(row, makers, steps=LAUNCHES, enqueue=True)
    for name, rounds in seconds.items():
        target = LAUNCH_US if name.startswith("ours") else None
        row.put(name, float(np.median(rounds)) * 1e6, "us", target=target)


def _graph_row(row: Row) -> None:
    """20 steps captured by PyTorch, against the same calls; both from the same values must give the same bits."""

    def replayed() -> Contender:
        torch = peers.usable("torch")
        p, g, v = (peers.torch_array(LAUNCH_SIZE, "float32", k) for k in range(3))
        start = p.clone(), v.clone()

        def steps():
            for _ in range(CAPTURED):
                nagd_numba.step(p, g, v, peers.LR, peers.MOMENTUM)

        steps()  # everything is compiled, loaded and known
        expected = p.clone(), v.clone()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            steps()
        p.copy_(start[0]), v.copy_(start[1])
        graph.replay()
        torch.cuda.synchronize()
        if not (torch.equal(p, expected[0]) and torch.equal(v, expected[1])):
            raise AssertionError("the replayed graph gives other bits than the calls")
        kept = p, g, v, graph  # the graph knows addresses only
        return Contender(lambda: kept[-1].replay(), finish)

    def launched() -> Contender:
        p, g, v = (peers.torch_array(LAUNCH_SIZE, "float32", k) for k in range(3))

        def steps():
            for _ in range(CAPTURED):
                nagd_numba.step(p, g, v, peers.LR, peers.MOMENTUM)

        return Contender(steps, finish)

    seconds = measure(row, {"ours, replayed": replayed, "ours, torch tensors": launched})
    compare(row, seconds, "us", 1e6 / CAPTURED, {})
