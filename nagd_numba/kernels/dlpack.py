"""What the tensors of Python lists are and where they lie, all looked at in one call.

A library whose class has `__dlpack_c_exchange_api__` (DLPack 1.2 and later; PyTorch since 2.10) describes a tensor in a
C function, in nanoseconds; its Python attributes take a microsecond for each tensor.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .jit import JIT_OFF, c_function
from .pointers import pointer_at, spill
from .segments import GRADS, first_above

OK, RAISED, MOVED, OVERLAP = 0, -1, -2, -3  # a number k > 0: gradient k - 1 does not fit

_MAJOR = 1
_DESCRIBE = 40  # bytes from the start of DLPackExchangeAPI to its `dltensor_from_py_object_no_sync`
_CODES = {"f": 2, "c": 5}  # of DLDataType
_HOST = 1  # kDLCPU, device 0

# The words of a DLTensor
_DATA, _DEVICE, _KIND, _SHAPE, _STRIDES, _OFFSET = range(6)

# The words of a record
_GET_ITEM, _DESCRIBE_AT, _COLUMNS, _COUNT, _KINDS, _DIMS, _PLACES, _NBYTES, _STARTS, _STOPS, _PIECES, _LISTS = range(12)


def describer(kind: type) -> int | None:
    """The address of the C function that describes tensors of a class, or None where there is none that is known."""
    capsule = getattr(kind, "__dlpack_c_exchange_api__", None)
    if capsule is None or JIT_OFF:
        return None
    get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
    get_pointer.restype, get_pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    try:
        api = get_pointer(capsule, b"dlpack_exchange_api")
    except ValueError:  # a capsule of another name
        return None
    if ctypes.c_uint32.from_address(api).value != _MAJOR:
        return None
    return ctypes.c_uint64.from_address(api + _DESCRIBE).value


class Examiner:
    """Lists of tensors on the host: parameters, gradients, each state; those at one place are alike.

    shapes, strides  of the tensors, in elements
    dtype            of all, a float or complex one
    places           int64 (lists, tensors), C-contiguous: their addresses; those of the gradients are entered
    """

    def __init__(
        self,
        describe: int,
        shapes: list[tuple[int, ...]],
        strides: list[tuple[int, ...]],
        dtype: np.dtype[Any],
        places: np.ndarray,
        nbytes: np.ndarray,
    ) -> None:
        kind = (_CODES[dtype.kind] | 8 * dtype.itemsize << 8 | 1 << 16) << 32
        self._kinds = np.array([kind | len(shape) for shape in shapes], np.int64)
        self._dims = np.array([x for pair in zip(shapes, strides, strict=True) for y in pair for x in y], np.int64)
        self._kept = (places, nbytes)
        self._record = np.zeros(_LISTS + len(places), np.int64)
        get_item = ctypes.cast(ctypes.pythonapi.PyList_GetItem, ctypes.c_void_p).value
        self._record[:_STARTS] = (
            get_item,
            describe,
            *places.shape,
            *(x.ctypes.data for x in (self._kinds, self._dims, places, nbytes)),
        )
        self._run, self._at = _examine(), self._record.ctypes.data

    def avoid(self, starts: np.ndarray, stops: np.ndarray) -> None:
        """The memory in which no gradient may lie: where pieces of it begin and end (`segments.Bounds`)."""
        self._written = starts, stops
        self._record[_STARTS:_LISTS] = starts.ctypes.data, stops.ctypes.data, len(starts)

    def __call__(self, lists: list[list[Any]]) -> int:
        """A status; with `OK` the addresses of the gradients were entered."""
        self._record[_LISTS:] = list(map(id, lists))
        return self._run(self._at)


@functools.cache
def _examine() -> Callable[[int], int]:
    made = c_function(examine, types.int64(types.int64))
    call = ctypes.PYFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(made.address)  # with Python's lock, and its exceptions
    call.compiled = made  # type: ignore[attr-defined]
    return call


def examine(record_at):
    """Look at all tensors of the lists of a record."""
    record = pointer_at(record_at, np.int64)
    columns, count = record[_COLUMNS], record[_COUNT]
    kinds, dims = pointer_at(record[_KINDS], np.int64), pointer_at(record[_DIMS], np.int64)
    places, nbytes = pointer_at(record[_PLACES], np.int64), pointer_at(record[_NBYTES], np.int64)
    starts, stops = pointer_at(record[_STARTS], np.int64), pointer_at(record[_STOPS], np.int64)
    zero = np.int64(0)
    tensor_at = spill((zero, zero, zero, zero, zero, zero))
    tensor = pointer_at(tensor_at, np.int64)
    for column in range(columns):
        at = 0
        for k in range(count):
            x = list_item(record[_GET_ITEM], record[_LISTS + column], k)
            if x == 0 or described(record[_DESCRIBE_AT], x, tensor_at) != 0:
                return RAISED
            ndim = kinds[k] & 0xFFFFFFFF
            fits = tensor[_KIND] == kinds[k] and tensor[_DEVICE] == _HOST
            if fits:
                shape, strides = pointer_at(tensor[_SHAPE], np.int64), pointer_at(tensor[_STRIDES], np.int64)
                for d in range(ndim):
                    fits &= shape[d] == dims[at + d] and (shape[d] < 2 or strides[d] == dims[at + ndim + d])
            at += 2 * ndim
            place = tensor[_DATA] + tensor[_OFFSET]
            if column == GRADS:
                if not fits:
                    return k + 1
                if nbytes[k] > 0:
                    j = first_above(stops, record[_PIECES], place)
                    if j < record[_PIECES] and starts[j] < place + nbytes[k]:
                        return OVERLAP
                places[column * count + k] = place
            elif not fits or places[column * count + k] != place:
                return MOVED
    return OK


def _c_function(result: Any, count: int) -> Any:
    """A call of a C function at an address, with integers."""

    def typing(typingctx, address, *given):
        def build(context, builder, signature, operands):
            function, values = operands[0], operands[1]
            word = ir.IntType(64)
            kind = ir.FunctionType(context.get_value_type(result), [word] * count)
            parts = [builder.extract_value(values, k) for k in range(count)]
            return builder.call(builder.inttoptr(function, kind.as_pointer()), parts)

        return result(types.int64, types.StarArgTuple([types.int64] * count)), build

    return intrinsic(typing)


list_item = _c_function(types.int64, 2)  # PyList_GetItem(list, k): a borrowed reference
described = _c_function(types.int32, 2)  # the library's function: (tensor, place of a DLTensor)
