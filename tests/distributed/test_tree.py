"""Sums along a fixed tree: the bits of one rank on any number of them, in the messages that the module states."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nagd_numba.distributed.tree import Tree, left_part, maximal_nodes
from nagd_numba.kernels.jit import JIT_OFF
from tests.helpers.bits import assert_same_bits

EXAMPLES = 20 if JIT_OFF else 150


def wild(leaves, columns, dtype, seed):
    """Vectors whose elements differ by as many powers of ten as their sums can bear; some are 0, infinite or not."""
    random = np.random.default_rng(seed)
    reach = 30 if dtype == "float32" else 300
    x = random.normal(size=(leaves, columns)) * 10.0 ** random.uniform(-reach, reach, (leaves, columns))
    x[random.random(x.shape) < 0.05] = -0.0
    x[random.random(x.shape) < 0.002] = np.inf
    return x.astype(dtype)


def by_definition(x):
    """The module's definition, in NumPy."""
    if len(x) == 1:
        return x[0]
    left = 2 ** math.ceil(math.log2(len(x)) - 1)
    with np.errstate(over="ignore", invalid="ignore"):
        return by_definition(x[:left]) + by_definition(x[left:])


def shared(x, size):
    """The sum by the messages of so many ranks, two of whose slices the owners sum by themselves."""
    tree, columns = Tree(len(x), size), x.shape[1]
    pieces = []
    for rank in range(size):
        rows = tree.rows(rank)
        pieces.append(np.full((tree.sent(rank), columns), 7, x.dtype))
        tree.partial(rank, x[rows.start : rows.stop], pieces[rank])
    received, out = np.concatenate(pieces), np.empty(columns, x.dtype)
    half = columns // 2
    tree.combine(received[:, :half], out[:half])
    tree.combine(received[:, half:], out[half:])
    return out


@given(
    leaves=st.integers(1, 40),
    size=st.integers(1, 50),
    columns=st.sampled_from([1, 3, 200, 2048, 2049, 5000]),
    dtype=st.sampled_from(["float32", "float64"]),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=EXAMPLES, deadline=None)
def test_any_number_of_ranks_has_the_bits_of_the_definition(leaves, size, columns, dtype, seed):
    x = wild(leaves, columns, dtype, seed)
    expected = by_definition(x)
    finite = ~np.isnan(expected)  # the payload of a NaN is no promise
    made = shared(x, size)
    assert_same_bits([made[finite]], [expected[finite]])
    assert np.isnan(made[~finite]).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_other_orders_have_other_bits(dtype):
    """What the test above would not pass: the ranks' own sums, added up in their order."""
    x = np.random.default_rng(0).normal(size=(8, 1000)).astype(dtype)
    sums = {}
    for size in (1, 2, 3, 4, 8):
        parts = [x[rows.start : rows.stop].sum(axis=0) for rows in map(Tree(8, size).rows, range(size))]
        sums[size] = np.add.accumulate(parts)[-1]
    assert len({x.tobytes() for x in sums.values()}) > 3
    assert len({shared(x, size).tobytes() for size in sums}) == 1


@given(leaves=st.integers(1, 300), size=st.integers(1, 320))
@settings(max_examples=EXAMPLES, deadline=None)
def test_ranks_share_the_leaves_and_their_nodes_cover_them(leaves, size):
    tree = Tree(leaves, size)
    rows = [tree.rows(rank) for rank in range(size)]
    assert [k for each in rows for k in each] == list(range(leaves))
    assert max(map(len, rows)) - min(map(len, rows)) <= 1
    for rank, mine in enumerate(rows):
        nodes = tree.nodes(rank)
        assert [k for first, last in nodes for k in range(first, last)] == list(mine)
        assert tree.sent(rank) == len(nodes) <= 2 * math.log2(len(mine) + 2) - 2
        assert [node for node in nodes if not is_node(node, (0, leaves))] == []
        for first, last in nodes:  # no larger node of the rank has it
            assert not any(
                is_node((a, b), (0, leaves)) and (a, b) != (first, last)
                for a in range(mine.start, first + 1)
                for b in range(last, mine.stop + 1)
            )
    assert tree.volume == sum(map(tree.sent, range(size))) / size
    if leaves >= size and (leaves & (leaves - 1)) == (size & (size - 1)) == 0:
        assert tree.volume == 1  # the bytes of an ordinary reduce_scatter


def is_node(node, tree):
    if tree == node:
        return True
    if tree[1] - tree[0] == 1 or node[0] < tree[0] or node[1] > tree[1]:
        return False
    middle = tree[0] + left_part(tree[1] - tree[0])
    return is_node(node, (tree[0], middle)) or is_node(node, (middle, tree[1]))


@given(leaves=st.integers(1, 100), size=st.integers(1, 110))
@settings(max_examples=EXAMPLES, deadline=None)
def test_a_stack_makes_the_same_nodes(leaves, size):
    tree = Tree(leaves, size)
    for rank in range(size):
        merges, ends = tree.program(rank)
        stack, made = [], []
        for k, leaf in enumerate(tree.rows(rank)):
            stack.append(str(leaf))
            for _ in range(merges[k]):
                right = stack.pop()
                stack.append(f"({stack.pop()}+{right})")
            if ends[k] >= 0:
                assert ends[k] == len(made)
                (done,) = stack
                made.append(done)
                stack = []
        assert stack == []
        assert made == [as_text(node) for node in tree.nodes(rank)]


def as_text(node):
    first, last = node
    if last - first == 1:
        return str(first)
    middle = first + left_part(last - first)
    return f"({as_text((first, middle))}+{as_text((middle, last))})"


def test_the_tree_of_the_documentation():
    assert as_text((0, 6)) == "(((0+1)+(2+3))+(4+5))"
    assert as_text((0, 7)) == "(((0+1)+(2+3))+((4+5)+6))"
    assert maximal_nodes((3, 7), 8) == [(3, 4), (4, 6), (6, 7)]


def test_the_sum_of_all_leaves_at_once():
    x = wild(11, 6, "float64", 3)
    assert_same_bits([Tree(11, 4).total(x)], [by_definition(x)])


def test_what_does_not_fit_is_refused():
    tree, x = Tree(4, 2), np.zeros((2, 5), np.float32)
    with pytest.raises(ValueError, match=r"\(2, m\) and \(1, m\)"):
        tree.partial(0, x[:1], x[1:])
    with pytest.raises(TypeError, match="float64"):
        tree.partial(0, x, np.zeros((1, 5)))
    with pytest.raises(ValueError, match="contiguous"):
        tree.partial(0, np.zeros((5, 2), np.float32).T, x[:1].copy())
