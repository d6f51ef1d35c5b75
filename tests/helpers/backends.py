"""Every way in which a rule can be run, behind one call: `backend.run(rule, p, g, states, hyper, options)`.

All update NumPy arrays in place, whatever lies between, so that one test holds for all of them.
"""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
from numba import config, njit, prange

from nagd_numba.gpu.driver import why_no_cuda
from nagd_numba.kernels import elementwise, statuses
from nagd_numba.kernels.forms import ALWAYS_PARALLEL
from nagd_numba.kernels.jit import SIMULATOR
from nagd_numba.kernels.segments import Step, Table
from nagd_numba.optimizers._dispatch import update
from nagd_numba.optimizers._host import apply

cuda = None  # set with the first kernel: importing it takes a while
JIT_OFF = bool(getattr(config, "DISABLE_JIT"))  # noqa: B009  (numba's types do not list its settings)

LONGEST = 40 if SIMULATOR else 300  # of drawn vectors


@dataclass(frozen=True)
class Backend:
    name: str
    run: Callable
    why_not: Callable = lambda: None


def _through_kernel(parallel):
    def run(rule, p, g, states, hyper, options):
        step = Step(rule, options, p.dtype, ALWAYS_PARALLEL if parallel else None)
        assert step(Table.of([(p, g, *states)]), hyper) == statuses.OK

    return run


def _through_apply(rule, p, g, states, hyper, options):
    apply(rule, p, g, states, dict(zip(rule.hyper, hyper, strict=True)), options)


def _strided(rule, p, g, states, hyper, options):
    """Every other element of wider arrays, backwards."""
    wide = [np.zeros(2 * x.size + 1, x.dtype) for x in (p, g, *states)]
    views = [x[-2::-2] for x in wide]
    for view, x in zip(views, (p, g, *states), strict=True):
        view[...] = x
    _through_apply(rule, views[0], views[1], views[2:], hyper, options)
    for view, x in zip(views, (p, g, *states), strict=True):
        x[...] = view


@cache
def _user_function(rule, options, parallel):
    """A user's own jitted loop around the scalar rule."""
    update, constants = rule.update, rule.constants
    gather, scatter = elementwise.gather, elementwise.scatter

    @njit
    def element(p, g, states, i, scalars):
        p[i], state = update(p[i], g[i], gather(states, i), scalars, options)
        scatter(states, i, state)

    @njit(parallel=parallel)
    def user(p, g, states, hyper):
        scalars = constants(hyper, p.dtype.type, options)
        for i in prange(p.size):
            element(p, g, states, i, scalars)

    return user


def _in_user_njit(parallel):
    def run(rule, p, g, states, hyper, options):
        _user_function(rule, options, parallel)(p, g, tuple(states), tuple(hyper))

    return run


@cache
def _elements(rule):
    """A loop around the scalar rule with the options as ordinary arguments: one compilation for all variants."""
    update, gather, scatter = rule.update, elementwise.gather, elementwise.scatter

    @njit
    def loop(p, g, states, scalars, options):
        for i in range(p.size):
            p[i], state = update(p[i], g[i], gather(states, i), scalars, options)
            scatter(states, i, state)

    return loop


def _through_elements(rule, p, g, states, hyper, options):
    _elements(rule)(p, g, tuple(states), rule.scalars(tuple(hyper), p.dtype, options), options)


def _device_step(rule, p, g, states, hyper, options, place, back):
    device = [place(x) for x in (p, g, *states)]
    update(rule, device[0], device[1], device[2:], dict(zip(rule.hyper, hyper, strict=True)), options)
    for x, y in zip((p, *states), (device[0], *device[2:]), strict=True):
        x[...] = back(y)


def _on_device(rule, p, g, states, hyper, options):
    from numba import cuda

    _device_step(rule, p, g, states, hyper, options, cuda.to_device, lambda x: x.copy_to_host())


def _emulated(rule, p, g, states, hyper, options):
    """The compiled CUDA kernel, on the CPU, with every access checked."""
    from tests.helpers import fake_driver

    with fake_driver.installed() as gpu:
        _device_step(rule, p, g, states, hyper, options, gpu.array, gpu.download)


@cache
def _user_kernel(rule, options):
    import numba.cuda

    globals()["cuda"] = numba.cuda  # the simulator looks for it among a kernel's globals
    update, gather, scatter = rule.update, elementwise.gather, elementwise.scatter

    @numba.cuda.jit
    def user(p, g, states, scalars):
        i = cuda.grid(1)
        if i < p.size:
            p[i], state = update(p[i], g[i], gather(states, i), scalars, options)
            scatter(states, i, state)

    return user


def _simulated(rule, p, g, states, hyper, options):
    """A user's own CUDA kernel around the scalar rule."""
    from numba import cuda

    scalars = rule.scalars(tuple(hyper), p.dtype, options)
    device = [cuda.to_device(x) for x in (p, g, *states)]
    _user_kernel(rule, options)[-(-p.size // 32) or 1, 32](device[0], device[1], tuple(device[2:]), scalars)
    for x, y in zip((p, *states), (device[0], *device[2:]), strict=True):
        x[...] = y.copy_to_host()


def _no_emulator():
    if SIMULATOR:
        return "the simulator compiles nothing"
    if JIT_OFF:
        return "the JIT is off"
    return None if importlib.util.find_spec("numba_cuda") else "numba-cuda is not installed: pip install '.[cuda]'"


def _no_simulator():
    return None if SIMULATOR else "the simulator runs with NUMBA_ENABLE_CUDASIM=1"


def _no_device():
    return "the CUDA simulator stands in for the device" if SIMULATOR else why_no_cuda()


BACKENDS = (
    Backend("serial", _through_kernel(parallel=False)),
    Backend("parallel", _through_kernel(parallel=True)),
    Backend("strided", _strided),
    Backend("njit", _in_user_njit(parallel=False)),
    Backend("prange", _in_user_njit(parallel=True)),
    Backend("emulator", _emulated, _no_emulator),
    Backend("simulator", _simulated, _no_simulator),
    Backend("device", _on_device, _no_device),
)

# The algebra of a rule is a matter of its elements: that all backends agree with them is a test of its own, and that
# the theorem holds on each as well is for CI to repeat; on some it takes long, since each variant compiles.
ELEMENTS = Backend("elements", _through_elements)
COMPILE_LONG = ("parallel", "strided", "njit", "prange", "emulator")
ELEMENTS_FIRST = (
    ELEMENTS,
    *(
        pytest.param(backend, marks=pytest.mark.slow if backend.name in COMPILE_LONG else pytest.mark.ci)
        for backend in BACKENDS
    ),
)


def here(backend):
    """The backend; skips, with the reason, where it cannot run here."""
    reason = backend.why_not()
    if reason is not None:
        pytest.skip(reason)
    return backend
