"""`minimize` and `minimize_many` where the start lies on a device and the functions are compiled."""

from __future__ import annotations

import dataclasses
import time
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
from numba.np.numpy_support import from_dtype

from ...gpu import device_array, driver, streams
from ...gpu.compiler import Kernel
from ...gpu.device_array import DeviceMemory
from ...kernels.autotune import CALL_SECONDS
from ...kernels.jit import SIMULATOR
from ...validation import is_device_array
from .. import algorithm
from ..objective import NIT
from ..results import CALLBACK_STATUS, message, summary
from ..settings import Choices
from ..specialize import Functions
from .functions import Argument, adapted, is_compiled, row_of
from .kernel import kernel
from .launches import Launches, Unfit, steps_of_launch


def on_device(start: Any, fun: Any) -> bool:
    """Are these for a solve on a device?"""
    return not SIMULATOR and is_device_array(start) and is_compiled(fun)


def starts(name: str, start: Any, ndim: int) -> DeviceMemory:
    """The start, which must be a vector, or a matrix with a problem in each row."""
    memory = device_array.describe(name, start, write=False)
    if len(memory.shape) != ndim or (memory.size == 0 and not (ndim == 2 and memory.shape[0] == 0)):
        wanted = "a vector of at least one element" if ndim == 1 else "a matrix with a problem in each row"
        raise ValueError(f"{name} has shape {memory.shape}; {wanted} is needed")
    return memory


def solve_many(
    fun: Any, X0: DeviceMemory, args: tuple[Any, ...], shared: tuple[Any, ...], jac: Any, wanted: Choices
) -> Any:
    """The problems of `minimize_many`."""
    from scipy.optimize import OptimizeResult

    columns = [Argument(f"args[{k}]", given) for k, given in enumerate(args)]
    for k, column in enumerate(columns):
        if column.memory is None or len(column.memory.shape) == 0 or column.memory.shape[0] != X0.shape[0]:
            shape = () if column.memory is None else column.memory.shape
            raise ValueError(
                f"args[{k}] has shape {shape} and there are {X0.shape[0]} problems; an array with a row for each is "
                f"needed; what all have in common goes to shared"
            )
    common = [Argument(f"shared[{k}]", given) for k, given in enumerate(shared)]
    launches = _launches("X0", fun, X0, columns, common, jac, wanted)
    try:
        launches.run()
    except Unfit as error:
        raise _not_finite("X0", X0, int(error.args[0])) from None
    ended = {status - 1: int(count) for status, count in enumerate(launches.ended) if count}
    said = ""
    if raised := ended.get(algorithm.RAISED, 0):
        said = f"{raised} of {X0.shape[0]} raised"
        warnings.warn(f"minimize_many: {said}", RuntimeWarning, stacklevel=4)
    return OptimizeResult(**launches.results._asdict(), message=summary(ended, wanted, said))


def solve_one(
    fun: Any,
    x0: DeviceMemory,
    args: tuple[Any, ...],
    jac: Any,
    wanted: Choices,
    tell: Callable[[Any, float], bool] | None,
    began: float,
) -> Any:
    """The problem of `minimize`; `tell` is its callback."""
    from scipy.optimize import OptimizeResult

    there = dataclasses.replace(x0, shape=(1, *x0.shape), strides=None)
    launches = _launches(
        "x0", fun, there, [], [Argument(f"args[{k}]", given) for k, given in enumerate(args)], jac, wanted
    )
    here = driver.current()
    launches.begin(0)
    autotuner, left, iterations = steps_of_launch(), 1, 0
    try:
        while left:
            steps = 1 if tell is not None else autotuner.next(2**62)[1]
            remaining = wanted.maxtime - (time.perf_counter() - began)
            if remaining <= 0:
                left = launches.advance(0, algorithm.TIME)
                continue
            if remaining < CALL_SECONDS:
                steps = max(1, int(steps * remaining / CALL_SECONDS))
            left = launches.timed(autotuner, steps)
            if tell is not None:
                before, iterations = iterations, int(here.download(launches.counts)[NIT, 0])
                x, total = here.download(launches.x)[:, 0], float(here.download(launches.numbers)[algorithm.TOTAL, 0])
                if iterations > before and tell(x, total) and left:
                    left = launches.advance(0, algorithm.CALLBACK)
    except Unfit as error:
        raise _not_finite("x0", x0, int(error.args[0])) from None
    found = {
        name: here.download(array).item() for name, array in launches.results._asdict().items() if name not in VECTORS
    }
    status = int(found.pop("status"))
    if status == algorithm.RAISED:
        raise RuntimeError(
            "fun, or another of the functions, raised an exception on the CUDA device; try it on the host"
        )
    return OptimizeResult(
        **{name: getattr(launches.results, name).reshape(launches.n) for name in VECTORS},
        **found,
        status=CALLBACK_STATUS if status == algorithm.CALLBACK else status,
        message=message(status, wanted),
    )


KEPT = 128  # kernels of a function
VECTORS = ("x", "jac")  # of the results, which stay on the device


def _launches(
    name: str,
    fun: Any,
    starts: DeviceMemory,
    columns: list[Argument],
    common: list[Argument],
    jac: Any,
    wanted: Choices,
) -> Launches:
    arguments = [*columns, *common]
    memory = [(argument.name, argument.memory) for argument in arguments if argument.memory is not None]
    device = device_array.one_device([(name, starts), *memory])
    stream = streams.stream_of(None, starts.owner, device)
    here = driver.current()
    if here.capturing(stream, device):
        raise RuntimeError(
            f"the stream of {name} captures a graph, and a solve waits for the device: solve outside of it"
        )
    owners = [starts.owner, *(x.owner for _, x in memory)]
    for other in streams.Sources(owners).others(stream, given=False, device=device):
        here.order(other, stream, device)
    kinds = [tuple(argument.kind for argument in arguments) for arguments in (columns, common)]
    made = _kernel(fun, (jac, wanted.prox, wanted.penalty, starts.dtype, *kinds, here.capability(device)))
    return Launches(made, starts, wanted, arguments, device, stream)


_kernels: weakref.WeakKeyDictionary[Any, dict[Any, Kernel]] = weakref.WeakKeyDictionary()


def _kernel(fun: Any, how: tuple[Any, ...]) -> Kernel:
    """The kernel for a function and all else that decides it, which is kept as long as the function is there."""
    kernels = _kernels.setdefault(fun, {})
    if how not in kernels:
        jac, prox, penalty, starts, columns, common, capability = how
        functions: Functions = adapted(fun, jac, prox, penalty, (*map(row_of, columns), *common), capability)
        made = kernel(functions, from_dtype(np.dtype(starts)), columns, common)
        while len(kernels) >= KEPT:
            kernels.pop(next(iter(kernels)), None)
        kernels[how] = made
    return kernels[how]


def _not_finite(name: str, starts: DeviceMemory, at: int) -> ValueError:
    place = np.unravel_index(at, starts.shape)
    return ValueError(f"{name}{[int(k) for k in place]} is not finite; a start from finite numbers is needed")
