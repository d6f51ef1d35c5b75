"""What `nagd-numba info` tells: versions, processor, threads, cache, GPU; what a bug report needs."""

from __future__ import annotations

import argparse
import os
import platform
from typing import Any

from .. import __version__
from ..bench import machine
from ..gpu import toolchain
from ..gpu.driver import why_no_cuda
from ..kernels import cache
from ..kernels.jit import PACKAGE, SIMULATOR, fingerprint
from ..kernels.threading_layer import parallel_allowed
from . import support

_PACKAGES = ("numba", "llvmlite", "numpy")
_VECTORS = ("sse4.2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512vl", "avx512bf16", "neon", "sve", "sve2")


def run(args: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    if args.clear_cache:
        print(f"{cache.clear() / 1e6:.1f} MB of compiled kernels removed from {cache.root() or 'nowhere'}")
        return 0
    if args.support:
        print(support.table())
        return 0
    lines = collect()
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        print(f"{name:{width}}  {value}")
    return 0


def collect() -> list[tuple[str, str]]:
    """Names and values, in the order to show them."""
    return [
        ("nagd_numba", f"{__version__} ({PACKAGE})"),
        ("python", f"{platform.python_version()} ({platform.python_implementation()}, {platform.platform()})"),
        *((name, machine.version(name) or "not installed") for name in _PACKAGES),
        *_processor(),
        *_threads(),
        ("cache", _cache()),
        *_toolchain(),
        *_gpus(),
    ]


def _processor() -> list[tuple[str, str]]:
    import llvmlite.binding as llvm
    from numba import config

    settings: Any = config
    has = llvm.get_host_cpu_features()
    features = [name for name in _VECTORS if has.get(name)]
    target = settings.CPU_NAME or llvm.get_host_cpu_name()
    chosen = ", set by NUMBA_CPU_NAME or NUMBA_CPU_FEATURES" if settings.CPU_NAME or settings.CPU_FEATURES else ""
    return [
        ("processor", f"{machine.processor()}, {machine.cores()} of {os.cpu_count()} cores usable"),
        ("compiled for", f"{target}{chosen}"),
        ("vector units", ", ".join(features) or "none that LLVM names"),
    ]


def _threads() -> list[tuple[str, str]]:
    import numba

    try:
        count: Any = numba.get_num_threads()  # starts the pool: after it the layer is known
        layer = numba.threading_layer()
    except (ValueError, RuntimeError, ImportError) as error:
        return [("numba threads", f"unknown ({error})")]
    if parallel_allowed():
        use = "long vectors are updated in parallel"
    elif count > 1:
        use = f"vectors are updated serially: {layer} is not safe to enter from two threads; tbb or omp are"
    else:
        use = "vectors are updated serially"
    return [("numba threads", f"{count}, layer {layer}; {use}")]


def _cache() -> str:
    if not cache.enabled():
        return f"off (NAGD_NUMBA_CACHE={os.environ['NAGD_NUMBA_CACHE']})"
    root = cache.root()
    if root is None:
        return "off: this user has no home; NUMBA_CACHE_DIR names a place for it"
    if cache.folder(fingerprint()) is None:
        return f"off: nothing can be written to {root}; NUMBA_CACHE_DIR names another place"
    megabytes = cache.size(root) / 1e6
    return f"on, {root} ({megabytes:.1f} MB); NAGD_NUMBA_CACHE=0 turns it off, info --clear-cache empties it"


def _toolchain() -> list[tuple[str, str]]:
    """What compiles kernels for CUDA, and whatever of it does not fit together."""
    tools = toolchain.found()
    if "numba-cuda" not in tools:
        return [("numba-cuda", "not installed")]
    driver = toolchain.driver_version()
    known = "none" if driver is None else f"knows CUDA {driver[0]}.{driver[1]}"
    problems = list(toolchain.misfits(tools, driver))
    return [
        *((name, str(tools[name]) if name in tools else "not found") for name in toolchain.NAMES),
        ("driver", known),
        *(("does not fit", problem) for problem in problems),
    ]


def _gpus() -> list[tuple[str, str]]:
    reason = why_no_cuda()
    if reason is not None:
        return [("gpu", f"none. {reason}")]
    if SIMULATOR:
        return [("gpu", "none: the CUDA simulator of Numba (NUMBA_ENABLE_CUDASIM)")]
    from ..gpu.target import cuda

    lines = []
    for index in range(len(cuda.gpus)):
        with cuda.gpus[index]:
            device = cuda.get_current_device()
            total = cuda.current_context().get_memory_info()[1]
        name = device.name.decode() if isinstance(device.name, bytes) else device.name
        major, minor = device.compute_capability
        lines.append((f"gpu {index}", f"{name}, compute capability {major}.{minor}, {total / 2**30:.0f} GiB"))
    return lines
