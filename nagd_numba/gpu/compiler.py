"""A function and argument types become machine code, with no driver and no device, kept on disk.

numba-cuda makes LLVM IR of the function and NVVM makes LTO-IR of that; nvJitLink makes the machine code for one
architecture.  Numba's own dispatchers are not used: their launches cost the host 24 us, and their caches know
neither the compile options nor the other source files.
"""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any

from numba import njit

from ..kernels import cache, cached_files
from ..kernels.jit import cache_allowed, digest, fingerprint, inlining_by_llvm, unique_name
from . import target, toolchain

_building = threading.RLock()


class Kernel:
    """A CUDA kernel for one list of argument types.

    `function` is renamed: `name`, and a digest of all that decides its code.  Numba flattens tuples: a launch is given
    their elements one by one.  `threads` is the most that a block may have, from which follows how many registers a
    thread may take.

    `users` says that it calls functions of users: these are compiled as for the CPU, with no product fused into a sum,
    and the machine code is not kept on disk, which would not see a change in them.  They are let go once it is loaded,
    so that nothing of ours keeps a user's function; such a kernel is for one compute capability.
    """

    def __init__(
        self,
        function: FunctionType,
        name: str,
        signature: tuple[Any, ...],
        threads: int | None = None,
        users: bool = False,
    ) -> None:
        self.signature, self.threads, self.users = signature, threads, users
        self.function: FunctionType | None = function
        function.__name__ = name
        self.name = function.__name__ = function.__qualname__ = unique_name(function, signature, threads, _sources())
        self._images: dict[tuple[int, int], bytes] = {}

    def image(self, capability: tuple[int, int]) -> bytes:
        """The machine code for a compute capability; from the disk where it was made before."""
        if capability not in self._images:
            with _building:
                self._images[capability] = self._kept(capability) or self._made(capability)
        return self._images[capability]

    def loaded(self) -> None:
        """Its machine code is where it runs."""
        if self.users:
            self.function = None

    def code(self, output: str, capability: tuple[int, int]) -> Any:
        """The `"ptx"` or `"ltoir"` of the kernel."""
        assert self.function is not None
        with _building, inlining_by_llvm():
            return target.compile_kernel(self.function, self.signature, output, capability, self.threads)

    def _made(self, capability: tuple[int, int]) -> bytes:
        toolchain.check()
        image = link(self.code("ltoir", capability), capability, fuse=not self.users)
        path = self._path(capability)
        if path is not None:
            cached_files.write(path, image)
        return image

    def _kept(self, capability: tuple[int, int]) -> bytes | None:
        path = self._path(capability)
        return None if path is None else cached_files.read(path)

    def _path(self, capability: tuple[int, int]) -> Path | None:
        folder = cache.folder(fingerprint()) if cache_allowed() and not self.users else None
        return folder and folder / f"{self.name}-{digest(toolchain.names())}-sm_{capability[0]}{capability[1]}.cubin"


def device_function(function: Callable) -> Callable:
    """Compile a function for the kernels that call it."""
    return njit(function)


def returned(function: Callable, arguments: tuple[Any, ...], capability: tuple[int, int]) -> Any:
    """The type that a function returns in a kernel; raises what Numba raises where it cannot be compiled for one."""
    with _building, inlining_by_llvm():
        return target.returned(function, arguments, capability)


def entry(image: bytes) -> str:
    """The name of the kernel in its machine code, which has a section for it."""
    names = set(re.findall(rb"\.text\.([\w$]+)", image))
    assert len(names) == 1, names
    return names.pop().decode()


def link(code: bytes, capability: tuple[int, int], fuse: bool = True) -> bytes:
    """Machine code from LTO-IR; `fuse`: may a product and a sum become one instruction where nobody named roundings?"""
    from cuda.bindings import nvjitlink  # cuda.core writes the option as -fma=false, which NVVM does not know

    options = [f"-arch=sm_{capability[0]}{capability[1]}", "-lto", f"-fma={int(fuse)}"]
    handle = nvjitlink.create(len(options), options)
    try:
        nvjitlink.add_data(handle, nvjitlink.InputType.LTOIR, code, len(code), "kernel")
        nvjitlink.complete(handle)
        image = bytearray(nvjitlink.get_linked_cubin_size(handle))
        nvjitlink.get_linked_cubin(handle, image)
    except nvjitlink.nvJitLinkError as error:
        said = bytearray(nvjitlink.get_error_log_size(handle))
        nvjitlink.get_error_log(handle, said)
        raise RuntimeError(f"nvJitLink: {error}: {said.decode(errors='replace')}") from error
    finally:
        nvjitlink.destroy(handle)
    return bytes(image)


@functools.cache
def _sources() -> str:
    """A digest of this folder, which is not in the fingerprint of kernels for the CPU."""
    return digest(*(file.read_bytes() for file in sorted(Path(__file__).parent.glob("*.py"))))
