"""A bound step of plain vectors on the host, whose call is one call of compiled code."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ..kernels.array_call import BoundCall
from ..kernels.statuses import OK
from .optimizer import Optimizer

Take = Callable[..., Any]

_UNUSUAL = object()  # what `BoundCall` refuses


def bound_vectors(
    optimizer: Optimizer, call: BoundCall, general: Take, params: Any, names: tuple[str, ...], average: Any
) -> Take:
    """What `bind` returns for NumPy arrays: `general` does the same for everything, and takes what is unusual.

    `names` are those of the hyper-parameters that the call takes; `average` tells the weight of one, and counts steps.

    It is a function, whose arguments Python passes sooner than those of an object.
    """
    take = _maker(optimizer, names)(call.call, general, params, average)
    take.__doc__ = "Step; see `nagd_numba.bind`."
    take.__name__ = take.__qualname__ = f"bound {optimizer.name}"  # which Python's own errors say
    return take


@functools.cache
def _maker(optimizer: Optimizer, names: tuple[str, ...]) -> Callable[..., Take]:
    """Makes functions that have the numbers of a step as parameters; None is as bound."""
    numbers = [x for x in optimizer.settings if optimizer.is_number(x)]
    checked = {"t": "t if t is None else float(t) if t.__class__ is int and -M < t < M else UNUSUAL"}
    weight = "average_weight"
    given = ", ".join(checked.get(x, x) if x in numbers else "average.weight" if x == weight else "None" for x in names)
    arrays = "".join(f"{x} is not None or " for x in numbers if x not in names)  # which no number can be exchanged for
    counted = "        else:\n            average.steps += 1\n" if weight in names else ""
    code = (
        f"def make(call, general, params, average):\n"
        f"    def take({', '.join(f'{x}=None' for x in numbers)}):\n"
        f"        if {arrays}call(({given},)) != OK:\n"
        f"            general({', '.join(numbers)})\n"
        f"{counted}"
        f"        return params\n"
        f"    return take\n"
    )
    namespace: dict[str, Any] = {"OK": OK, "UNUSUAL": _UNUSUAL, "M": 1 << 53}
    exec(code, namespace)
    make: Callable[..., Take] = namespace["make"]
    return make
