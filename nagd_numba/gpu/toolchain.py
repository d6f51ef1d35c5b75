"""Which packages and libraries make machine code here, and whether they fit together.

A kernel goes through NVVM, which writes LTO-IR, and nvJitLink, which reads it: nvJitLink must be of the same major
version of CUDA and at least as new.  Packages are easily mixed: one command installs NVVM 13.5, and the next brings
PyTorch, which holds nvJitLink at its own 13.0.  What is compared is what would be loaded, wherever it lies.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path
from typing import NamedTuple

# The libraries of CUDA, by what cuda.pathfinder calls them, and the wheels that bring them.
LIBRARIES = {
    "nvvm": ("nvidia-nvvm", "nvidia-cuda-nvcc-cu12"),
    "nvJitLink": ("nvidia-nvjitlink", "nvidia-nvjitlink-cu12"),
    "nvrtc": ("nvidia-cuda-nvrtc", "nvidia-cuda-nvrtc-cu12"),
}
PACKAGES = ("numba-cuda", "cuda-bindings", "cuda-core")
NAMES = (*PACKAGES, *LIBRARIES)  # in the order to show them
# What works with this package: at least, and below.
SUPPORTED = {"numba-cuda": ("0.30", "0.31"), "cuda-core": ("0.6", "2")}
_NUMBER = re.compile(r"define CUDA_VERSION (\d+)")
NUMPY_BEFORE = "2.5"  # numba-cuda 0.30 calls np.row_stack


class Tool(NamedTuple):
    """A package or library: its version, or None where that is unknown, and the wheel or file that it is from."""

    version: str | None
    origin: str = ""  # of a library

    def __str__(self) -> str:
        return (self.version or "of unknown version") + (f" ({self.origin})" if self.origin else "")


@functools.cache
def found() -> dict[str, Tool]:
    """What is installed, by name; what is not has no entry."""
    tools = {name: Tool(text) for name in (*PACKAGES, "numpy") if (text := version_of(name)) is not None}
    tools |= {name: tool for name in LIBRARIES if (tool := _library(name)) is not None}
    return tools


def release(text: str | None) -> tuple[int, ...]:
    """The leading numbers of a version: (13, 5) of "13.5.37"."""
    return tuple(int(part) for part in re.findall(r"\d+", text or "")[:2])


def cannot_link(tools: Mapping[str, Tool]) -> str | None:
    """Why what NVVM writes cannot be linked, with the way out, or None."""
    absent = [name for name in ("nvvm", "nvJitLink") if name not in tools]
    if absent:
        return f"{' and '.join(absent)} not found, without which no CUDA kernel can be compiled: {_everything(tools)}"
    nvvm, linker = tools["nvvm"], tools["nvJitLink"]
    writes, reads = release(nvvm.version), release(linker.version)
    if not writes or not reads or (writes[0] == reads[0] and writes <= reads):
        return None
    relation = "newer than" if writes > reads else "of another major version than"
    wheel = LIBRARIES["nvvm"][reads[0] < 13]
    return (
        f"NVVM {nvvm} is {relation} nvJitLink {linker}, which cannot read what it writes: "
        f"pip install '{wheel}=={reads[0]}.{reads[1]}.*'"
    )


def misfits(tools: Mapping[str, Tool], driver: tuple[int, int] | None = None) -> Iterator[str]:
    """Everything that does not fit together, each with the command that mends it; `driver` is the CUDA it knows."""
    if "numba-cuda" not in tools:
        return
    for name, (least, below) in SUPPORTED.items():
        if name in tools and not release(least) <= release(tools[name].version) < release(below):
            yield f"{name} {tools[name].version} is not supported: pip install '{name}>={least},<{below}'"
    if "numpy" in tools and release(tools["numpy"].version) >= release(NUMPY_BEFORE):
        yield (
            f"numpy {tools['numpy'].version} lacks np.row_stack, which numba-cuda {tools['numba-cuda'].version} calls: "
            f"pip install 'numpy<{NUMPY_BEFORE}'"
        )
    if (problem := cannot_link(tools)) is not None:
        yield problem
    linker = release(tools["nvJitLink"].version)[:1] if "nvJitLink" in tools else ()
    for name in ("cuda-bindings", "nvrtc"):
        mine = release(tools[name].version)[:1] if name in tools else ()
        if linker and mine and mine != linker:
            wheel = LIBRARIES[name][linker < (13,)] if name in LIBRARIES else name
            yield (
                f"{name} {tools[name]} is of another major version than nvJitLink {tools['nvJitLink']}: "
                f"pip install '{wheel}=={linker[0]}.*'"
            )
    if driver is not None and driver[:1] < linker:
        way = "pip install 'nagd-numba[cuda12]'" if driver[0] == 12 else "install a newer driver"
        yield f"the driver knows CUDA {driver[0]}.{driver[1]}, and cannot load code of CUDA {linker[0]}: {way}"


def driver_version() -> tuple[int, int] | None:
    """The CUDA that the driver knows, or None without one."""
    try:
        from cuda.bindings import driver

        status, number = driver.cuDriverGetVersion()
    except Exception:  # neither bindings nor libcuda: their types of it differ between versions
        return None
    return (number // 1000, number % 1000 // 10) if status == driver.CUresult.CUDA_SUCCESS else None


def check() -> None:
    """Raise RuntimeError, naming both and the way out, where NVVM and nvJitLink do not fit together."""
    problem = cannot_link(found())
    if problem is not None:
        raise RuntimeError(problem)


def names() -> str:
    """The names and versions of all that decides the machine code, found without loading libraries where possible."""
    told = {name: version_of(name) for name in ("numba", "llvmlite", *PACKAGES)}
    for library in ("nvvm", "nvJitLink"):
        installed = {wheel: text for wheel in LIBRARIES[library] if (text := version_of(wheel)) is not None}
        told |= installed or {library: str(found().get(library))}
    return " ".join(f"{name}={text}" for name, text in told.items() if text is not None)


def _everything(tools: Mapping[str, Tool]) -> str:
    twelve = release(getattr(tools.get("cuda-bindings"), "version", None))[:1] == (12,)
    return f"pip install 'nagd-numba[{'cuda12' if twelve else 'cuda'}]'"


def version_of(package: str) -> str | None:
    """Of an installed package, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _library(name: str) -> Tool | None:
    """The library that is loaded, or would be."""
    try:
        from cuda.pathfinder import load_nvidia_dynamic_lib
    except ImportError:
        return None
    try:
        path = load_nvidia_dynamic_lib(name).abs_path
    except Exception:  # its exceptions differ between versions
        return None
    return Tool(None, "already loaded") if path is None else of_path(name, Path(path))


def of_path(name: str, path: Path) -> Tool:
    """The version of a library: of its wheel, or of the CUDA toolkit that it lies in, to which a header testifies."""
    for folder in path.parents:
        for wheel in LIBRARIES[name]:
            for package in distributions(name=wheel, path=[str(folder)]):
                if any(folder / file == path for file in package.files or ()):
                    return Tool(package.version, wheel)
    for folder in path.parents:
        for header in (folder / "include" / "cuda.h", *folder.glob("targets/*/include/cuda.h")):
            number = _NUMBER.search(header.read_text(errors="replace")) if header.is_file() else None
            if number is not None:
                return Tool(f"{int(number[1]) // 1000}.{int(number[1]) % 1000 // 10}", str(path))
    return Tool(None, str(path))
