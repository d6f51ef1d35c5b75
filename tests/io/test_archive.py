"""Each kind of file that is no sound .npz archive, in all three places where one is read."""

import os
import re
import socket
import tracemalloc
import zipfile

import numpy as np
import pytest

from nagd_numba.cli.checkpoint import Checkpoint
from nagd_numba.cli.data import load_file
from nagd_numba.cli.main import main
from nagd_numba.io import npz
from nagd_numba.io.archive import Archive, DamagedError
from nagd_numba.io.one_line import one_line
from nagd_numba.model_file import load_model
from tests.helpers.damage import compressed_by, flagged, header_changed, npy, packed

ARRAYS = {"X": np.arange(24.0).reshape(12, 2), "y": np.arange(12) % 2}
MEMBERS = {f"{name}.npy": npy(array) for name, array in ARRAYS.items()}
WHOLE = packed(MEMBERS)
DEFLATED = packed(MEMBERS, zipfile.ZIP_DEFLATED)


def with_header(**changes):
    return packed(MEMBERS | {"X.npy": header_changed(MEMBERS["X.npy"], **changes)})


def with_x(content):
    return packed(MEMBERS | {"X.npy": content})


class Hexadecimal(int):
    """Python reads these of any length, and refuses to write them as decimals."""

    def __repr__(self):
        return hex(self)


def text_of_numbers():
    """An array of text whose characters are no characters."""
    return npy(np.array([0x110000, 0xD800], np.uint32).view("<U1"))


DAMAGED = {
    "empty": (b"", "the file is empty"),
    "text": (b"not an archive\n", "no .npz archive: File is not a zip file"),
    "an .npy file": (MEMBERS["X.npy"], "no .npz archive: "),
    "the end is missing": (WHOLE[:-1], "no .npz archive: "),
    "the half is missing": (WHOLE[: len(WHOLE) // 2], "no .npz archive: "),
    "the start is missing": (WHOLE[100:], "array X is damaged: "),
    "encrypted": (flagged(WHOLE, 1), "array X is encrypted; save it without a password"),
    "strongly encrypted": (flagged(WHOLE, 1 | 1 << 6), "array X is encrypted"),
    "patched": (flagged(WHOLE, 1 << 5), "array X is damaged: compressed patched data (flag bit 5)"),
    "a method of compression": (compressed_by(WHOLE, 93), "array X is compressed by method 93; numpy.savez and"),
    "bzip2": (packed(MEMBERS, zipfile.ZIP_BZIP2), "array X is compressed by method 12"),
    "lzma": (packed(MEMBERS, zipfile.ZIP_LZMA), "array X is compressed by method 14"),
    "a bomb": (
        packed(MEMBERS | {"X.npy": npy(np.zeros((1 << 20, 4)))}, zipfile.ZIP_DEFLATED),
        "array X should have 33554560 bytes, and the file is less than a hundredth of that",
    ),
    "deflated only in name": (compressed_by(WHOLE, 8), "array X is damaged: "),
    "the checksum": (WHOLE.replace(np.float64(5).tobytes(), np.float64(6).tobytes()), "Bad CRC-32 for file 'X.npy'"),
    "two of a name": (packed([*MEMBERS.items(), ("X.npy", MEMBERS["X.npy"])]), "array X is there twice or more"),
    "no magic": (with_x(b"text"), "array X has a broken header: "),
    "nothing in it": (with_x(b""), "array X has a broken header: "),
    "version 9": (with_x(b"\x93NUMPY\x09\x00"), "version 9.0 of the .npy format"),
    "a header without end": (with_x(b"\x93NUMPY\x02\x00\xff\xff\xff\xff{"), "EOF: reading array header"),
    "a header of lists": (with_x(b"\x93NUMPY\x01\x00\x10\x00{[]: 1}         \n"), "unhashable type"),
    "a header of brackets": (with_x(b"\x93NUMPY\x01\x00\x00\x20" + b"(" * 8192), "array X has a broken header: "),
    "a header of signs": (with_x(b"\x93NUMPY\x01\x00\x00\x20" + b"-" * 8192), "array X has a broken header: "),
    "no shape": (with_header(shape=None), "shape is not valid: None"),
    "a shape of truth": (with_header(shape=(True, 2)), "its shape is none of an array"),
    "a negative shape": (with_header(shape=(-3, -8)), "its shape is none of an array"),
    "a huge shape": (with_header(shape=(10**12,)), "array X has 192 bytes of data; its shape (1000000000000,)"),
    "a shape over 64 bits": (with_header(shape=(2**32, 2**32, 2)), "array X has 192 bytes of data; its shape"),
    "a shape of thousands of digits": (with_header(shape=(Hexadecimal(1 << 15_000),)), "array X has a broken header: "),
    "a smaller shape": (with_header(shape=(11, 2)), "array X has 192 bytes of data; its shape (11, 2)"),
    "empty of a huge shape": (with_header(shape=(0, 10**15)), "array X has 192 bytes of data"),
    "an unknown dtype": (with_header(descr="<q9"), "descr is not a valid dtype descriptor"),
    "fields": (with_header(descr=[("a", "<f8"), ("b", "<f8")]), "array X has dtype [('a', '<f8'), ('b', '<f8')]"),
    "text of no length": (with_x(header_changed(npy(np.array("")), descr="<U0", shape=(10**15,))), "dtype <U0"),
    "bytes of no structure": (with_header(descr="|V8"), "array X has dtype |V8; numbers or text are needed"),
    "no Unicode": (with_x(text_of_numbers()), "array X holds text that is not Unicode"),
    "objects": (
        with_x(npy(np.array([print], object))),
        "X is an array of Python objects, which only pickle could read",
    ),
    "objects by name": (with_header(descr="|O"), "X is an array of Python objects, which only pickle could read"),
}
READERS = {
    "model": load_model,
    "training": Checkpoint,
    "data": load_file,
}


def message_of(read, path):
    with pytest.raises(ValueError, match=re.escape(f"{path}: ")) as error:
        read(path)
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert message.isprintable()
    return message


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("case", DAMAGED)
@pytest.mark.filterwarnings("error")
def test_what_is_damaged_is_told_in_one_line(tmp_path, case, reader):
    content, message = DAMAGED[case]
    path = tmp_path / "file.npz"
    path.write_bytes(content)
    assert message in message_of(READERS[reader], path)


@pytest.mark.parametrize("arguments", [["--data"], ["--resume"]])
@pytest.mark.parametrize("case", ["encrypted", "a method of compression", "a huge shape", "objects", "empty"])
def test_the_command_line_tells_it_too(tmp_path, capsys, case, arguments):
    path = tmp_path / "file.npz"
    path.write_bytes(DAMAGED[case][0])
    assert main(["train", *arguments, str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (told,) = err.splitlines()
    assert told.startswith(f"nagd-numba train: error: {path}: ")
    assert DAMAGED[case][1] in told


def test_no_memory_is_taken_for_what_is_only_claimed(tmp_path):
    size = 10**9
    header = header_changed(npy(np.zeros(0)), shape=(size // 8,))
    content = bytearray(packed({"X.npy": header}, zipfile.ZIP_DEFLATED))
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):  # the length once inflated
        place = content.index(signature) + offset
        content[place : place + 4] = (len(header) + size).to_bytes(4, "little")
    path = tmp_path / "file.npz"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        assert f"array X should have {len(header) + size} bytes" in message_of(load_model, path)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_members_that_overlap(tmp_path):
    """The same bytes for many members: the archive would become many times as long as one of its members can."""
    content = bytearray(packed([(f"{i}.npy", npy(np.zeros(1000))) for i in range(5)]))
    places = [i for i in range(len(content)) if content.startswith(b"PK\x01\x02", i)]
    for place in places:
        content[place + 42 : place + 46] = bytes(4)  # all where the first is
    between = places[0] - content.index(b"PK\x03\x04", 10)
    path = tmp_path / "file.npz"
    path.write_bytes(content)
    assert "is damaged: " in message_of(load_model, path)
    # Without the bytes of the others in between.
    start = content.index(b"PK\x03\x04", 10)
    end = content.index(b"PK\x05\x06") + 16
    content[end : end + 4] = start.to_bytes(4, "little")
    del content[start : start + between]
    path.write_bytes(content)
    assert "its members are larger than the file, or overlap" in message_of(load_model, path)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_sound_archives_are_read_to_the_bit(tmp_path, method):
    arrays = ARRAYS | {
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "big": np.arange(3, dtype=">i4"),
        "text": np.array(["a", "Öl"]),
        "big text": np.array(["a", "Öl"], ">U2"),
        "scalar": np.float32(0.5),
        "nothing": np.zeros((0, 3)),
        "dates": np.array(["2020-01-01"], "M8[D]"),
        "much": np.random.default_rng(0).normal(size=200_000),
    }
    path = tmp_path / "file.npz"
    path.write_bytes(
        packed({f"{name}.npy": npy(array) for name, array in arrays.items()} | {"notes.txt": b"x"}, method)
    )
    read = npz.read(path, "file")
    assert list(read) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array)
        assert read[name].dtype == np.asarray(array).dtype.newbyteorder("=")
        assert read[name].shape == np.shape(array)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes of POSIX")
@pytest.mark.parametrize("kind", ["pipe", "socket", "device"])
@pytest.mark.timeout(20)
def test_what_is_no_file_is_not_waited_for(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    for name, readers in (("x.npz", READERS.values()), ("x.csv", [load_file]), ("x.csv.gz", [load_file])):
        if kind == "pipe":
            os.mkfifo(name)
        elif kind == "device":
            os.symlink(os.devnull, name)
        else:
            listening = socket.socket(socket.AF_UNIX)
            listening.bind(name)
            listening.close()
        for read in readers:
            assert message_of(read, name) == f"{name}: a pipe, a socket or a device; a regular file is needed"


def test_directories(tmp_path):
    for read in (load_model, Checkpoint):
        with pytest.raises(IsADirectoryError, match=re.escape(str(tmp_path))):
            read(tmp_path)
    (tmp_path / "x.npz").mkdir()
    assert message_of(load_file, tmp_path / "x.npz") == f"{tmp_path / 'x.npz'}: is a directory"


def test_an_archive_without_arrays(tmp_path):
    path = tmp_path / "file.npz"
    path.write_bytes(packed({}))
    with path.open("rb") as file:
        assert Archive(file).names == []
    assert "not a model of nagd-numba train --save" in message_of(load_model, path)
    assert "no training of nagd-numba train --save in it" in message_of(Checkpoint, path)
    assert "no array named X and y; arrays X (n, d) and y (n,) are needed, the file has none" in message_of(
        load_file, path
    )
    assert issubclass(DamagedError, ValueError)


def test_one_line():
    assert one_line("a\n  b\tc") == "a b c"
    assert one_line("\x07é\ud800") == "\\x07é\\ud800"
    assert one_line("x" * 300) == "x" * 200 + "..."
    assert one_line(KeyError()) == "KeyError"


@pytest.mark.parametrize(("read", "wrong"), [(npz.text, 1.0), (npz.number, "a"), (npz.number, [1.0]), (npz.whole, 1.5)])
def test_scalars_of_other_kinds(read, wrong):
    content = {"name": np.asarray(wrong)}
    with pytest.raises(ValueError, match=r"name has shape .* and dtype .*; a .* is needed"):
        read(content, "name")
    with pytest.raises(ValueError, match="there is no other in it"):
        read(content, "other")
