"""Damaged .npz files: bytes changed anywhere, in the fields of the zip format, and inside its arrays."""

import io
import random
import struct
import warnings
import zipfile

import numpy as np

# Places of fields after the signature of a record, and their lengths: those of a local header and of the directory.
LOCAL, DIRECTORY, END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
FIELDS = {
    LOCAL: [(4, 2), (6, 2), (8, 2), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2)],
    DIRECTORY: [(6, 2), (8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (28, 2), (30, 2), (32, 2), (34, 2), (42, 4)],
    END: [(4, 2), (6, 2), (8, 2), (10, 2), (12, 4), (16, 4), (20, 2)],
}
# What Python literals and dtypes are made of: put into a header, it often still is one.
WORDS = [
    *(b"(", b")", b"{", b"[", b",", b"'", b":", b"-", b"0", b"9" * 30, b"1e9", b"None", b"True", b"nan", b"\\", b"#"),
    *(b"|O", b"|V8", b"<U0", b"<U9", b">f8", b"<c16", b"<M8[s]", b"<f2", b"|S0", b"(2,)f8", b"f8,f8", b"[('a','<f8')]"),
    *(b"0x7fffffffffffffff", b"18446744073709551616", b"-1", b"'shape'", b"\x00", b"\xff", b"\n", b"\xc3\xa9"),
]


def mutated(whole, seed):
    """The file `whole` with one damage or a few, a function of the seed."""
    chance = random.Random(seed)
    kind = chance.randrange(4)
    if kind == 0:
        return _bytes_changed(whole, chance)
    if kind == 1:
        return _field_changed(whole, chance)
    return _member_changed(whole, chance)


def _bytes_changed(content, chance, below=None):
    content = bytearray(content)
    for _ in range(chance.choice([1, 1, 1, 2, 5])):
        place = chance.randrange(min(below or len(content), len(content)) or 1)
        length = chance.choice([1, 1, 2, 4, 40])
        kind = chance.randrange(6)
        if kind == 0 and content:
            content[place : place + 1] = bytes([content[place] ^ 1 << chance.randrange(8)])
        elif kind == 1:
            content[place : place + length] = chance.randbytes(length)
        elif kind == 2:
            content[place:place] = chance.randbytes(length)
        elif kind == 3:
            del content[place : place + length]
        elif kind == 4:
            content[place : place + chance.randrange(4)] = chance.choice(WORDS)
        elif chance.random() < 0.3:
            del content[place:]
    return bytes(content)


def _field_changed(whole, chance):
    """One number of the zip format set to another."""
    content = bytearray(whole)
    for _ in range(chance.choice([1, 1, 2])):
        signature = chance.choice(list(FIELDS))
        places = [i for i in range(len(whole)) if whole.startswith(signature, i)]
        offset, size = chance.choice(FIELDS[signature])
        top = 256**size
        value = chance.choice([0, 1, 8, 9, 12, 14, 93, 99, top - 1, top // 2, chance.randrange(top)])
        place = chance.choice(places) + offset
        content[place : place + size] = value.to_bytes(size, "little")
    return bytes(content)


def _member_changed(whole, chance):
    """An array changed, mostly in its header, in an archive whose checksums and lengths are right again."""
    members = unpacked(whole)
    name = chance.choice(list(members))
    kind = chance.randrange(8)
    if kind == 0:
        del members[name]
    elif kind == 1:
        members[name] = members[chance.choice(list(members))]
    elif kind == 2:
        members[name] = _bytes_changed(members[name], chance)
    elif kind == 3:  # another array altogether
        members[name] = npy(chance.choice(OTHERS))
    else:
        members[name] = _bytes_changed(members[name], chance, below=120)
    return packed(members, chance.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))


OTHERS = [
    *(np.float64(np.nan), np.float64(np.inf), np.float64(2.5), np.int64(-1), np.uint64(2**64 - 1), np.int64(2**62)),
    *(np.array([np.nan] * 3), np.array([[1, 2], [3, 4]]), np.zeros(0), np.zeros((0, 3)), np.zeros((1, 1, 1))),
    *(
        np.array(True),
        np.array("text"),
        np.array(["a", "b"]),
        np.array(b"bytes"),
        np.array(1j),
        np.array("2020", "M8[D]"),
    ),
    *(np.array([1, 2], ">i4"), np.array([1.5], np.longdouble), np.array("{"), np.array("[" * 5000), np.array("null")),
]


def npy(array):
    """The bytes of an .npy file."""
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asarray(array), allow_pickle=True)
    return file.getvalue()


def header_changed(content, **changes):
    """The bytes of an .npy file with other entries in its header, which is not checked."""
    file = io.BytesIO(content)
    assert np.lib.format.read_magic(file) == (1, 0)
    shape, order, dtype = np.lib.format.read_array_header_1_0(file)
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": order, "shape": shape} | changes
    text = repr(header).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + file.read()


def packed(members, method=zipfile.ZIP_STORED):
    """An archive of these members; names may be there twice in a list of pairs."""
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w", method) as archive:
        warnings.simplefilter("ignore")  # about names that are there twice
        for name, content in members.items() if isinstance(members, dict) else members:
            archive.writestr(name, content)
    return file.getvalue()


def unpacked(whole):
    """The members of an archive."""
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def flagged(whole, bits):
    """The archive with these bits set among the flags of all its members."""
    content = bytearray(whole)
    for signature, offset in ((LOCAL, 6), (DIRECTORY, 8)):
        for place in [i for i in range(len(whole)) if whole.startswith(signature, i)]:
            content[place + offset] |= bits & 255
            content[place + offset + 1] |= bits >> 8
    return bytes(content)


def compressed_by(whole, method):
    """The archive whose members say that they are compressed by another method."""
    content = bytearray(whole)
    for signature, offset in ((LOCAL, 8), (DIRECTORY, 10)):
        for place in [i for i in range(len(whole)) if whole.startswith(signature, i)]:
            content[place + offset : place + offset + 2] = method.to_bytes(2, "little")
    return bytes(content)
