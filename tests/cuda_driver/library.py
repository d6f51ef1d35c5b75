"""Build and load the shared library that stands in for libcuda.so.1.

Whoever opens `libcuda.so.1` afterwards gets it: the loader finds libraries that are there already by their soname.
"""

import atexit
import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_name("libcuda.c")
HANDLER = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.POINTER(ctypes.c_uint64))


class NoCompiler(RuntimeError):
    """There is no C compiler to build the library with."""


def compiler():
    """The system's C compiler, or None."""
    return next(filter(None, map(shutil.which, (os.environ.get("CC") or "cc", "gcc", "clang"))), None)


def build(names):
    """The path of a library that exports these functions; it is kept in the temporary folder for the next process."""
    command = compiler()
    if command is None:
        raise NoCompiler("no C compiler (cc, gcc, clang) was found to build a CUDA driver for tests with")
    entries = "".join(f"ENTRY({name})\n" for name in names)
    digest = hashlib.sha256(SOURCE.read_bytes() + entries.encode()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"cuda-driver-for-tests-{os.getuid()}-{digest}"
    path = folder / "libcuda.so.1"
    if not path.exists():
        folder.mkdir(mode=0o700, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            listed, made = Path(scratch, "names.h"), Path(scratch, "libcuda.so.1")
            listed.write_text(entries)
            flags = ["-O1", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", f'-DNAMES="{listed}"']
            done = subprocess.run([command, *flags, "-o", str(made), str(SOURCE)], capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f"the CUDA driver for tests could not be built:\n{done.stderr}")
            made.replace(path)
    return path


def load(path, names, handle):
    """Load it, and let `handle(name, arguments)` answer its calls; `arguments` are 12 words."""
    library = ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    library.fake_read.argtypes = [ctypes.c_uint64, ctypes.c_uint64, ctypes.c_void_p]
    answer = HANDLER(lambda index, words: handle(names[index], words))
    library.fake_set_handler(answer)
    library.handler = answer  # ctypes forgets it otherwise
    atexit.register(library.fake_set_handler, HANDLER())  # destructors still call when there is no Python any more
    return library
