"""The .npz format, read such that no file does harm: nothing is unpickled, and no size is believed without its data.

`numpy.load` allocates what the header of an array claims, does not compare checksums where more bytes follow than it
needs, and lets errors of a dozen types out.  So the archive is opened by `zipfile` and headers are read by
`numpy.lib.format`, and what lies between is here.
"""

from __future__ import annotations

import io
import math
import os
import warnings
import zipfile
from collections import Counter
from typing import IO, BinaryIO

import numpy as np

from .one_line import one_line

HEADER = 12 + 10_000  # bytes: the longest header that numpy reads, with what comes before it
DEFLATED_MOST = 1032  # bytes that a byte of deflated data can become: 258 for two bits
CHUNK = 1 << 20
# A bomb is little data that becomes much: tables with many zeros become a hundred times as much, and no more.
UNPACKED_MOST, UNPACKED_ALWAYS = 100, 16 << 20  # times the file; bytes
ENCRYPTED = 1 << 0 | 1 << 6 | 1 << 13  # flags of a member: encrypted, strongly, its directory too


def most_unpacked(length: int, always: int = UNPACKED_ALWAYS) -> int:
    """How many bytes a file of `length` bytes may unpack to."""
    return max(always, UNPACKED_MOST * length)


class DamagedError(ValueError):
    """The archive, or an array of it, cannot be read; the message says why, in one line."""


class ObjectsError(DamagedError):
    """The array holds Python objects."""


class Archive:
    """The arrays of an open .npz file; `names` are those of its members that end in .npy, without that."""

    def __init__(self, stream: BinaryIO) -> None:
        length = os.fstat(stream.fileno()).st_size
        self._left = most_unpacked(length)
        if length == 0:
            raise DamagedError("the file is empty")
        try:
            self._zip = zipfile.ZipFile(stream)
        except Exception as error:  # zipfile lets errors of many types out for directories that make no sense
            raise DamagedError(f"no .npz archive: {one_line(error)}") from error
        members = [info for info in self._zip.infolist() if info.filename.endswith(".npy")]
        self.names = [info.filename.removesuffix(".npy") for info in members]
        twice = [name for name, count in Counter(self.names).items() if count > 1]
        if twice:
            raise DamagedError(f"array {one_line(twice[0])} is there twice or more")
        if sum(info.compress_size for info in self._zip.infolist()) > length:
            raise DamagedError("its members are larger than the file, or overlap")
        self._members = dict(zip(self.names, members, strict=True))

    def array(self, name: str) -> np.ndarray:
        """The array of this name, in native byte order; raises `DamagedError`."""
        info, name = self._members[name], one_line(name)
        self._check(name, info)
        try:
            with self._zip.open(info) as file:
                return self._read(name, info, file)
        except (DamagedError, MemoryError):
            raise
        except Exception as error:  # as above: of zipfile, of zlib, of the file system
            raise DamagedError(f"array {name} is damaged: {one_line(error)}") from error

    def _check(self, name: str, info: zipfile.ZipInfo) -> None:
        """What the directory says of a member, before any of it is read."""
        if info.flag_bits & ENCRYPTED:
            raise DamagedError(f"array {name} is encrypted; save it without a password")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DamagedError(
                f"array {name} is compressed by method {info.compress_type}; numpy.savez and numpy.savez_compressed "
                f"store or deflate"
            )
        most = info.compress_size * (DEFLATED_MOST if info.compress_type == zipfile.ZIP_DEFLATED else 1)
        if info.file_size > most:
            raise DamagedError(
                f"array {name} should have {info.file_size} bytes, more than {info.compress_size} bytes can give"
            )
        self._left -= info.file_size
        if self._left < 0:
            raise DamagedError(
                f"array {name} should have {info.file_size} bytes, and the file is less than a hundredth of that; if "
                f"it is meant so, numpy.savez stores it as it is"
            )

    @staticmethod
    def _read(name: str, info: zipfile.ZipInfo, file: IO[bytes]) -> np.ndarray:
        start = io.BytesIO(file.read(HEADER))
        shape, fortran, dtype = _header(name, start)
        size = math.prod(shape) * dtype.itemsize
        if info.file_size - start.tell() != size:
            raise DamagedError(
                f"array {name} has {info.file_size - start.tell()} bytes of data; its shape {one_line(shape)} and "
                f"dtype {dtype} need {one_line(size, 30)}"
            )
        data = np.empty(size, np.uint8)
        view = data.data
        filled = start.readinto(view)
        while filled < size:  # memory is used as far as there are data, whatever the directory says
            count = file.readinto(view[filled : filled + CHUNK])  # type: ignore[attr-defined]
            if count == 0:
                raise DamagedError(f"array {name} ends after {filled} of {size} bytes")
            filled += count
        file.read(1)  # at its end the checksum is compared
        array = data.view(dtype).reshape(shape, order="F" if fortran else "C")
        if dtype.kind == "U":
            _check_text(name, data, dtype)
        return array.astype(dtype.newbyteorder("="), copy=False)


def _header(name: str, start: io.BytesIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, order and dtype of an array; `start` is then where its data begin."""
    try:
        version = np.lib.format.read_magic(start)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in read:  # 3.0 is for names of fields, which no array here has
            raise ValueError(f"version {version[0]}.{version[1]} of the .npy format; 1.0 or 2.0 is needed")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Python's parser, about what is then refused
            shape, fortran, dtype = read[version](start)
        if len(shape) > 64 or any(isinstance(n, bool) or not 0 <= n < 2**63 for n in shape):
            raise ValueError("its shape is none of an array")
    except Exception as error:  # a header is a Python literal: it fails in every way in which those can
        raise DamagedError(f"array {name} has a broken header: {one_line(error)}") from error
    if dtype.hasobject:
        raise ObjectsError(
            f"{name} is an array of Python objects, which only pickle could read and pickle can run code; save it "
            f"with a numeric dtype, or text as str"
        )
    if dtype.kind not in "biufcUSmM" or dtype.itemsize == 0:
        raise DamagedError(f"array {name} has dtype {one_line(dtype)}; numbers or text are needed")
    return shape, fortran, dtype


def _check_text(name: str, data: np.ndarray, dtype: np.dtype) -> None:
    """Raise for numbers that are no characters: NumPy fails on them later, wherever one is shown."""
    codes = data.view(np.dtype(np.uint32).newbyteorder(dtype.byteorder))
    if ((codes > 0x10FFFF) | (codes >> 11 == 0xD800 >> 11)).any():
        raise DamagedError(f"array {name} holds text that is not Unicode")
