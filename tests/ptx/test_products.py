"""The machine code of the matrix products, executed: the bits of the CPU, at a cost that must not grow."""

import numpy as np
import pytest

from nagd_numba.mlp.gpu.gemm import DELTA, GRADIENT, HIDDEN, OUTPUT, UPDATE
from tests.ptx import products
from tests.ptx.products import Case

pytestmark = pytest.mark.usefixtures("compiler")

INSTRUCTIONS = 1.25  # for each fma of a large product in float32: 80 % of the speed of the fma alone
OF_DATA = 1.28  # where the terms are rows that are picked from data, and scaled
WAVEFRONTS = 0.13  # of 0.25
SMALL = 1.55, 0.38  # of small tiles, in which loads take a larger part

EACH = [Case(HIDDEN, "float32", 64), *(Case(purpose, "float32", 64) for purpose in (DELTA, UPDATE))]
MORE = [
    *(Case(purpose, "float32", 64) for purpose in (OUTPUT, GRADIENT)),
    *(Case(purpose, "float32", 64, "float32") for purpose in (HIDDEN, UPDATE)),
]
SMALLER = [Case(purpose, "float32", 32) for purpose in (HIDDEN, DELTA, UPDATE)]


def case_id(case):
    return case.name.replace(" ", "-")


def marked(cases, mark):
    return [pytest.param(case, id=case_id(case), marks=mark) for case in cases]


@pytest.mark.parametrize("case", [pytest.param(EACH[0], id=case_id(EACH[0])), *marked(EACH[1:], pytest.mark.ci)])
@pytest.mark.parametrize(("inner", "aligned"), [(8, True), (149, False)])
def test_products_have_the_bits_of_the_cpu(case, inner, aligned):
    _, made, wanted = products.run(case, inner, aligned)
    np.testing.assert_array_equal(made, wanted)


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(EACH[0], id=case_id(EACH[0])),
        *marked(EACH[1:], pytest.mark.ci),
        *marked([*MORE, *SMALLER], pytest.mark.slow),
    ],
)
def test_most_of_what_is_issued_is_fma(case):
    found = products.cost(case)
    assert found.spills == 0
    large = (OF_DATA if case.source else INSTRUCTIONS), WAVEFRONTS
    most = large if case.tile == 64 else SMALL
    assert found.instructions <= most[0]
    assert found.wavefronts <= most[1]
