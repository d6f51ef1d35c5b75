"""Which products are made in parts; that they have the bits of the CPU is tested with the passes."""

import pytest

from nagd_numba import MLP
from nagd_numba.mlp.gpu import gemm
from nagd_numba.mlp.gpu.passes import Space
from nagd_numba.mlp.gpu.split import FEWEST, LARGEST, MOST, division
from nagd_numba.mlp.sums import BLOCK

HOPPER = 132  # multiprocessors


def test_few_results_of_many_terms_are_made_in_parts():
    assert division((256, 10, 1024), HOPPER) == ((8, 1), 32, 8)  # was 8 thread blocks for 132 multiprocessors
    assert division((785, 128, 1024), HOPPER) == ((25, 4), 32, 1)
    assert division((65, 10, 100_000), HOPPER) == ((2, 1), 64, 782)


@pytest.mark.parametrize(
    "shape",
    [
        (4096, 512, 784),  # every multiprocessor has a tile
        (256, 10, (FEWEST - 1) * BLOCK),  # a second launch would take as long
        (640, 256, 200 * BLOCK),  # most of them have one
        (256, 10, BLOCK * (LARGEST // 2560 + 1)),  # the parts would be too large
        (2, 1, BLOCK * (MOST + 1)),  # too many for a grid
    ],
    ids=str,
)
def test_others_are_not(shape):
    assert division(shape, HOPPER).parts == 1


def test_parts_fit_into_the_room_that_there_is():
    """A batch of fewer rows may have too few tiles, where the batch that the room is for has enough."""
    spec = MLP([784, 1024, 10]).spec
    shape = 32, 1024, 784
    space = Space(spec, 2048, HOPPER)
    found = division(shape, HOPPER, space.room)
    assert found.room(*shape[:2]) <= space.room
    assert division(shape, HOPPER).parts > 1
    assert division(shape, HOPPER, room=0).parts == 1


def test_layers_that_are_too_wide_are_refused():
    gemm.check((3, gemm.WIDEST))
    with pytest.raises(ValueError, match=r"sizes is \(268435457, 1\); on a CUDA device a layer has 268435456 units"):
        gemm.check((gemm.WIDEST + 1, 1))
