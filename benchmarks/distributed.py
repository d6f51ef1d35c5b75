"""`mpiexec -n N python -m benchmarks.distributed`: what a step of N ranks costs, beside PyTorch's, and a model of it.

All contenders take turns in the same processes; PyTorch's messages go by gloo.  Times are medians over the rounds, of
the slowest rank.  `--model` prints the model for other machines alone, and needs no mpiexec.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # ranks share cores here

import numpy as np

import nagd_numba
from nagd_numba.distributed import ShardedStep, communicator
from nagd_numba.distributed.slices import Slices
from nagd_numba.distributed.threads import at_most, fair_share

TENSORS = 64  # PyTorch shards by tensors, so its vector comes in so many
SETTINGS = {"lr": 0.01, "momentum": 0.9}


class Counting:
    """A communicator that counts the bytes that it sends in large messages, and those messages."""

    def __init__(self, comm: Any) -> None:
        self._comm, self.sent, self.messages = comm, 0, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._comm, name)

    def send(self, x: np.ndarray, to: int, tag: int) -> Any:
        self.sent += x.nbytes
        self.messages += 1
        return self._comm.send(x, to, tag)


def taking_turns(world: Any, contenders: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """The median of the seconds of the slowest rank, of each."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds + 2):
        for name, run in contenders.items():
            world.barrier()
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    everyones = {name: world.allgather(found[2:]) for name, found in seconds.items()}
    return {name: statistics.median(map(max, zip(*found, strict=True))) for name, found in everyones.items()}


def ours(comm: Any, n: int, **options: Any) -> ShardedStep:
    return ShardedStep(comm, np.ones(n, np.float32), **SETTINGS, **options)


def table(title: str, rows: dict[str, float], reference: str) -> None:
    print(f"\n{title}")
    for name, value in rows.items():
        print(f"  {name:<52} {1e3 * value:9.2f} ms   {value / rows[reference]:5.2f}")


def buckets(world: Any, comm: Any, n: int, rounds: int) -> None:
    """Does it help that messages and work overlap?"""
    grads = np.ones(n, np.float32)
    made = {}
    for count in (1, 2, 4, 8, 16, 64):
        if Slices(n, world.size, count).count == count:
            made[f"{count} buckets"] = functools.partial(ours(comm, n, buckets=count).step, grads)
    made["default"] = functools.partial(ours(comm, n).step, grads)
    found = taking_turns(world, made, rounds)
    if world.rank == 0:
        table(f"n = {n:,}, {world.size} ranks, by MPI: buckets", found, "default")


class Torch:
    """PyTorch's ways to do the same, for a vector in so many tensors."""

    def __init__(self, world: Any) -> None:
        import torch
        import torch.distributed as dist

        self.torch, self.dist, self.size = torch, dist, world.size
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // world.size))
        folder = world.bcast(tempfile.mkdtemp() if world.rank == 0 else None)
        dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=world.rank, world_size=world.size)

    def model(self, n: int) -> Any:
        torch = self.torch

        class Sum(torch.nn.Module):
            """Its gradient is all ones, and costs next to nothing to find."""

            def __init__(self) -> None:
                super().__init__()
                self.parts = torch.nn.ParameterList([torch.ones(n // TENSORS) for _ in range(TENSORS)])

            def forward(self) -> Any:
                return sum(x.sum() for x in self.parts)

        return Sum()

    def contenders(self, n: int) -> dict[str, Callable[[], Any]]:
        torch, dist = self.torch, self.dist
        from torch.distributed.optim import ZeroRedundancyOptimizer
        from torch.nn.parallel import DistributedDataParallel

        sgd = functools.partial(torch.optim.SGD, **SETTINGS, nesterov=True)
        plain, ddp, ddp_zero = self.model(n), self.model(n), self.model(n)
        wrapped = DistributedDataParallel(ddp, gradient_as_bucket_view=True)
        wrapped_zero = DistributedDataParallel(ddp_zero, gradient_as_bucket_view=True)
        all_ = sgd(ddp.parameters(), foreach=True)
        zero = ZeroRedundancyOptimizer(
            ddp_zero.parameters(), torch.optim.SGD, parameters_as_bucket_view=True, **SETTINGS, nesterov=True
        )
        flat = torch.ones(n, requires_grad=True)
        flat.grad = torch.ones(n)
        by_hand = sgd([flat], foreach=True)

        def train(model: Any, optimizer: Any) -> None:
            model().backward()
            if optimizer is not None:
                optimizer.step()

        def all_reduce() -> None:
            dist.all_reduce(flat.grad)
            flat.grad /= self.size
            by_hand.step()

        return {
            "gradients alone": functools.partial(train, plain, None),
            "torch: DDP, SGD": functools.partial(train, wrapped, all_),
            "torch: DDP, ZeroRedundancyOptimizer(SGD)": functools.partial(train, wrapped_zero, zero),
            "torch: all_reduce of one vector, SGD": all_reduce,
        }


def peers(world: Any, comm: Any, torch_: Torch, n: int, rounds: int) -> None:
    """Our step beside PyTorch's; the time of the gradients is taken off where it is in."""
    grads = np.ones(n, np.float32)
    gloo = communicator(torch_.dist.group.WORLD)
    made: dict[str, Callable[[], Any]] = {
        "ours, by MPI": functools.partial(ours(comm, n).step, grads),
        "ours, by gloo": functools.partial(ours(gloo, n).step, grads),
        "ours, by MPI, clip_norm": functools.partial(ours(comm, n, guard=nagd_numba.Guard(1.0)).step, grads),
        **torch_.contenders(n),
    }
    found = taking_turns(world, made, rounds)
    alone = found.pop("gradients alone")
    found = {name: x - alone if "DDP" in name else x for name, x in found.items()}
    if world.rank == 0:
        title = f"n = {n:,}, {world.size} ranks: a step (gradients, {1e3 * alone:.2f} ms, taken off)"
        table(title, found, "ours, by MPI")


def bytes_and_state(world: Any, comm: Any, n: int, rounds: int) -> None:
    """What is sent, against the least; what is kept; the step of a slice against its memory traffic."""
    counting = Counting(comm)
    sharded = ours(counting, n)
    counting.sent = counting.messages = 0
    sharded.step(np.ones(n, np.float32))
    N = world.size
    sent, messages = max(world.allgather(counting.sent)), max(world.allgather(counting.messages))
    state = max(world.allgather(sum(x.nbytes for x in sharded.states.values())))
    p, g, v = (np.ones(max(1, n // N), np.float32) for _ in range(3))
    contenders = {"step": lambda: nagd_numba.step(p, g, v, **SETTINGS), "copy": lambda: np.copyto(p, g)}
    with at_most(fair_share(comm)):
        found = taking_turns(world, contenders, rounds)
    if world.rank == 0:
        bound = 2 * (N - 1) / N * 4 * n
        print(f"\nn = {n:,}, {N} ranks")
        print(f"  bytes sent by a rank (the most): {sent:,} in {messages} messages; 2 (N-1)/N 4 n = {bound:,.0f}")
        print(f"  bytes of states of a rank (the most): {state:,}; 4 n / N = {4 * n / N:,.0f}")
        rate, copy = 20 * n / N / found["step"], 8 * n / N / found["copy"]
        print(f"  the step of a slice: {1e3 * found['step']:.3f} ms for 20 n / N bytes: {1e-9 * rate:.1f} GB/s", end="")
        print(f" (np.copyto: {1e-9 * copy:.1f} GB/s)")


def model(n: int, N: int, wire: float, latency: float, start: float, memory: float, buckets_: int) -> dict[str, float]:
    """Seconds of a step on n float32 parameters.

    N ranks, each on its own link of `wire` bytes/s in each direction at once, `latency` seconds from one to another,
    `start` seconds of a processor for each message, `memory` bytes/s for each rank.

        wire      2 (N-1)/N 4 n / wire            gradients out, parameters in
        memory    (4 n + 4 n/N + 20 n/N) / memory  N pieces read, their mean written, the step; N = 1: the step
        messages  4 (N-1) buckets start           sends and receives of gradients and of parameters
        latency   (2 + log2 N) latency            the first piece, the last parameters, the agreement

    Messages and memory overlap in all buckets but one.
    """
    on_wire = 2 * (N - 1) / N * 4 * n / wire
    in_memory = (4 * n + 24 * n / N if N > 1 else 20 * n) / memory
    at_start = 4 * (N - 1) * buckets_ * start
    waiting = (2 + np.log2(N)) * latency if N > 1 else 0.0
    one = min(on_wire, in_memory) / buckets_
    return {
        "wire": on_wire,
        "memory": in_memory,
        "messages": at_start,
        "latency": waiting,
        "step": max(on_wire, in_memory) + one + at_start + waiting,
    }


def measured_here(world: Any, comm: Any, n: int) -> tuple[float, float, float]:
    """Bytes/s that a rank sends while it receives as many, seconds of a small message, bytes/s of memory."""
    N, part = world.size, n // world.size
    x, y, small, other = np.ones(n, np.float32), np.ones(n, np.float32), np.ones(1), np.ones(1)
    to, source = (comm.rank + 1) % N, (comm.rank - 1) % N

    def swap(a: np.ndarray, b: np.ndarray) -> None:
        if N > 1:
            comm.wait([comm.receive(b, source, 1), comm.send(a, to, 1)])

    def small_swaps() -> None:
        for _ in range(100):
            swap(small, other)

    contenders = {
        "swap": lambda: swap(x[to * part :][:part], y[:part]),
        "small": small_swaps,
        "copy": lambda: np.copyto(x, y),
    }
    found = taking_turns(world, contenders, rounds=15)
    return 4 * part / found["swap"], found["small"] / 200, 8 * n / found["copy"]


def check_model(world: Any, comm: Any, sizes: tuple[int, ...], rounds: int) -> None:
    """The model with this machine's figures, beside the step."""
    for n in sizes:
        wire, start, memory = measured_here(world, comm, n)
        found = taking_turns(world, {"step": functools.partial(ours(comm, n).step, np.ones(n, np.float32))}, rounds)
        made = model(n, world.size, wire, 0.0, start, memory, 1)
        told = made["wire"] + made["memory"] + made["messages"]  # here the processor is the wire: nothing overlaps
        if world.rank == 0:
            print(f"\nmodel, n = {n:,}, {world.size} ranks: {1e3 * told:.2f} ms told, ", end="")
            print(f"{1e3 * found['step']:.2f} ms measured (wire {1e-9 * wire:.1f} GB/s, ", end="")
            print(f"message {1e6 * start:.1f} us, memory {1e-9 * memory:.1f} GB/s a rank)")


def print_model() -> None:
    """For machines that are not here."""
    print("\nmodel: milliseconds of a step (wire + memory, overlapped; messages; latency); 100 GB/s of memory a rank,")
    print("20 us of latency and 2 us a message at 25 Gb/s (TCP), 2 us and 0.5 us at 400 Gb/s (InfiniBand), 8 buckets")
    print(f"  {'n':>14} {'Gb/s':>5} " + " ".join(f"{f'N = {N}':>22}" for N in (8, 64, 1024)))
    for n in (10**7, 10**9):
        for gigabits, latency, start in ((25, 20e-6, 2e-6), (400, 2e-6, 0.5e-6)):
            cells = []
            for N in (8, 64, 1024):
                x = model(n, N, gigabits / 8 * 1e9, latency, start, 100e9, Slices(n, N, 8).count)
                cells.append(f"{1e3 * x['step']:9.2f} ({1e3 * x['messages']:.2f}; {1e3 * x['latency']:.2f})")
            print(f"  {n:>14,} {gigabits:>5} " + " ".join(f"{x:>22}" for x in cells))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", action="store_true", help="print the model for other machines alone")
    parser.add_argument("--n", type=int, nargs="+", default=[10**6, 10**7])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--no-torch", action="store_true")
    given = parser.parse_args()
    if given.model:
        print_model()
        return
    from mpi4py import MPI

    world = MPI.COMM_WORLD
    comm = communicator(world)
    if world.rank == 0:
        print(f"{world.size} ranks, {len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}, ", end="")
        print(MPI.Get_library_version().split("\n")[0])
    for n in given.n:
        bytes_and_state(world, comm, n, given.rounds)
        if world.size > 1:
            buckets(world, comm, n, given.rounds)
    check_model(world, comm, tuple(given.n), given.rounds)
    if world.size > 1 and not given.no_torch:
        with contextlib.suppress(ImportError), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch_ = Torch(world)
            for n in given.n:
                peers(world, comm, torch_, n, given.rounds)
            torch_.dist.destroy_process_group()


if __name__ == "__main__":
    main()
