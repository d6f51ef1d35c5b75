"""A bound step of plain vectors on the host, whose call is one call of compiled code."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ..kernels.array_call import BoundCall
from ..kernels.elementwise import OK
from .optimizer import Optimizer

_UNUSUAL = object()  # what `BoundCall` refuses


class BoundVectors:
    """What `bind` returns for NumPy arrays: `general` does the same for everything, and takes what is unusual."""

    __slots__ = ("_call", "_general", "_params")

    def __init__(self, general: Callable[..., Any], call: BoundCall, params: Any) -> None:
        self._general, self._call, self._params = general, call.call, params

    def __call__(self, *numbers: Any, **named: Any) -> Any:
        """Step; see `nagd_numba.bind`.  Classes of `bound_vectors` have the numbers as parameters."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return repr(self._general)


@functools.cache
def bound_vectors(optimizer: Optimizer) -> type[BoundVectors]:
    """The class for the steps of an optimizer, whose call has the step's numbers as parameters; None is as bound."""
    numbers = [x for x in optimizer.settings if optimizer.is_number(x)]
    checked = {"t": "t if t is None else float(t) if t.__class__ is int and -M < t < M else UNUSUAL"}
    given = ", ".join(checked.get(x, x) if x in numbers else "None" for x in optimizer.rule.hyper)
    code = (
        f"def __call__(self, {', '.join(f'{x}=None' for x in numbers)}):\n"
        f"    if self._call(({given},)) != OK:\n"
        f"        self._general({', '.join(numbers)})\n"
        f"    return self._params\n"
    )
    namespace: dict[str, Any] = {"OK": OK, "UNUSUAL": _UNUSUAL, "M": 1 << 53}
    exec(code, namespace)
    call = namespace["__call__"]
    call.__doc__ = "Step; see `nagd_numba.bind`."
    call.__qualname__ = f"bound {optimizer.name}"  # which Python's own errors say
    return type("BoundVectors", (BoundVectors,), {"__slots__": (), "__call__": call, "__module__": __name__})
