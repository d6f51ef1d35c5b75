"""Many vectors in one call: the bits of one call for each, and no write where a gradient lies in written memory."""

import weakref
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nagd_numba.kernels import segments, statuses
from nagd_numba.kernels.forms import ALWAYS_PARALLEL
from nagd_numba.optimizers._host import apply, apply_lists
from nagd_numba.optimizers.registry import RULES
from tests.helpers.bits import assert_same_bits

NAMES = ("nesterov", "adam")


def drawn(rng, rule, sizes, dtype=np.float32):
    """Parameters, gradients and states of vectors of these sizes, somewhere inside longer ones."""
    count = 2 + len(rule.states)
    return [[rng.random(n + 3).astype(dtype)[k % 3 : k % 3 + n] for k, n in enumerate(sizes)] for _ in range(count)]


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("name", NAMES)
@given(st.lists(st.integers(0, 400), min_size=1, max_size=12).filter(any), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_bits_of_one_call_for_each(name, parallel, sizes, seed):
    rule = RULES[name]
    columns = drawn(np.random.default_rng(seed), rule, sizes)
    want = [[x.copy() for x in column] for column in columns]
    hyper = tuple(rule.hyper.values())
    for p, g, *states in zip(*want, strict=True):
        apply(rule, p, g, states, dict(rule.hyper), rule.defaults())
    table = segments.Table.of([x for x in zip(*columns, strict=True) if x[0].size])
    step = segments.Step(rule, rule.defaults(), np.dtype(np.float32), ALWAYS_PARALLEL if parallel else None)
    assert step(table, hyper) == statuses.OK
    for made, wanted in zip(columns, want, strict=True):
        assert_same_bits(made, wanted)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 5)), min_size=1, max_size=6), st.data())
@settings(max_examples=200, deadline=None)
def test_pieces_of_memory_that_overlap_are_found(pieces, data):
    """Against sets of the bytes themselves."""
    sets = [set(range(first, first + length)) for first, length in pieces]
    bounds = segments.Bounds(*zip(*pieces, strict=True))
    assert bounds.overlap == (len(set().union(*sets)) < sum(map(len, sets)))
    others = data.draw(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 5)), min_size=1, max_size=4))
    touched = bounds.touched_by(*map(np.array, zip(*others, strict=True)))
    assert list(touched) == [bool(set().union(*sets) & set(range(a, a + n))) for a, n in others]


def test_nothing_touches_no_memory():
    assert list(segments.Bounds([], []).touched_by(np.array([3]), np.array([4]))) == [False]


def test_lists_of_every_kind_of_array():
    """Both types, empty ones, and strided ones: each has the bits that it has alone."""
    rule, rng = RULES["adam"], np.random.default_rng(1)
    columns = drawn(rng, rule, (5, 0, 70_000))
    for column, other in zip(columns, drawn(rng, rule, (33, 4), np.float64), strict=True):
        column += [*other, rng.random((6, 8)).astype(np.float32)[:, ::2], np.asfortranarray(rng.random((3, 4)))]
    want = [[x.copy(order="K") for x in column] for column in columns]
    for p, g, *states in zip(*want, strict=True):
        apply(rule, p, g, states, dict(rule.hyper), rule.defaults())
    apply_lists(rule, list(zip(*columns, strict=True)), dict(rule.hyper), rule.defaults())
    for made, wanted in zip(columns, want, strict=True):
        assert_same_bits([x.copy() for x in made], [x.copy() for x in wanted])


def test_memory_for_constants_lives_while_the_kernel_runs(monkeypatch):
    """It is told an address, which holds nothing."""
    rule = RULES["nesterov"]
    step = segments.GroupedStep(rule, rule.defaults(), np.dtype(np.float64))
    real, kernel, rooms, alive = step.room, step._kernel.kernel, [], []

    def room(groups):
        made = real(groups)
        rooms.append(weakref.ref(made))
        return made

    def watched(*arguments):
        status = kernel(*arguments)
        alive.append(rooms[-1]() is not None)
        return status

    monkeypatch.setattr(step, "room", room)
    monkeypatch.setattr(step, "_kernel", SimpleNamespace(kernel=watched))
    table = segments.Table.of([[np.ones(4), np.ones(4), np.zeros(4)] for _ in range(2)])
    numbers = np.array([tuple(rule.hyper.values())] * 2)
    assert step(table, numbers, np.arange(2)) == statuses.OK
    assert alive == [True]
