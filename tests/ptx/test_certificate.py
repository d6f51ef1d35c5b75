"""The step kernels against the speed of light: their machine code, executed, gives the CPU's bits, and moves least.

The values that are compared go through every store of the machine code, halves two in a register among them.
"""

import itertools
import re

import numpy as np
import pytest

from nagd_numba.gpu import elementwise
from nagd_numba.optimizers.registry import RULES
from tests.ptx import certificate
from tests.ptx.certificate import Case
from tests.ptx.sass.listing import Listing

pytestmark = pytest.mark.usefixtures("compiler")

DEFAULT = [Case(RULES["nesterov"], "float32", False, False), Case(RULES["nesterov"], "bfloat16", True, True)]
STORED = [("float32", False), ("float64", False), ("float16", False), ("float16", True), ("bfloat16", False)]
MORE = [
    Case(rule, *stored, lists)
    for rule, stored, lists in zip(
        list(RULES.values()) * 2, itertools.cycle(STORED), itertools.cycle((True, False)), strict=False
    )
]


def case_id(case):
    return case.name.replace(" ", "-")


@pytest.mark.parametrize(
    "case",
    [
        *(pytest.param(case, id=case_id(case)) for case in DEFAULT),
        *(pytest.param(case, id=case_id(case), marks=pytest.mark.ci) for case in MORE[:6]),
        *(pytest.param(case, id=case_id(case), marks=pytest.mark.slow) for case in MORE[6:]),
    ],
)
def test_step_kernels_are_at_the_speed_of_light(case):
    aligned, apart = certificate.look(case), certificate.look(case, offsets=True)
    assert not certificate.failures(case, aligned, apart), (aligned, apart)


def test_what_is_worse_is_said():
    case = DEFAULT[0]
    good = certificate.Found(20.0, 1.0, 60e3, True)
    assert not certificate.failures(case, good, good)
    for change, said in (
        ({"bytes": 20.3}, "20.30 bytes for each element, not 20"),
        ({"on_the_way": 9e3}, "9.0 kB on the way, not 10.7"),
        ({"wide": 0.9}, "only 90% of the bytes"),
        ({"equal": False}, "not the bits of the CPU"),
    ):
        assert said in certificate.failures(case, good._replace(**change), good)[0]


@pytest.mark.ci
def test_a_kernel_whose_elements_move_one_by_one_is_found(monkeypatch):
    """The real kernel, made worse."""
    case = DEFAULT[0]
    monkeypatch.setattr(elementwise, "wide_width", lambda storage: 1)
    monkeypatch.setenv("NAGD_NUMBA_CACHE", "0")  # it has the name of the good one
    worse = elementwise.kernel.__wrapped__(case.rule, case.rule.defaults(), case.storage, case.master, case.lists)
    monkeypatch.setattr(Case, "kernel", lambda self: worse)
    found = certificate.look(case)
    assert found.wide == 0
    assert "only 0% of the bytes" in certificate.failures(case, found, found)[-1]


@pytest.mark.parametrize(
    ("storage", "pair", "other"),
    [
        # Two halves of a register in the wrong order, and part of one left out.
        ("float16", r"(F2FP\.F16\.F32\.PACK_AB R\d+), (R\d+), (R\d+)", r"\1, \3, \2"),
        pytest.param("bfloat16", r"(LEA\.HI R\d+), R\d+, (R\d+, RZ, 0x10)", r"\1, RZ, \2", marks=pytest.mark.ci),
    ],
)
def test_stores_of_halves_are_wide_and_in_their_order(storage, pair, other):
    """Link-time optimization has been seen to store pairs of 16 bits wrongly; one wrong pair is found here."""
    case = Case(RULES["nesterov"], storage, False, False)
    good = certificate.look(case)
    assert good.equal
    assert good.wide == 1

    def damaged(text):
        changed, count = re.subn(pair, other, text)
        assert count > 0
        return Listing.of(changed)

    assert not certificate.look(case, listing_of=damaged).equal


def test_the_least_that_a_rule_needs():
    rule = RULES["adam"]
    sizes = {(s, m): Case(rule, s, m, False).least() for s, m in (("float32", False), ("float64", False))}
    assert sizes == {("float32", False): 28, ("float64", False): 56}
    assert Case(rule, "float16", False, False).least() == 2 + 2 + 2 + 16
    assert Case(rule, "float16", True, False).least() == 2 + 2 + 8 + 16
    assert np.isclose(Case(rule, "float32", False, False).needed(), certificate.NEEDED * 16 / 28)
