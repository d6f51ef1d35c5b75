"""Sums over the micro-batches of a global batch whose bits do not depend on the number of ranks.

The batch is M micro-batches, the leaves of one binary tree that M alone decides.  The tree over the leaves
`[first, last)` has as its left part the largest power of two of them that is below `last - first`, as its right part
the rest:

    M = 6:   ((0 + 1) + (2 + 3)) + (4 + 5)        M = 7:   ((0 + 1) + (2 + 3)) + ((4 + 5) + 6)

The value of a leaf is the vector of its micro-batch; the value of a node is the sum of the values of its parts, left
plus right, element by element, each rounded once.  The result is the value of the root.

Rank r of N has the leaves `[r M // N, (r + 1) M // N)`: contiguous, none where N > M.  It sums up the *maximal* nodes
in its range, those whose parent is not in it, and sends their values: the slice of each owner to that owner.  The
owner of a slice has then the values of nodes that together cover the leaves 0 to M - 1, in order, and adds them to
parents where both parts are there, until the root is left.

**The bits depend on the tree alone.**  (1) The maximal nodes of the ranks, one rank after the other, are disjoint
and cover all leaves: each leaf lies in exactly one range, and in exactly one maximal node of it.  So each node of the
tree is either in a rank's range, and then summed up there (or inside of a maximal node there), or it is not, and then
both its parts are covered by sent values, and the owner adds them.  (2) By induction over the height, every node's
value is the one of the definition, whoever forms it: a leaf's is given; a node's is one rounded addition of the same
two operands in the same order, and IEEE 754 defines its bits (but for the payload of a NaN).  (3) An element of the
sum needs that element of the operands only, so the slices, and the blocks that a kernel works in, are irrelevant.
Neither M's ranges, nor N, nor threads occur in the definition.  What is left to the caller is (4): that the vector of
a micro-batch has the same bits on any rank.

**Messages.**  An ordinary reduce_scatter of n elements has each rank send (N - 1)/N n of them.  Here it sends k times
that, where k is the number of the rank's maximal nodes: 1 where its range is a node of the tree, as for all ranks
where M and N are powers of two, N <= M; else at most `2 log2(L + 2) - 2` for L leaves.  `Tree.volume` is the mean of k
over the ranks.
"""

from __future__ import annotations

import numpy as np

from ..kernels.tree import AT_ONCE, NOTHING, tree_kernel

Node = tuple[int, int]  # the leaves from the first on, to below the last


class Tree:
    """The tree over `micro_batches` leaves, shared by `size` ranks.

    Parameters
    ----------
    micro_batches : int
        M, at least 1.
    size : int
        The number of ranks N, at least 1; it has no influence on the bits of the sum.

    Notes
    -----
    Rows of a float32 or a float64 matrix are the vectors, contiguous each; the matrix may be a view of some columns.
    The elements of a sum are independent of each other, so any columns can be summed by themselves.  Nothing is
    allocated but a scratch memory: at most `log2(micro_batches)` rows of 2048 elements.

    Examples
    --------
    Eight micro-batches of one number each, on one rank and on three:

    >>> import numpy as np
    >>> leaves = np.array([[5e7], [1], [1], [1], [1], [1], [1], [1]], np.float32)
    >>> whole = np.empty(1, np.float32)
    >>> one = Tree(8, 1)
    >>> pieces = np.empty((one.sent(0), 1), np.float32)
    >>> one.partial(0, leaves, pieces)
    >>> one.combine(pieces, whole)
    >>> three = Tree(8, 3)
    >>> [three.nodes(rank) for rank in range(3)]
    [((0, 2),), ((2, 4), (4, 5)), ((5, 6), (6, 8))]
    >>> parts = [np.empty((three.sent(rank), 1), np.float32) for rank in range(3)]
    >>> for rank in range(3):
    ...     three.partial(rank, leaves[three.rows(rank).start : three.rows(rank).stop], parts[rank])
    >>> again = np.empty(1, np.float32)
    >>> three.combine(np.concatenate(parts), again)
    >>> int(whole[0]), int(again[0]), int(np.add.accumulate(leaves)[-1, 0])
    (50000004, 50000004, 50000000)
    """

    def __init__(self, micro_batches: int, size: int) -> None:
        self.micro_batches, self.size = micro_batches, size
        self._nodes = [tuple(maximal_nodes(self._span(rank), micro_batches)) for rank in range(size)]
        self._partial = [_program([(i, i + 1) for i in self.rows(rank)], micro_batches) for rank in range(size)]
        self._combine = _program([node for nodes in self._nodes for node in nodes], micro_batches)

    def rows(self, rank: int) -> range:
        """The micro-batches of a rank."""
        return range(*self._span(rank))

    def nodes(self, rank: int) -> tuple[Node, ...]:
        """The maximal nodes of a rank, each its first leaf and the one after its last, in order."""
        return self._nodes[rank]

    def sent(self, rank: int) -> int:
        """How many vectors a rank sends to each owner: its maximal nodes."""
        return len(self._nodes[rank])

    def program(self, rank: int) -> tuple[np.ndarray, np.ndarray]:
        """How a rank sums up its maximal nodes on a stack, taking its micro-batches one after another.

        Returns
        -------
        merges : int64 array of shape (len(self.rows(rank)),)
            After micro-batch k was put on the stack, the two topmost values are added so many times.
        ends : int64 array of the same shape
            The number of the maximal node that is then complete, or -1.
        """
        first, last = self._span(rank)
        merges, ends = np.zeros(last - first, np.int64), np.full(last - first, -1, np.int64)

        def visit(node: Node) -> None:
            if node[1] - node[0] > 1:
                middle = node[0] + left_part(node[1] - node[0])
                visit((node[0], middle))
                visit((middle, node[1]))
                merges[node[1] - 1 - first] += 1

        for number, node in enumerate(self._nodes[rank]):
            visit(node)
            ends[node[1] - 1 - first] = number
        return merges, ends

    @property
    def volume(self) -> float:
        """The elements that a rank sends, on average, as a multiple of those of an ordinary reduce_scatter."""
        return sum(map(len, self._nodes)) / self.size

    def partial(self, rank: int, rows: np.ndarray, out: np.ndarray) -> None:
        """The values of a rank's maximal nodes.

        Parameters
        ----------
        rank : int
        rows : array of shape (len(self.rows(rank)), m)
            The vectors of its micro-batches.
        out : array of shape (self.sent(rank), m)
            Written; shares no memory with `rows`.
        """
        _run(self._partial[rank], rows, out)

    def total(self, leaves: np.ndarray) -> np.ndarray:
        """The value of the root from those of all leaves, rows of a matrix."""
        out = np.empty((1, leaves.shape[1]), leaves.dtype)
        _run(_program([(i, i + 1) for i in range(self.micro_batches)], self.micro_batches), leaves, out)
        root: np.ndarray = out[0]
        return root

    def combine(self, pieces: np.ndarray, out: np.ndarray) -> None:
        """The value of the root.

        Parameters
        ----------
        pieces : array of shape (sum of self.sent(rank), m)
            What all ranks sent, in the order of the ranks.
        out : array of shape (m,)
            Written; shares no memory with `pieces`.
        """
        _run(self._combine, pieces, out.reshape(1, -1))

    def _span(self, rank: int) -> Node:
        return rank * self.micro_batches // self.size, (rank + 1) * self.micro_batches // self.size


def left_part(leaves: int) -> int:
    """The leaves in the left part of a node of so many, at least two."""
    return 1 << (leaves - 1).bit_length() - 1


def maximal_nodes(span: Node, leaves: int) -> list[Node]:
    """The nodes of the tree over so many leaves that lie in a range of them and whose parents do not, in order."""
    return _inside(span, (0, leaves))


def _inside(span: Node, node: Node) -> list[Node]:
    first, last = node
    if span[0] >= last or first >= span[1] or first == last:
        return []
    if span[0] <= first and last <= span[1]:
        return [node]
    middle = first + left_part(last - first)
    return _inside(span, (first, middle)) + _inside(span, (middle, last))


class Program:
    """What `kernels.tree` is given: additions of rows, `scratch` of which are in a memory of its own."""

    def __init__(self, steps: list[tuple[int, int, int]], given: int, scratch: int, results: int) -> None:
        self.steps = np.array(steps, np.int64).reshape(-1, 3)
        self.given, self.scratch, self.results = given, scratch, results


def _program(given: list[Node], leaves: int) -> Program:
    """What makes the maximal nodes of adjacent nodes, given in order: in post-order, with a stack of scratch rows."""
    place = {node: row for row, node in enumerate(given)}
    results = maximal_nodes((given[0][0], given[-1][1]), leaves) if given else []
    steps: list[list[int]] = []
    depth = 0

    def made(node: Node, free: int) -> int:
        """The slot that has the value of a node; scratch rows from `free` on may be written."""
        nonlocal depth
        if node in place:
            return place[node]
        first, last = node
        middle = first + left_part(last - first)
        left = made((first, middle), free)
        right = made((middle, last), free + (left >= len(given)))
        steps.append([left, right, len(given) + free])
        depth = max(depth, free + 1)
        return len(given) + free

    finals = []
    for node in results:
        slot = made(node, 0)
        if slot < len(given):
            steps.append([slot, NOTHING, -1])
        finals.append(len(steps) - 1)
    # The last step of a result writes it, not the memory.
    for row, step in enumerate(finals):
        steps[step][2] = len(given) + depth + row
    return Program([(a, b, c) for a, b, c in steps], len(given), depth, len(results))


def _run(program: Program, rows: np.ndarray, out: np.ndarray) -> None:
    if rows.shape[0] != program.given or out.shape[0] != program.results or rows.shape[1] != out.shape[1]:
        raise ValueError(
            f"rows of shape {rows.shape} and {out.shape} are given; ({program.given}, m) and ({program.results}, m) "
            f"are needed"
        )
    if rows.dtype != out.dtype:
        raise TypeError(f"rows are {rows.dtype} and the result {out.dtype}; one dtype is needed")
    if len(program.steps) == 0 or rows.shape[1] == 0:
        return
    for x in (rows, out):
        if x.shape[1] > 1 and x.strides[1] != x.itemsize:
            raise ValueError(f"a row has strides {x.strides}; its elements must be contiguous")
    tree_kernel(rows.dtype)(program.steps, rows, np.empty((program.scratch, AT_ONCE), rows.dtype), out)
