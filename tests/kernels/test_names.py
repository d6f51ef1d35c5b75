"""The names under which kernels lie on the disk say all that decides their code."""

import subprocess
import sys

import pytest
from numba import types

from nagd_numba.kernels import segments
from nagd_numba.kernels.jit import SIMULATOR, _identity
from nagd_numba.kernels.linking import Interface
from nagd_numba.kernels.pointers import restorer
from nagd_numba.optimizers.registry import RULES
from tests.helpers.backends import JIT_OFF

pytestmark = pytest.mark.skipif(JIT_OFF or SIMULATOR, reason="is about compiled code on the CPU")

FIRST = Interface(types.void(types.int64))
SECOND = Interface(types.void(types.float64))


def different():
    """Intrinsics that have one function name and different code."""
    return [
        *(x.call for x in (FIRST, SECOND)),
        *(x.symbol_caller(symbol, print) for x in (FIRST, SECOND) for symbol in ("one", "two")),
        *(restorer(types.Tuple((x,))) for x in (types.float32, types.float64)),
    ]


def test_intrinsics_are_told_apart():
    names = list(map(_identity, different()))
    assert len(set(names)) == len(names)


def test_names_are_the_same_in_every_process():
    code = "from tests.kernels.test_names import different, _identity; print(list(map(_identity, different())))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(list(map(_identity, different())))


def test_shares_of_different_rules_and_options():
    """Their signatures are equal: the loop that they call is the difference."""
    nesterov, fista = RULES["nesterov"], RULES["fista"]
    chosen = [(nesterov, nesterov.defaults()), (nesterov, (1, *nesterov.defaults()[1:])), (fista, fista.defaults())]
    made = [segments.linked_segments(rule, options, types.float32) for rule, options in chosen]
    assert len({x.kernel.py_func.__name__ for x in made}) == len(chosen)
