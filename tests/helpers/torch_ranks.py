"""One process of several that train a network by FSDP2 or DDP over gloo: `python -m tests.helpers.torch_ranks ...`.

Rank 0 writes to a file what the trainings with several optimizers end with, gathered.
"""

import argparse
import datetime
import os

import pytest
import torch
import torch.distributed as dist
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from nagd_numba import Guard
from nagd_numba.adapters import torch as ours
from tests.helpers.torch_networks import batches, made, parameters, step

OPTIMIZERS = {
    "NAG": lambda params: ours.NAG(params, lr=0.05, weight_decay=0.01),
    "SGD": lambda params: torch.optim.SGD(params, 0.05, 0.9, nesterov=True, weight_decay=0.01, foreach=True),
    "Adam": lambda params: ours.Adam(params, lr=0.01),
    "torch.Adam": lambda params: torch.optim.Adam(params, lr=0.01),
}


def sharded(network):
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for layer in network.children():
        if list(layer.parameters()):
            fully_shard(layer, mesh=mesh)
    return fully_shard(network, mesh=mesh)


def whole(x):
    return x.full_tensor() if hasattr(x, "full_tensor") else x


def course(way, make, rank):
    """What a training ends with: parameters, states, and the states as a checkpoint has them."""
    network = made("convolutional")
    network = sharded(network) if way == "fsdp" else torch.nn.parallel.DistributedDataParallel(network)
    optimizer = make(network.parameters())
    for X, y in batches(6, seed=rank):
        step(network, optimizer, X, y)
    if way == "fsdp":
        kept = optimizer.state_dict()
        states = [x for own in kept["state"].values() for key, x in own.items() if key != "step"]
        assert all(type(x).__name__ == "DTensor" for x in (*parameters(optimizer), *states))
        optimizer = make(network.parameters())  # goes on from there
        optimizer.load_state_dict(kept)
        guarded = ours.NAG(network.parameters(), guard=Guard(clip_norm=1.0))
        with pytest.raises(ValueError, match=r"^NAG: guard sees the gradients of this process alone"):
            guarded.step()
    for X, y in batches(2, seed=10 + rank):
        step(network, optimizer, X, y)
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    return {
        "parameters": [whole(p.detach()).clone() for p in parameters(optimizer)],
        "states": [{key: whole(x).clone() for key, x in optimizer.state[p].items()} for p in parameters(optimizer)],
        "checkpoint": get_optimizer_state_dict(network, optimizer, options=options).get("state"),  # on rank 0
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("way", choices=["fsdp", "ddp"])
    parser.add_argument("rank", type=int)
    parser.add_argument("ranks", type=int)
    parser.add_argument("store")
    parser.add_argument("out")
    parser.add_argument("optimizers", choices=OPTIMIZERS, nargs="+")
    given = parser.parse_args()
    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    store = dist.FileStore(given.store, given.ranks)
    limit = datetime.timedelta(seconds=60)
    dist.init_process_group("gloo", store=store, rank=given.rank, world_size=given.ranks, timeout=limit)
    found = [course(given.way, OPTIMIZERS[name], given.rank) for name in given.optimizers]
    if given.rank == 0:
        torch.save(found, given.out)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
