"""Masks of bytes: both loops, of which a processor has one, step the same elements."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

from nagd_numba.kernels import blocks, elementwise
from nagd_numba.kernels.composed import Parts, composed
from nagd_numba.kernels.jit import subroutine
from nagd_numba.kernels.pointers import pointer
from nagd_numba.optimizers.registry import OPTIMIZERS
from tests.helpers.bits import assert_same_bits

BLOCK = blocks.BLOCK
RULE = OPTIMIZERS["nesterov"].rule
HYPER = 0.25, 0.75, 0.5, 0.125


def loop_of(mask, masked_stores):
    """The loop of a rule, called with arrays, a range and constants."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(elementwise, "masked_stores", lambda: masked_stores)
        loop = subroutine(elementwise.range_loop(composed(RULE, Parts(mask=mask)), RULE.defaults()))
    if not mask:
        return njit(lambda p, g, v, m, first, last, c: loop(pointer(p), pointer(g), (pointer(v),), first, last, c))
    return njit(
        lambda p, g, v, m, first, last, c: loop(pointer(p), pointer(g), (pointer(v), pointer(m)), first, last, c)
    )


PLAIN, BY_ELEMENT, BY_BLOCK = loop_of("", True), loop_of("bytes", True), loop_of("bytes", False)

runs = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 2, 255]), st.one_of(st.integers(1, 5), st.integers(1, 3).map(lambda k: k * BLOCK))
    ),
    min_size=1,
    max_size=6,
)


@given(runs, st.integers(0, 70), st.integers(0, 70))
def test_blocks_of_a_mask(runs, first, short):
    """Runs of kept and masked elements, whole blocks and shorter, from anywhere to anywhere."""
    mask = np.concatenate([np.full(length, value, np.uint8) for value, length in runs])
    n = mask.size
    first, last = min(first, n), max(min(first, n), n - short)
    constants = RULE.scalars(HYPER, np.dtype(np.float32), RULE.defaults())
    rng = np.random.default_rng(n)
    arrays = [rng.normal(size=n).astype(np.float32) for _ in range(3)]
    kept = np.zeros(n, bool)
    kept[first:last] = mask[first:last] != 0
    wanted = [x[kept] for x in arrays]
    PLAIN(*wanted, mask, 0, int(kept.sum()), constants)
    for k in (0, 2):  # the gradient is only read
        arrays[k][~kept & (rng.random(n) < 0.5)] = np.nan
    before = [x.copy() for x in arrays]
    for loop in (BY_ELEMENT, BY_BLOCK):
        made = [x.copy() for x in arrays]
        loop(*made, mask, first, last, constants)
        assert_same_bits([x[kept] for x in made], wanted)
        assert_same_bits([x[~kept] for x in made], [x[~kept] for x in before])
