"""A step of PyTorch, CuPy and JAX on arrays of their own, each where it is installed and sees the device."""

from __future__ import annotations

import functools
import gc
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from .gpu_report import Unusable
from .gpu_timing import Contender, finish, values

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # or JAX takes three quarters of the memory

LR, MOMENTUM = 0.01, 0.9
DEVICE = "cuda"  # of PyTorch
excluded: set[str] = set()


def usable(name: str) -> Any:
    """The module; raises `Unusable` with the reason where it cannot work on the device."""
    if name in excluded:
        raise Unusable(f"left out by --without {name}")
    module, reason = _looked_for(name)
    if reason is not None:
        raise Unusable(reason)
    return module


@functools.cache
def _looked_for(name: str) -> tuple[Any, str | None]:
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        return None, f"{name} is not installed ({error})"
    except Exception as error:  # libraries that do not fit
        return None, f"{name} cannot be imported ({type(error).__name__}: {error})"
    try:
        return module, _no_device[name](module)
    except Exception as error:
        return None, f"{name} cannot use the device ({type(error).__name__}: {' '.join(str(error).split())[:300]})"


def _torch(torch: Any) -> str | None:
    if not torch.cuda.is_available():
        return f"torch {torch.__version__} sees no device"
    torch.zeros(1, device="cuda").add_(1).cpu()
    return None


def _cupy(cupy: Any) -> str | None:
    (cupy.zeros(1) + 1).get()
    return None


def _jax(jax: Any) -> str | None:
    platform = jax.devices()[0].platform
    if platform != "gpu":
        return f"jax {jax.__version__} runs on {platform} only"
    (jax.numpy.zeros(1) + 1).block_until_ready()
    return None


_no_device: dict[str, Callable[[Any], str | None]] = {"torch": _torch, "cupy": _cupy, "jax": _jax}


def give_back() -> None:
    """Let libraries return memory that they keep for later."""
    gc.collect()
    torch, cupy = sys.modules.get("torch"), sys.modules.get("cupy")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
    if cupy is not None:
        cupy.get_default_memory_pool().free_all_blocks()


def torch_array(n: int, dtype: str, which: int) -> Any:
    torch = usable("torch")
    block = torch.from_numpy(values(n, "float64", which)).to(dtype=getattr(torch, dtype), device=DEVICE)
    return block.repeat(-(-n // len(block)))[:n].clone()


def torch_step(sizes: Sequence[int], dtype: str, **options: Any) -> Contender:
    """torch.optim.SGD(nesterov=True) on a tensor of each size."""
    torch = usable("torch")
    params = []
    for k, n in enumerate(sizes):
        parameter = torch.nn.Parameter(torch_array(n, dtype, 3 * k))
        parameter.grad = torch_array(n, dtype, 3 * k + 1)
        params.append(parameter)
    return Contender(torch.optim.SGD(params, LR, MOMENTUM, nesterov=True, **options).step, finish)


def cupy_array(n: int, dtype: str, which: int) -> Any:
    cupy = usable("cupy")
    block = cupy.asarray(values(n, dtype, which))
    return cupy.tile(block, -(-n // block.size))[:n].copy()


def cupy_step(n: int, dtype: str) -> Contender:
    """The formula in one kernel, as one writes it with CuPy."""
    cupy = usable("cupy")
    p, g, v = (cupy_array(n, dtype, k) for k in range(3))
    kernel = cupy.ElementwiseKernel(
        "T g, T lr, T momentum", "T p, T v", "v = momentum * v + g; p = p - lr * (g + momentum * v)", "nesterov"
    )
    scalar = p.dtype.type
    lr, momentum = scalar(LR), scalar(MOMENTUM)
    return Contender(lambda: kernel(g, lr, momentum, p, v), finish)


def jax_step(n: int, dtype: str) -> Contender:
    """One compiled call that donates parameters and velocity, so that it works in place."""
    jax = usable("jax")
    jnp = jax.numpy
    if dtype == "float64" and not jax.config.jax_enable_x64:
        raise Unusable("JAX has no float64 unless all of a process is to have it (jax_enable_x64)")
    blocks = [jnp.asarray(values(n, dtype, k)) for k in range(3)]
    p, g, v = (jnp.tile(block, -(-n // block.size))[:n] for block in blocks)

    def formula(p, g, v):
        v = MOMENTUM * v + g
        return p - LR * (g + MOMENTUM * v), v

    compiled = jax.jit(formula, donate_argnums=(0, 2))
    state = [p, v]
    del p, v

    def call():
        state[0], state[1] = compiled(state[0], g, state[1])

    return Contender(call, lambda: jax.block_until_ready(state))
