"""Is what `minimize_many` finds in lanes what each problem has alone?"""

import numpy as np

from nagd_numba import minimize, minimize_many
from nagd_numba.minimizer import algorithm


def compare(found, alone, m):
    for name in ("x", "jac", "fun", "nit", "status", "L", "restarts"):
        np.testing.assert_array_equal(found[name][m], alone[name], err_msg=f"{name} of problem {m}")
    assert found.nfev[m] + 1 == alone.nfev


def check(lanes, fun, jac, starts, columns, shared=(), **options):
    found = minimize_many(fun, starts, columns, shared, jac=jac, **options)
    assert lanes == [lanes[0]]
    assert lanes[0] is not None
    for m in range(len(starts)):
        args = *(column[m] for column in columns), *shared
        try:
            alone = minimize(fun, starts[m], args, jac, **options)
        except (ArithmeticError, ZeroDivisionError):
            assert found.status[m] == algorithm.RAISED
            assert np.array_equal(found.x[m], starts[m])
            assert np.isnan(found.fun[m])
        else:
            compare(found, alone, m)
    return found
