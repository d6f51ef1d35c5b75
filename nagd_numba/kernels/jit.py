"""How everything is compiled: the only module with jit flags.

    inlined         a scalar function, compiled into every caller on the CPU and in CUDA kernels
    layer           the same for one that is made of many others
    subroutine      a function that LLVM compiles into its callers
    kernel          a function for one signature, called from Python, kept on disk
    c_function      the same for callers in C
    user_function   a function that is handed to users for their compiled code
    over_user_functions   a function over functions of the user's, in memory only

(`linking.linked` makes functions that other compiled code calls by their address.)

Numba's disk cache knows the source file of a kernel, not the files of what it calls.  Here the *name* of each kernel
says all that decides its code: a fingerprint of the package's sources, what its slots were filled with, and the
signature.  So an old entry is never found again, and no two processes give one name to different code.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType
from typing import Any, TypeVar, cast

import llvmlite
import numba
from numba import config, njit
from numba.core.ccallback import CFunc
from numba.extending import register_jitable

from . import cache, forks  # noqa: F401  (from its import on)
from .interrupts import interrupts_wait

PACKAGE = Path(__file__).parent.parent
SOURCES = ("kernels", "optimizers", "mlp", "minimizer", "c")  # the folders that decide the code of kernels

_settings: Any = config  # numba's types do not list its settings
SIMULATOR: bool = bool(_settings.ENABLE_CUDASIM)  # kernels run in Python: NUMBA_ENABLE_CUDASIM=1
JIT_OFF: bool = bool(_settings.DISABLE_JIT)  # nothing is compiled: NUMBA_DISABLE_JIT=1

OVER_USERS: dict[str, Any] = {"nogil": True}  # the flags of what is compiled over functions of the user's

F = TypeVar("F", bound=Callable[..., Any])

_compiled = 0


_inlined: list[Any] = []


def inlined(function: F) -> F:
    """Compile a scalar function into every caller, on the CPU and in CUDA kernels.

    By Numba, which is sooner done for few of them than by LLVM.
    """
    made: Any
    if SIMULATOR:  # its kernels are Python, where a compiled function would turn float32 into Python's float
        made = register_jitable(forceinline=True, fastmath=False)(function)
    else:
        made = njit(inline="always", forceinline=True)(function)
        if not JIT_OFF:
            _inlined.append(made)
    return cast(F, made)


def layer(function: F) -> F:
    """Compile a scalar function that is made of many others into every caller, by LLVM.

    Numba copies what it inlines, with all that lies in it, twice for each of its blocks: a step of five such layers
    took a minute to compile.
    """
    return inlined(function) if SIMULATOR else cast(F, njit(forceinline=True, fastmath=False)(function))


@contextlib.contextmanager
def inlining_by_llvm() -> Iterator[None]:
    """In this block it is LLVM that inlines such functions, not Numba.

    That is sooner compiled where one function calls dozens of them in several places, as CUDA kernels do.  What another
    thread compiles meanwhile becomes the same machine code.
    """
    for function in _inlined:
        function.targetoptions["inline"] = "never"
    try:
        yield
    finally:
        for function in _inlined:
            function.targetoptions["inline"] = "always"


def plain(function: Callable) -> Callable:
    """The Python form of a compiled function (which is the function itself when the JIT is off)."""
    return getattr(function, "py_func", function)


def python_callable(compiled: Any, python: Callable) -> Any:
    """A Numba intrinsic that Python can call as well: `python` then runs (the simulator, and with the JIT off)."""
    compiled.__class__ = type(type(compiled).__name__, (type(compiled),), {"__call__": staticmethod(python)})
    functools.update_wrapper(compiled, python)
    return compiled


def subroutine(function: Callable) -> Callable:
    """Compile a function into its callers, by LLVM; cached with them.

    Without `fastmath=False` Numba would compile it with the flags of the first caller, for all of them.
    """
    return njit(nogil=True, forceinline=True, fastmath=False)(_renamed(plain(function), unique_name(function)))


def user_function(function: Callable) -> Callable:
    """Compile a function that is handed to users for their compiled code; compiled lazily, for the types they use."""
    return njit(nogil=True)(function)


def in_both(function: F) -> F:
    """A function for users that stays Python in Python, and is compiled into their compiled code."""
    made: F = register_jitable(function)
    return made


def over_user_functions(function: Callable, parallel: bool = False) -> Callable:
    """Compile a function whose slots hold functions of the user's; lazily, for the types it meets.

    In memory only: a disk cache would not see a change in them.
    """
    return njit(**OVER_USERS, parallel=parallel)(function)


def kernel(
    function: Callable,
    signature: Any,
    parallel: bool = False,
    from_python: bool = True,
    allocates: bool = True,
    locked: bool = False,
    on_disk: bool = True,
) -> Any:
    """Compile a function for one signature, or load it from the disk; other argument types are refused.

    `from_python=False` leaves out what calls from Python need, `allocates=False` what arrays of its own need;
    `locked` keeps Python's lock, which a call then need not give up and take again.  Not `on_disk`, it is compiled in
    each process: a name does not say all of a function of the user's.
    """
    global _compiled
    if JIT_OFF:
        return function
    flags: dict[str, Any] = {
        "nogil": not locked,
        "parallel": parallel,
        "error_model": "numpy",
        "no_cfunc_wrapper": True,
    }
    if not from_python:
        flags |= {"no_cpython_wrapper": True, "_nrt": allocates}
    bound = _renamed(function, unique_name(function, signature, parallel))
    made: Any = njit(**flags)(bound)
    if on_disk:
        _keep_on_disk(made, bound)
    with interrupts_wait():
        made.compile(signature)
    made.disable_compile()
    _compiled += sum(made.stats.cache_hits.values()) == 0
    return made


def entry_point(made: Any) -> Callable[..., Any]:
    """A kernel as Python's C function, which takes any object for the types that it was compiled for."""
    (only,) = made.overloads.values()
    entry: Callable[..., Any] = only.entry_point
    return entry


def compiled_now() -> int:
    """How many kernels this process compiled, since they were not on the disk."""
    return _compiled


def require_jit() -> None:
    """Raise where nothing is compiled."""
    if JIT_OFF:
        raise RuntimeError("the JIT is off (NUMBA_DISABLE_JIT=1), and a C function is compiled code: leave it on")


def c_function(function: Callable, signature: Any, inspected: bool = False) -> Any:
    """Compile a function for callers in C: `address` is where its code is, as long as the result is kept.

    With `inspected` its LLVM code can be read, which does not come from the disk.
    """
    global _compiled
    require_jit()
    bound = _renamed(function, unique_name(function, signature))
    made: Any = CFunc(bound, (signature.args, signature.return_type), locals={}, options={})
    if not inspected:
        _keep_on_disk(made, bound)
    with interrupts_wait():
        made.compile()
    _compiled += made.cache_hits == 0
    return made


def _keep_on_disk(made: Any, function: FunctionType) -> None:
    folder = cache.folder(fingerprint()) if cache_allowed() else None
    if folder is not None:
        made._cache = cache.KernelCache(function, folder)


def cache_allowed() -> bool:
    """May compiled code be kept on disk, and taken from there?

    Not after an upgrade, or an edit, under a running process: its code is not that of the files.
    """
    global _looked, _unchanged
    if time.monotonic() - _looked > 1.0:
        _unchanged, _looked = _unchanged and _sources() == _files, time.monotonic()
    return _unchanged


def unique_name(function: Callable, *details: Any) -> str:
    """A name that says all that decides the code of a function."""
    python = plain(function)
    return f"{python.__name__}_{digest(fingerprint(), _identity(python), *map(str, details))}"


@functools.cache
def fingerprint() -> str:
    """A digest of all that decides the machine code of a kernel, apart from its name and the processor."""
    contents = [file.read_bytes() for file in _files]
    switches = ("OPT", "BOUNDSCHECK", "LOOP_VECTORIZE", "SLP_VECTORIZE", "DEBUGINFO_DEFAULT")
    versions = (numba.__version__, llvmlite.__version__)
    return digest(*contents, *versions, *(f"{switch}={getattr(_settings, switch)}" for switch in switches))


def digest(*parts: str | bytes) -> str:
    """A short name for some text."""
    made = hashlib.blake2b(digest_size=8)
    for part in parts:
        made.update((part if isinstance(part, bytes) else part.encode()) + b"\0")
    return made.hexdigest()


def _renamed(function: Any, name: str) -> FunctionType:
    """A copy of a function with another name, which is what compiled code knows it by."""
    made = FunctionType(function.__code__, function.__globals__, name, function.__defaults__, function.__closure__)
    made.__qualname__ = name
    made.__module__ = function.__module__
    made.__doc__ = function.__doc__
    return made


def _sources() -> dict[Path, tuple[int, int]]:
    """The files that decide the code of kernels, and what changes with their contents."""
    files = sorted(file for folder in SOURCES for file in (PACKAGE / folder).rglob("*.py"))
    return {file: (file.stat().st_mtime_ns, file.stat().st_size) for file in files}


def _identity(value: Any) -> str:
    """What tells a value in a slot from another, the same in every process."""
    function = plain(getattr(value, "_defn", value))  # an intrinsic is what its definition closes over
    if isinstance(function, FunctionType):
        cells = [_identity(cell.cell_contents) for cell in function.__closure__ or ()]
        return f"{function.__module__}.{function.__qualname__}{cells}{_outside(function.__code__.co_filename)}"
    if isinstance(value, tuple):
        return str([_identity(item) for item in value])
    return repr(value)


@functools.cache
def _outside(filename: str) -> str:
    """A digest of a file that is not part of the package, such as that of a user's rule."""
    file = Path(filename)
    if file.is_relative_to(PACKAGE) or not file.is_file():
        return ""
    return digest(file.read_bytes())


_files = _sources()  # as they were imported
_unchanged, _looked = True, time.monotonic()
