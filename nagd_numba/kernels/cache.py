"""Where compiled kernels are kept on disk, and for how long.

A folder for each version of the sources that decide the kernels' code, and of Numba:

    <user's cache folder>/nagd_numba/<fingerprint>/<kernel>...

`NUMBA_CACHE_DIR` names another place for `nagd_numba/`; `NAGD_NUMBA_CACHE=0` turns the disk cache off.  A process that
uses a folder holds a shared lock on it.  Folders of other versions that nobody holds, and nobody used for `KEPT_DAYS`,
are removed when a new version's folder is made.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import pickle
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from numba import config
from numba.core.caching import CompileResultCacheImpl, FunctionCache, _CacheLocator
from numba.core.serialize import dumps
from numba.misc.appdirs import AppDirs

from . import cached_files

try:
    import fcntl
except ImportError:  # Windows: the age alone decides
    fcntl = None  # type: ignore[assignment]

KEPT_DAYS = 14.0
_LOCK = "in_use"
_NAME = "nagd_numba"

_settings: Any = config
_held: dict[Path, int] = {}  # folders in use by this process, and the descriptors of their lock files


def enabled() -> bool:
    """Is the disk cache wanted?"""
    return os.environ.get("NAGD_NUMBA_CACHE", "1").lower() not in ("0", "false", "off", "no")


def root() -> Path | None:
    """Where the folders of all versions are; None for a user without a home."""
    if _settings.CACHE_DIR:
        path = _from_here(_settings.CACHE_DIR)
    else:
        path = Path(AppDirs(appname=_NAME, appauthor=False).user_cache_dir)
        if not path.is_absolute():  # "~/.cache", where nobody knows what ~ is: no folder of that name is wanted
            return None
    return path if path.name == _NAME else path / _NAME


@functools.cache
def _from_here(path: str) -> Path:
    """An absolute path, which stays the same when the process changes its folder."""
    return Path(path).absolute()


def folder(version: str) -> Path | None:
    """This version's folder, made and held; None where nothing can be written."""
    base = root() if enabled() else None
    return None if base is None else _folder(base, version)


@functools.cache
def _folder(base: Path, version: str) -> Path | None:
    path = base / version
    try:
        new = not path.is_dir()
        path.mkdir(parents=True, exist_ok=True)
        _hold(path)
    except OSError:
        return None
    if new:
        prune(base, keep=path)
    return path


def _hold(path: Path) -> None:
    """Lock a folder as used by this process, as long as it lives; raises OSError where it is not writable."""
    lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    _held[path] = lock
    os.utime(path / _LOCK)
    if fcntl is not None:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)


@contextlib.contextmanager
def _unused(path: Path) -> Iterator[bool]:
    """Is the folder held by no process?  None can take it up meanwhile."""
    try:
        with open(path / _LOCK, "a") as lock:
            if fcntl is not None:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield True
    except OSError:
        yield False


def prune(base: Path, keep: Path | None, days: float = KEPT_DAYS) -> int:
    """Remove folders that nobody used for so many days and nobody holds; returns the bytes that were freed."""
    freed = 0
    with contextlib.suppress(OSError):
        for path in [x for x in base.iterdir() if x.is_dir() and x != keep]:
            try:
                age = time.time() - (path / _LOCK).stat().st_mtime
            except OSError:  # not one of ours, or just removed
                continue
            if age >= days * 86400:
                with _unused(path) as free:
                    if free:
                        freed += size(path)
                        shutil.rmtree(path, ignore_errors=True)
    return freed


def size(path: Path) -> int:
    """Bytes of the files in a folder."""
    total = 0
    for file in path.rglob("*"):
        with contextlib.suppress(OSError):
            total += file.stat().st_size if file.is_file() else 0
    return total


def clear() -> int:
    """Remove all compiled kernels but those of versions that other processes use; returns the bytes that were freed."""
    freed = 0
    for path, lock in list(_held.items()):
        os.close(lock)
        del _held[path]
    _folder.cache_clear()
    base = root()
    if base is not None and base.is_dir():
        freed = prune(base, keep=None, days=0.0)
    return freed


class _File:
    """The one file of a function for each signature and processor, in place of Numba's index and data file.

    Numba's index is rewritten with each entry, and what two processes add at once may be lost.
    """

    def __init__(self, path: Path, base: str) -> None:
        self._path, self._base = path, base

    def load(self, key: str) -> Any:
        data = cached_files.read(self._named(key))
        return None if data is None else pickle.loads(data)

    def save(self, key: str, data: Any) -> None:
        cached_files.write(self._named(key), dumps(data))

    def flush(self) -> None:
        for file in self._path.glob(f"{self._base}.*.nbc"):
            file.unlink(missing_ok=True)

    def _named(self, key: str) -> Path:
        return self._path / f"{self._base}.{key}.nbc"


class KernelCache(FunctionCache):
    """Numba's disk cache of one function, in our folder.

    The name of a function says all that decides its code, so the signature and the processor suffice as key; Numba's
    own key contains the values in the function's closure, which differ from process to process.
    """

    def __init__(self, function: Any, path: Path) -> None:
        class Locator(_CacheLocator):
            def __init__(self, file: str) -> None:
                self._py_file = file  # which Numba names in a warning

            def ensure_cache_path(self) -> None:
                """Nothing: the file makes it."""

            def get_cache_path(self) -> str:
                return str(path)

            def get_source_stamp(self) -> str:
                return path.name

            def get_disambiguator(self) -> None:
                return None

            @classmethod
            def from_function(cls, function: Any, file: str) -> Any:
                return cls(file)

        class Implementation(CompileResultCacheImpl):
            _locator_classes: Any = [Locator]  # noqa: RUF012  (Numba's)

        self._impl_class = Implementation
        super().__init__(function)
        self._cache_file: Any = _File(path, self._impl.filename_base)

    def _index_key(self, signature: Any, codegen: Any) -> Any:
        decides = "\0".join(map(str, (signature, *codegen.magic_tuple())))
        return hashlib.blake2b(decides.encode(), digest_size=8).hexdigest()

    def load_overload(self, signature: Any, context: Any) -> Any:
        """The compiled function, or None: also where the file is damaged."""
        try:
            return super().load_overload(signature, context)
        except Exception:  # a file that Numba does not understand: it is compiled and written anew
            return None
