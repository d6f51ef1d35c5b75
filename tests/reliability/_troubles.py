"""Troubles: each takes a plain array, and makes one that has its values but is something else besides.

A trouble returns what a call is given, the memory that the call would write to as a plain array, and which outcomes
are fine: "right", "refused".  `read` says that the array is only read.
"""

from __future__ import annotations

import contextlib
import functools
import random
from collections.abc import Callable
from multiprocessing import shared_memory
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

Made = tuple[Any, np.ndarray, tuple[str, ...]]
Trouble = Callable[[np.ndarray, bool, random.Random, Path], Made]
RIGHT, REFUSED, EITHER = ("right",), ("refused",), ("right", "refused")
_kept: list[Any] = []


def misaligned(x: np.ndarray, read: bool, rng: random.Random, folder: Path) -> Made:
    memory = np.zeros(x.nbytes + 16, np.uint8)
    made = memory[(at := rng.randrange(1, x.itemsize)) : at + x.nbytes].view(x.dtype).reshape(x.shape)
    made[...] = x
    return made, made, RIGHT


def field_of_packed_records(x: np.ndarray, read: bool, rng: random.Random, folder: Path) -> Made:
    made = np.zeros(x.shape, [("a", "u1", (rng.randrange(1, 4),)), ("x", x.dtype)])["x"]
    made[...] = x
    return made, made, RIGHT


def negative_strides(x: np.ndarray, read: bool, rng: random.Random, folder: Path) -> Made:
    made = x.copy()[(*(slice(None, None, rng.choice([-1, 1])) for _ in range(x.ndim - 1)), slice(None, None, -1))]
    made[...] = x
    return made, made, RIGHT


def huge_strides(x: np.ndarray, read: bool, rng: random.Random, folder: Path) -> Made:
    """Elements in pages of their own, of some gigabytes that nobody has touched."""
    step = 1 << rng.randrange(12, 20)
    if x.size > 600:
        step = 4096
    memory = np.zeros(step * x.size + 8, np.uint8)
    strides = tuple(step * int(np.prod(x.shape[d + 1 :])) for d in range(x.ndim))
    made = as_strided(memory[: x.itemsize].view(x.dtype), x.shape, strides)
    made[...] = x
    return made, made, RIGHT


def elements_that_share(x: np.ndarray, read: bool, rng: random.Random, folder: Path) -> Made:
    made = as_strided(x.copy(), x.shape, (*x.strides[:-1], rng.choice([0, 1, x.itemsize // 2])))
    # what is only read may be so, and has other values than `x`; nothing must come of it here but that it is refused
    return (x, x, RIGHT) if read else (made, made, REFUSED)


def read_only(x: np.ndarray, read: bool, rng: random.Random, folder: Path) -> Made:
    made = x.copy()
    made.flags.writeable = False
    return made, made, RIGHT if read else REFUSED


def other_order_of_bytes(x: np.ndarray, read: bool, rng: random.Random, folder: Path) -> Made:
    made = x.astype(x.dtype.newbyteorder())
    return made, made, REFUSED


def masked(x: np.ndarray, read: bool, rng: random.Random, folder: Path) -> Made:
    made = np.ma.masked_array(x.copy(), x > 1)
    return made, made.data, EITHER  # compiled code gets its data: that is Numba's


def memory_map(x: np.ndarray, read: bool, rng: random.Random, folder: Path) -> Made:
    mode = rng.choice(["r+", "c", "r"])
    path = folder / f"map{rng.randrange(10)}"
    path.write_bytes(x.tobytes())
    made = np.memmap(path, x.dtype, mode, shape=x.shape)
    return made, made.view(np.ndarray), RIGHT if read or mode != "r" else REFUSED


def shared_and_unlinked(x: np.ndarray, read: bool, rng: random.Random, folder: Path) -> Made:
    memory = shared_memory.SharedMemory(create=True, size=max(1, x.nbytes))
    made = np.ndarray(x.shape, x.dtype, memory.buf)
    made[...] = x
    memory.unlink()  # its name goes, its pages stay as long as they are mapped
    _kept.append(memory)
    if len(_kept) > 50:
        with contextlib.suppress(BufferError):
            _kept.pop(0).close()
    return made, made, RIGHT


def _liar(**attributes: Any) -> type[np.ndarray]:
    return type("Liar", (np.ndarray,), attributes)


def _raises(*_: Any, **__: Any) -> Any:
    raise ArithmeticError("nobody should have asked")


def _says(value: Any) -> Any:
    return property(lambda self: value)


def _subclass(made: Callable[[random.Random], type[np.ndarray]], outcomes: tuple[str, ...] = RIGHT) -> Trouble:
    def trouble(x: np.ndarray, read: bool, rng: random.Random, folder: Path) -> Made:
        memory = x.copy()
        return np.ndarray.view(memory, made(rng)), memory, outcomes

    return trouble


_hooks = dict.fromkeys(("__array_ufunc__", "__array_function__", "__array_wrap__"), _raises)
_containers = dict.fromkeys(("__getitem__", "__setitem__", "__iter__", "__len__", "__eq__", "__bool__"), _raises)
_methods = dict.fromkeys(("view", "reshape", "astype", "copy", "ravel"), _raises)
_INTERFACE = {"data": (8, False), "shape": (1 << 40,), "typestr": "<f4", "version": 3}

_lies = {
    "shape": lambda rng: _says((1 << 40,)),
    "size": lambda rng: _says(1 << 40),
    "strides": lambda rng: _says((0,)),
    "nbytes": lambda rng: _says(0),
    "dtype": lambda rng: _says(np.dtype(rng.choice(["float32", "float64", "float16", "complex64", "int32"]))),
    "flags": lambda rng: _says(np.zeros(3).flags),
    "ctypes": lambda rng: _says(None),
    "T": lambda rng: _says(None),
    "__array_interface__": lambda rng: _says(_INTERFACE),
    "__array_struct__": lambda rng: _says(None),
    "__array_priority__": lambda rng: 1e300,
    "__cuda_array_interface__": lambda rng: _INTERFACE,
    "__dlpack_device__": lambda rng: lambda self: (2, 0),
    "__dlpack__": lambda rng: _raises,
    "__class__": lambda rng: _says(list),
}


def _with_lie(name: str, rng: random.Random) -> type[np.ndarray]:
    return _liar(**{name: _lies[name](rng)})


def lying_read_only(x: np.ndarray, read: bool, rng: random.Random, folder: Path) -> Made:
    """Pages that cannot be written, of an array that says they can."""
    path = folder / f"map{rng.randrange(10)}"
    path.write_bytes(x.tobytes())
    made = np.memmap(path, x.dtype, "r", shape=x.shape)
    return (
        np.ndarray.view(made, _liar(flags=_says(np.zeros(3).flags))),
        made.view(np.ndarray),
        RIGHT if read else REFUSED,
    )


class _Foreign:
    """An object that is no array of NumPy, with attributes."""

    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)


def foreign(x: np.ndarray, read: bool, rng: random.Random, folder: Path) -> Made:
    """Objects with interfaces, some of them false; of two methods of DLPack the second may say another device."""
    memory = x.copy()
    device, capsule = (lambda: (1, 0)), memory.__dlpack__
    kinds: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
        "true": ({"__dlpack__": capsule, "__dlpack_device__": device}, EITHER),
        "device": ({"__dlpack__": capsule, "__dlpack_device__": lambda: (2, 0)}, REFUSED),
        "no capsule": ({"__dlpack__": lambda **_: object(), "__dlpack_device__": device}, REFUSED),
        "raises": ({"__dlpack__": _raises, "__dlpack_device__": device}, REFUSED),
        "other shape": ({"__dlpack__": memory.reshape(-1)[1:].__dlpack__, "__dlpack_device__": device}, REFUSED),
        "interface": ({"__array_interface__": _INTERFACE}, REFUSED),
        "cuda": ({"__cuda_array_interface__": _INTERFACE}, REFUSED),
        "cuda without sense": ({"__cuda_array_interface__": {"shape": (-3,), "data": None}}, REFUSED),
        "class": ({"dtype": x.dtype, "shape": x.shape}, REFUSED),
    }
    name = rng.choice(list(kinds))
    attributes, outcomes = kinds[name]
    type_attributes = {
        x: (lambda made: lambda self, **given: made(**given))(y) for x, y in attributes.items() if callable(y)
    }
    if name == "class":
        type_attributes["__class__"] = property(lambda self: np.ndarray)
    made = type("Foreign", (_Foreign,), type_attributes)(**{x: y for x, y in attributes.items() if not callable(y)})
    return made, memory, outcomes


TROUBLES: dict[str, Trouble] = {
    **{
        x.__name__.replace("_", " "): x
        for x in (
            misaligned,
            field_of_packed_records,
            negative_strides,
            huge_strides,
            elements_that_share,
            read_only,
            other_order_of_bytes,
            masked,
            memory_map,
            shared_and_unlinked,
            lying_read_only,
            foreign,
        )
    },
    "hooks of a subclass": _subclass(lambda rng: _liar(**_hooks)),
    "a subclass as container": _subclass(lambda rng: _liar(**_containers)),
    "methods of a subclass": _subclass(lambda rng: _liar(**_methods), EITHER),
    **{f"{name} of a subclass": _subclass(functools.partial(_with_lie, name), EITHER) for name in _lies},
}

# What compiled code is given it is Numba that looks at, and some lies it takes for true.
NOT_FOR_COMPILED_CODE = {x for x in TROUBLES if "subclass" in x} | {"lying read only"}
