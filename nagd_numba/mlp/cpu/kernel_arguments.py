"""What the compiled training steps and evaluations are given: addresses and numbers, by name.

With the JIT off the arrays and functions themselves stand in place of their addresses.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import typeof


class Network(NamedTuple):
    """One network's training: addresses, but for `layers`, `size` and `rows`."""

    params: Any
    states: Any  # of the rule, one after the other
    sizes: Any
    layers: int
    size: int
    order: Any  # rows of X in the order of the epoch
    rows: int  # their number
    scalars: Any  # of the rule, a row for each update
    sums: Any
    seed: Any  # of the dropout


class Samples(NamedTuple):
    """The data: addresses, but for the last three.  Of a sparse X its values, their columns, and where rows start."""

    X: Any
    columns_of_X: Any  # 0 where X is dense
    starts_of_X: Any
    y: Any
    weights: Any
    weighted: int
    columns: int  # of y: 1 for labels
    scale: float  # of X


class Batches(NamedTuple):
    """How steps are made."""

    batch: int
    accumulate: int
    measure: int
    fused: int  # is each tile updated as its gradient is made?
    scalars: int  # of the rule
    l2: float
    l2_by_samples: int
    clip: float
    gradient_factor: float
    gradient_divisor: int
    loss_factor: float
    keep: float
    threshold: np.uint64  # of the dropout
    first_step: np.uint64  # the number of the epoch's first step


class Memory(NamedTuple):
    """The addresses of the memory of the steps, and the elements of a thread's own buffer and panel."""

    x: Any
    targets: Any
    weights: Any
    hidden: Any
    deltas: Any
    z: Any
    losses: Any
    measures: Any
    buffers: Any
    panels: Any
    grads: Any
    lanes: Any
    ends: Any  # of the columns of a batch of a sparse X, the rows and the values in them
    rows_of: Any
    values: Any
    one: Any
    buffer: int
    panel: int


class Functions(NamedTuple):
    """The addresses of what differs from network to network and from rule to rule."""

    gather_inputs: Any
    gather_targets: Any
    forward: Any
    loss: Any
    measure: Any
    backward: Any
    weights: Any
    apply: Any  # a whole vector's update; 0 where tiles are updated
    penalty: Any  # 0 without
    squares: Any  # for clipping, 0 without
    parallel_for: Any
    first_layer: Any  # for a sparse X: of its rows, or 0
    by_columns: Any
    first_weights: Any


class Evaluation(NamedTuple):
    """Rows that are evaluated: addresses, but for numbers; `targets` and `results` have a row for each part."""

    params: Any
    sizes: Any
    layers: int
    order: Any
    rows: int
    targets: Any
    stride: int  # bytes of a row of the targets
    results: Any


# Their types in compiled code.
NETWORK = typeof(Network(*[0] * len(Network._fields)))
SAMPLES = typeof(Samples(0, 0, 0, 0, 0, 0, 0, 1.0))
BATCHES = typeof(
    Batches(0, 0, 0, 0, 0, 0.0, 0, 0.0, 0.0, 0, 0.0, 0.0, np.uint64(0), np.uint64(0)),
)
MEMORY = typeof(Memory(*[0] * len(Memory._fields)))
FUNCTIONS = typeof(Functions(*[0] * len(Functions._fields)))
EVALUATION = typeof(Evaluation(*[0] * len(Evaluation._fields)))
