"""The table of the driver API's functions: which there are, and how their arguments are read."""

import ctypes
from dataclasses import dataclass

from .errors import CudaError

TABLE = {}  # by the name that the library exports
VERSIONS = {}  # by the name without its suffix: (first version of the API, exported name)

_READ = {
    "i": lambda word: ctypes.c_int(word & 0xFFFFFFFF).value,  # int, and enumerations
    "u": lambda word: word & 0xFFFFFFFF,  # unsigned
    "c": lambda word: word & 0xFF,  # unsigned char
    "h": lambda word: word & 0xFFFF,  # unsigned short
    "q": lambda word: word,  # size_t, addresses, pointers, handles
}


@dataclass
class Call:
    name: str
    kinds: str
    function: object
    context: bool
    unsafe: bool
    always: bool


def call(name, kinds="", since=0, context=True, unsafe=False, always=False):
    """Make a function of (machine, arguments...) the call `name`: its arguments by kind, a letter each.

    `since`: the API's version from which this signature holds.  `context`: needs a current context that has not
    failed.  `unsafe`: not while a stream is captured.  `always`: also works where the driver was told to fail.
    """

    def add(function):
        TABLE[name] = Call(name, kinds, function, context, unsafe, always)
        base = name.rpartition("_v")[0] if name[-3:-1] == "_v" else name
        VERSIONS.setdefault(base, []).append((since, name))
        VERSIONS[base].sort()
        return function

    return add


def exported(base, version):
    """The exported name of the newest signature that a version of the API knows; None where there is none."""
    found = [name for since, name in VERSIONS.get(base, ()) if since <= version]
    return found[-1] if found else None


def arguments(kinds, words):
    return [_READ[kind](words[k]) for k, kind in enumerate(kinds)]


def put(address, kind, value):
    """Write a result to where the program wants it; `kind` is a type of ctypes."""
    if not address:
        raise CudaError("INVALID_VALUE", "a place for a result is missing")
    kind.from_address(address).value = value


def put_handle(address, value):
    put(address, ctypes.c_uint64, value)


def put_int(address, value):
    put(address, ctypes.c_int, value)
