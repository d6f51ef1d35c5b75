"""Templates: every slot is filled, and no other; what is made has the name that it was given."""

import pytest

from nagd_numba.kernels.template import template


@template
def scaled(factor, OFFSET):
    """A number, scaled."""

    def scaled(x):
        return factor * x + OFFSET

    return scaled


def test_slots_are_constants_of_the_function():
    function = scaled.bind("double_plus_one", factor=2, OFFSET=1)
    assert function(3) == 7
    assert (function.__name__, scaled.bind(factor=1, OFFSET=0).__name__) == ("double_plus_one", "scaled")
    assert scaled.__doc__ == "A number, scaled."


@pytest.mark.parametrize(
    ("slots", "message"),
    [
        ({"factor": 2}, "missing 1 required .* 'OFFSET'"),
        ({"factor": 2, "OFFSET": 1, "SHIFT": 0}, "unexpected .* 'SHIFT'"),
    ],
)
def test_a_missing_or_an_unknown_slot_is_refused(slots, message):
    with pytest.raises(TypeError, match=message):
        scaled.bind(**slots)
