"""Many processes that train together: each keeps 1/N of the states of the rule; another library carries messages.

    communicator.py   what is needed of that library; `mpi.py`, `torch_group.py`, `nccl.py`: each; `alone.py`: none
    slices.py         who has what of a vector
    orders.py         in which order the gradients of all ranks are added up
    tree.py           that tree
    exchange.py       the messages of a step
    agreement.py      errors that all ranks raise together
    across.py         `Guard` over all ranks
    device.py         the messages between device arrays
    sharded.py        `ShardedStep`, from all these; `saving.py`: its state
    checkpoint.py     the state in files, a part from each rank
    watch.py          the end of all ranks, with a message, when one has ended; `ring.py`: how they hear of it

Importing this imports none of those libraries.
"""

from .communicator import communicator
from .sharded import ShardedStep

__all__ = ["ShardedStep", "communicator"]
