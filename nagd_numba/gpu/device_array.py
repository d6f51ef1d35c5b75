"""Foreign device arrays: what they are, and what is wrong with them."""

from __future__ import annotations

import math
import operator
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import validation
from . import driver, streams

EXACT = ("float32", "float64")
HALF = ("float16", "bfloat16")
_ADDRESSES = 1 << 63


@dataclass(frozen=True)
class DeviceMemory:
    """What an array says of itself."""

    pointer: int
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None
    dtype: str
    itemsize: int
    read_only: bool
    owner: Any

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def end(self) -> int:
        return self.pointer + self.size * self.itemsize

    @property
    def contiguous(self) -> bool:
        if self.strides is None or self.size == 0:
            return True
        expected = self.itemsize
        for stride, length in zip(reversed(self.strides), reversed(self.shape), strict=True):
            if length > 1 and stride != expected:
                return False
            expected *= length
        return True


def describe(name: str, x: Any, write: bool, dtypes: Sequence[str] | None = EXACT) -> DeviceMemory:
    """Read an array's description; raises for what the kernels cannot use.  `dtypes=None` takes any dtype."""
    memory = _of_torch(name, x) or _of_interface(name, x)
    if dtypes is not None and memory.dtype not in dtypes:
        raise TypeError(f"{name} has dtype {memory.dtype}; {_either(dtypes)} is needed on a CUDA device")
    if write and memory.read_only:
        raise ValueError(f"{name} is read-only and would be updated in place; pass a copy")
    if not memory.contiguous:
        raise ValueError(
            f"{name} is strided (shape {memory.shape}, strides {memory.strides}); CUDA kernels need C-contiguous "
            f"arrays: make it contiguous"
        )
    if streams.library_of(x) in streams.JAX:
        x.block_until_ready()  # its interface names no stream, and does not wait
    return memory


def _of_torch(name: str, x: Any) -> DeviceMemory | None:
    """A tensor says more of itself than its interface does: that has no bfloat16, and refuses while gradients run."""
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(x, torch.Tensor):
        return None
    plain = validation.plain_tensor(name, x)
    size = plain.element_size()
    strides = tuple(stride * size for stride in plain.stride())
    dtype = str(plain.dtype).removeprefix("torch.")
    return DeviceMemory(plain.data_ptr(), tuple(plain.shape), strides, dtype, size, False, plain)


def _of_interface(name: str, x: Any) -> DeviceMemory:
    interface = x.__cuda_array_interface__
    try:
        if interface.get("mask") is not None:
            raise TypeError("it has a mask, which has no meaning here: fill it first")
        (pointer, read_only), kind = interface["data"], np.dtype(interface["typestr"])
        shape, strides = _whole(interface["shape"]), interface.get("strides")
        strides = None if strides is None else _whole(strides)
        (pointer,) = _whole((pointer or 0,))
        _consistent(pointer, shape, strides, kind.itemsize)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        said = f"there is no {error}" if isinstance(error, KeyError) else error
        raise TypeError(f"{name} ({validation.type_of(x)}) has an unfit __cuda_array_interface__: {said}") from error
    if streams.library_of(x) in streams.JAX:
        read_only = True  # its arrays never change, though their interface does not say so
    dtype = str(kind)
    if kind.kind == "V":  # bfloat16 has no letter of its own
        dtype = str(getattr(getattr(x, "dtype", None), "name", dtype))
    return DeviceMemory(pointer, shape, strides, dtype, kind.itemsize, bool(read_only), x)


def _whole(numbers: Any) -> tuple[int, ...]:
    return tuple(map(operator.index, numbers))


def _consistent(pointer: int, shape: tuple[int, ...], strides: tuple[int, ...] | None, itemsize: int) -> None:
    """Raise where what an interface says cannot be: a kernel that met it would end the use of the device."""
    if min(shape, default=0) < 0:
        raise ValueError(f"the shape is {shape}; lengths >= 0 are needed")
    if strides is not None and len(strides) != len(shape):
        raise ValueError(f"the strides {strides} and the shape {shape} have different lengths")
    reach = pointer + math.prod(shape) * itemsize
    if pointer < 0 or reach >= _ADDRESSES or (pointer == 0 and reach > 0):
        raise ValueError(f"{reach - pointer} bytes at address {pointer:#x}, where no such memory can be")
    if itemsize == 0 or (reach > pointer and pointer % itemsize != 0):
        raise ValueError(f"elements of {itemsize} bytes at address {pointer:#x}; a multiple of that is needed: copy it")


def no_overlap(memory: Sequence[tuple[str, DeviceMemory]], shared: Collection[str] = frozenset()) -> None:
    """Raise where two arrays share memory, of which one at least is not among the names of those that may."""
    furthest: dict[bool, tuple[int, int]] = {}  # of those that may share, and of the others: the end, and which
    for start, end, k in sorted((x.pointer, x.end, k) for k, (_, x) in enumerate(memory) if x.size > 0):
        own = memory[k][0] in shared
        for kind in (True, False):
            reached, other = furthest.get(kind, (start, k))
            if start < reached and not (own and kind):
                first, second = (memory[index][0] for index in sorted((k, other)))
                raise ValueError(
                    f"{first} and {second} overlap in device memory; each needs its own: pass a copy of {second}"
                )
        if end > furthest.get(own, (end - 1, k))[0]:
            furthest[own] = end, k


def one_device(memory: Sequence[tuple[str, DeviceMemory]]) -> int:
    """The number of the device that holds all of the arrays; raises where they are on several."""
    asked = driver.current()
    devices = {name: asked.device_of(x.pointer) for name, x in memory if x.size > 0}
    if len(set(devices.values())) > 1:
        where = ", ".join(f"{name} on device {device}" for name, device in devices.items())
        raise ValueError(f"the arrays are on different devices ({where}); copy them to one")
    return next(iter(devices.values()), 0)


def _either(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else names[0]
