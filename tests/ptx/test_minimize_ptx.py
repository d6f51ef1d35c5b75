"""The kernel of `minimize`, compiled without a driver: what is in its machine code."""

import pytest
from numba import njit, types

from nagd_numba import minimize_many
from nagd_numba.gpu.compiler import Kernel
from nagd_numba.minimizer.gpu import kernel
from nagd_numba.minimizer.specialize import DIFFERENCES, Functions
from tests.helpers.backends import JIT_OFF
from tests.ptx import machine_code, minimize_launch

pytestmark = [
    pytest.mark.skipif(JIT_OFF, reason="nothing is compiled with the JIT off"),
    pytest.mark.usefixtures("compiler"),
]


MAXITER = 12
GENERIC = 19  # accesses, of about 950, to the point that is x or y: NVVM does not see that both are the device's memory


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


def of_differences():
    arrays = (types.float64[:, ::1],), (types.float64[::1],)
    return kernel.kernel(Functions(height, None, DIFFERENCES, "box"), types.float64, *arrays)


@pytest.mark.parametrize(
    "make", [minimize_launch.made, pytest.param(of_differences, marks=pytest.mark.slow)], ids=["inplace", "differences"]
)
def test_nothing_is_spilled_and_the_memory_is_known(make):
    code = machine_code.read(make().image(minimize_launch.HOPPER))
    assert code.spills == 0
    assert code.generic <= GENERIC
    assert code.registers * kernel.THREADS <= 65536 // 3  # at least three blocks on a multiprocessor


@pytest.mark.ci
def test_a_launch_has_the_bits_of_the_cpu_and_neighbours_read_neighbouring_memory():
    X0, signals, times = minimize_launch.samples()
    found, traffic = minimize_launch.run(X0, signals, times, maxiter=MAXITER)
    host = minimize_many(
        minimize_launch.line, X0, (signals,), (times,), "inplace", tol=minimize_launch.TOL, maxiter=MAXITER
    )
    assert len(set(host.nit)) > 1  # they do not all end together
    for name, values in found.items():
        assert values.tobytes() == host[name].tobytes(), name
    for name in minimize_launch.STATE:
        assert traffic[name].sectors <= 1.05 * traffic[name].least, name
    # Rows of the user's arrays lie apart: a sector for each problem, where one would hold those of four.
    assert traffic["signals"].sectors > 3 * traffic["signals"].least
