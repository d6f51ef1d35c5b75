"""How everything is compiled: the only module with jit flags, and the cache policy.

Numba's disk cache knows the source file of a kernel, not the files of the functions that it calls, nor the options
it is compiled with: a rule changed elsewhere would keep running in its old form.  Here the *name* of each kernel
carries a fingerprint of every source file that can change its code, so an old entry is never found again.
`NAGD_NUMBA_CACHE=0` turns the disk cache off; `NUMBA_CACHE_DIR` moves it.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import os
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any

from numba import cfunc, config, njit
from numba.extending import register_jitable

PACKAGE = Path(__file__).parent

_settings: Any = config  # numba's types do not list its settings
SIMULATOR: bool = bool(_settings.ENABLE_CUDASIM)  # numba.cuda runs kernels in Python: NUMBA_ENABLE_CUDASIM=1


def inlined(function: Callable) -> Callable:
    """Compile a scalar function into every caller, on the CPU and in CUDA kernels."""
    if SIMULATOR:  # its kernels are Python, where a compiled function would turn float32 into Python's float
        return register_jitable(inline="always")(function)
    return njit(inline="always")(function)


def plain(function: Callable) -> Callable:
    """The Python form of a function made with `inlined` (which is the function itself when the JIT is off)."""
    return getattr(function, "py_func", function)


def python_callable(compiled: Any, python: Callable) -> Any:
    """A Numba intrinsic that Python can call as well: `python` then runs (the simulator, and with the JIT off)."""
    compiled.__class__ = type(type(compiled).__name__, (type(compiled),), {"__call__": staticmethod(python)})
    functools.update_wrapper(compiled, python)
    return compiled


def callee(function: Callable, **bindings: Any) -> Callable:
    """Compile `function` for use inside other compiled code; compiled lazily, cached with its caller."""
    return njit(nogil=True)(_callee(function, bindings))


def for_callers(function: Callable) -> Callable:
    """Compile a function that is handed to users for their compiled code; compiled lazily, for the types they use."""
    return njit(nogil=True)(function)


def for_both(function: Callable) -> Callable:
    """A function for users that stays Python in Python, and is compiled into their compiled code."""
    return register_jitable(function)


def over_users(function: Callable, parallel: bool = False, **bindings: Any) -> Callable:
    """Compile `function` over functions of the user's, bound by name; lazily, for the types it meets.

    In memory only: numba's disk cache would not see a change in them.
    """
    return njit(nogil=True, parallel=parallel)(bind(function, function.__name__, bindings))


def merged(function: Callable, **bindings: Any) -> Callable:
    """`callee`, merged into its caller by Numba: compiled with it in one go, and not called."""
    return njit(nogil=True, inline="always")(_callee(function, bindings))


def _callee(function: Callable, bindings: dict[str, Any]) -> FunctionType:
    # Code in the disk cache calls such functions by their names, and a name that two processes gave to different
    # functions would be resolved to either: a name must say all that decides the code.
    name = f"{function.__name__}_{digest(fingerprint(), *map(_identity, bindings.items()))}"
    return bind(function, name, bindings)


def cpu_kernel(
    function: Callable,
    name: str,
    signature: Any,
    parallel: bool = False,
    source: Callable | None = None,
    **bindings: Any,
) -> Callable:
    """Compile `function`, with the globals in `bindings` bound, as a CPU kernel that is cached on disk under `name`.

    It is compiled now, for `signature`, and refuses any other argument types.
    `source` is a function from outside this package whose file belongs to the fingerprint.
    """
    # One file for each signature: processes that fill one file at once could swap its entries.
    unique = digest(fingerprint(source), str(signature))
    bound = bind(function, f"{name}_{'parallel' if parallel else 'serial'}_{unique}", bindings)
    return _with_cache(lambda cache: njit(signature, nogil=True, parallel=parallel, cache=cache)(bound))


def require_jit() -> None:
    """Raise where nothing is compiled."""
    if _settings.DISABLE_JIT:
        raise RuntimeError("the JIT is off (NUMBA_DISABLE_JIT=1), and a C function is compiled code: leave it on")


def c_function(
    function: Callable,
    name: str,
    signature: Any,
    inspected: bool = False,
    source: Callable | None = None,
    **bindings: Any,
) -> Any:
    """Compile `function` for callers in C, likewise: `address` is where its code is, as long as the result is kept.

    With `inspected` its LLVM code can be read, which does not come from the disk.
    """
    require_jit()
    bound = bind(function, f"{name}_c_{digest(fingerprint(source), str(signature))}", bindings)
    if inspected:
        return cfunc(signature)(bound)
    return _with_cache(lambda cache: cfunc(signature, cache=cache)(bound))


def cuda_kernel(function: Callable, name: str, source: Callable | None = None, **bindings: Any) -> Any:
    """The same for a CUDA kernel, compiled at its first launch; `name` must tell argument types apart."""
    from numba import cuda

    bound = bind(function, f"{name}_cuda_{fingerprint(source)}", bindings)
    if SIMULATOR:
        return cuda.jit(bound)
    return _with_cache(lambda cache: cuda.jit(cache=cache)(bound))


@functools.cache
def fingerprint(source: Callable | None = None) -> str:
    """A digest of all that decides the machine code of a kernel, apart from its name and the processor."""
    contents = [file.read_bytes() for file in _files]
    if source is not None:
        outside = inspect.getsourcefile(plain(source))
        if outside is not None and Path(outside) not in _files:
            contents.append(Path(outside).read_bytes())
    switches = ("OPT", "BOUNDSCHECK", "LOOP_VECTORIZE", "SLP_VECTORIZE", "DEBUGINFO_DEFAULT")
    return digest(*contents, *(f"{switch}={getattr(_settings, switch)}" for switch in switches))


def _sources() -> dict[Path, tuple[int, int]]:
    """The files of this package, and what changes with their contents."""
    return {file: (file.stat().st_mtime_ns, file.stat().st_size) for file in sorted(PACKAGE.rglob("*.py"))}


def digest(*parts: str | bytes) -> str:
    """A short name for some text."""
    made = hashlib.blake2b(digest_size=6)
    for part in parts:
        made.update((part if isinstance(part, bytes) else part.encode()) + b"\0")
    return made.hexdigest()


def _identity(value: Any) -> str:
    """What tells a bound value from another, the same in every process."""
    function = plain(value)
    if isinstance(function, FunctionType):
        cells = [_identity(cell.cell_contents) for cell in function.__closure__ or ()]
        return f"{function.__module__}.{function.__qualname__}{cells}"
    if isinstance(value, tuple):
        return str([_identity(item) for item in value])
    return repr(value)


def bind(function: Callable, name: str, bindings: dict[str, Any]) -> FunctionType:
    """A copy of `function` called `name`, in which the global names in `bindings` have those values.

    A closure would do the same, but numba cannot cache closures over functions.
    """
    assert isinstance(function, FunctionType)
    bound = FunctionType(
        function.__code__, {**function.__globals__, **bindings}, name, function.__defaults__, function.__closure__
    )
    bound.__qualname__ = name
    bound.__doc__ = function.__doc__
    return bound


_files = _sources()  # as they were imported


def cache_allowed() -> bool:
    """May compiled code be kept on disk, and taken from there?"""
    if os.environ.get("NAGD_NUMBA_CACHE", "1").lower() in ("0", "false", "off", "no"):
        return False
    return _sources() == _files  # else an upgrade, or an edit, under a running process: not the code of the files


def _with_cache(make: Callable[[bool], Any]) -> Any:
    if not cache_allowed():
        return make(False)
    try:
        return make(True)
    except (RuntimeError, OSError):  # numba finds no writable place: read-only package, no home
        return make(False)
