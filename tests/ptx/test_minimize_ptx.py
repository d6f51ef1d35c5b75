"""The kernel of `minimize`, compiled without a driver: what is in its machine code."""

import pytest
from numba import njit, types

from nagd_numba.gpu.compiler import Kernel
from nagd_numba.minimizer.gpu import kernel
from nagd_numba.minimizer.specialize import DIFFERENCES, INPLACE, Functions
from tests.helpers.backends import JIT_OFF
from tests.ptx import machine_code

pytestmark = [
    pytest.mark.skipif(JIT_OFF, reason="nothing is compiled with the JIT off"),
    pytest.mark.usefixtures("compiler"),
]


A_FEW = 64  # instructions that spill or fetch, of about 11,000; 37 were found


@njit
def line(x, g, signal, times):
    total = 0.0
    g[0] = g[1] = 0.0
    for i in range(times.size):
        r = x[0] + x[1] * times[i] - signal[i]
        total += 0.5 * r * r
        g[0] += r
        g[1] += r * times[i]
    return total


@njit
def height(x, signal, times):
    return (x[0] - signal[0]) ** 2 + (x[1] - times[0]) ** 2


def fused(out, a, b, c):
    out[0] = a * b + c


def test_products_and_sums_of_users_stay_two_roundings():
    counts = []
    for users in (False, True):
        made = Kernel(fused, "fused", (types.float64[::1], *[types.float64] * 3), users=users)
        counts.append(machine_code.read(made.image((9, 0))).fma)
    assert counts == [1, 0]


@pytest.mark.parametrize(
    ("fun", "form", "prox"),
    [(line, INPLACE, None), pytest.param(height, DIFFERENCES, "box", marks=pytest.mark.ci)],
    ids=["inplace", "differences"],
)
def test_few_registers_are_spilled(fun, form, prox):
    arrays = (types.float64[:, ::1],), (types.float64[::1],)
    made = kernel.kernel(Functions(fun, None, form, prox), types.float64, *arrays)
    code = machine_code.read(made.image((9, 0)))
    assert code.spills <= A_FEW
    assert code.registers * kernel.THREADS <= 65536 // 2  # at least two blocks on a multiprocessor
