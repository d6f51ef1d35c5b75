"""Damage of whole files by its kind: cut, spliced, bombs, headers that lie, other versions, values out of range."""

import functools
import io
import json
import struct
import zlib

import numpy as np

from nagd_numba.io import npz

from .damage import OTHERS, header_changed, mutated, npy, packed, unpacked

NUMBERS = [-1, 0, 1, 0.5, 10**6, 2**31, 2**63, 10**30, 1e308, -1e308, float("nan"), float("inf"), -0.0]
ODD = [*NUMBERS, "", "x", "relu ", "9" * 5000, None, True, [], {}, [1, [2]], {"a": 1}, "\x00", "\u202e"]
DTYPES = ["<f4", "<f8", ">f4", ">f8", "<i4", "<i8", "<u8", "<f2", "<c8", "|b1", "|i1", "<U1", "|S4", "<M8[s]", "|O"]
VERSIONS = ["nagd_numba.MLP 1", "nagd_numba.MLP 3", "nagd_numba.train 1", "nagd_numba.train 99", "nagd_numba.MLP", "2"]
BLOCK = 1 << 24  # bytes of a bomb that are compressed at once


def truncated(whole, chance):
    return whole[: chance.choice([0, 1, len(whole) - 1, chance.randrange(len(whole))])]


def spliced(whole, other, chance):
    """The start of one file and the end of another of the same kind."""
    place = chance.randrange(len(whole))
    return whole[:place] + other[place if chance.random() < 0.5 else chance.randrange(len(other)) :]


def bytes_changed(whole, chance):
    """Any file, a few bytes of it changed."""
    content = bytearray(whole)
    for _ in range(chance.choice([1, 1, 2, 5])):
        place, length = chance.randrange(len(content) + 1), chance.choice([1, 1, 2, 4, 40])
        kind = chance.randrange(5)
        if kind == 0 and place < len(content):
            content[place] ^= 1 << chance.randrange(8)
        elif kind == 1:
            content[place : place + length] = chance.randbytes(length)
        elif kind == 2:
            content[place:place] = chance.randbytes(length)
        elif kind == 3:
            del content[place : place + length]
        else:
            content[place : place + length] = chance.choice(
                [b",", b";", b'"', b"\n", b"\r", b"\x00", b"9" * 400, b"nan"]
            )
    return bytes(content)


def archive_damaged(whole, chance):
    """Bytes, fields of the zip format, and members, as `mutated` has it."""
    return mutated(whole, chance.randrange(2**60))


def members_exchanged(whole, other, chance):
    """Arrays of another file of the same kind, in an archive that is sound."""
    members, others = unpacked(whole), unpacked(other)
    names = chance.sample(sorted(members), chance.randrange(1, len(members)))
    return packed({name: others.get(name, content) if name in names else content for name, content in members.items()})


def header_lies(whole, chance):
    """Shape, dtype or order of an array that its bytes do not have, or might; checksums are right."""
    members = unpacked(whole)
    name = chance.choice(sorted(members))
    size = len(members[name]) - 128
    shapes = [(size,), (size // 4,), (size // 8,), (2**40,), (-1,), (size // 8, 2), (2**32, 2**32), (1,) * 70, (0,), ()]
    change = chance.choice(
        [
            {"shape": chance.choice(shapes)},
            {"descr": chance.choice(DTYPES)},
            {"fortran_order": chance.choice([True, 1, None])},
        ]
    )
    return packed(members | {name: header_changed(members[name], **change)})


def value_changed(whole, chance):
    """An array changed, and the digest made anew: as a program might write it that does not know what is allowed."""
    content = _arrays(whole)
    name = chance.choice(sorted(content))
    x = content[name]
    kind = chance.randrange(5)
    if kind == 0:
        content[name] = np.asarray(chance.choice(OTHERS))
    elif kind == 1:
        del content[name]
    elif kind == 2 and x.dtype.kind == "U":
        content[name] = np.asarray(_text_changed(str(x), chance))
    elif kind == 3:
        content[name] = np.resize(x, chance.choice([(0,), (x.size + 1,), (max(x.size - 1, 1),), (x.size, 1), ()]))
    else:
        flat = x.reshape(-1).copy()
        if flat.size:
            with np.errstate(all="ignore"):
                try:
                    flat[chance.randrange(flat.size)] = chance.choice(ODD)
                except (TypeError, ValueError, OverflowError):
                    flat = flat[::-1].copy()
        content[name] = flat.reshape(x.shape)
    return _sealed(content)


def version_changed(whole, chance):
    """A format that this version does not write; sometimes the digest is that of the arrays then, or is missing."""
    content = _arrays(whole)
    names = [name for name in ("format", "training", "nagd_numba_states") if name in content]
    name = chance.choice(names)
    if content[name].dtype.kind == "U":
        content[name] = np.asarray(chance.choice(VERSIONS))
    else:
        content[name] = np.asarray(chance.choice([0, 3, 99, -1]))
    if chance.random() < 0.5:
        return _sealed(content)
    return packed({f"{name}.npy": npy(x) for name, x in content.items()})


def manifest_changed(whole, digest, chance):
    """A value of a JSON object changed; then its digest is made anew, or not."""
    values = json.loads(whole)
    name = chance.choice(sorted(values))
    if name == "parts" and chance.random() < 0.7:
        part = values["parts"][0]
        part[chance.choice(sorted(part))] = chance.choice(ODD)
    elif chance.random() < 0.2:
        del values[name]
    else:
        values[name] = chance.choice([*ODD, "nagd_numba.distributed 1", "nagd_numba.distributed 3"])
    if chance.random() < 0.5:
        values.pop("digest", None)
        values["digest"] = digest(values)
    return json.dumps(values).encode()


def cell_changed(whole, chance):
    """Cells of a table that are no number, or one out of range."""
    lines = whole.decode().split("\n")
    for _ in range(chance.choice([1, 1, 3])):
        k = chance.randrange(len(lines))
        cells = lines[k].split(",")
        cells[chance.randrange(len(cells))] = str(chance.choice(ODD))
        lines[k] = ",".join(cells)
    return "\n".join(lines).encode("utf-8", "replace")


def bomb(whole, size, chance):
    """An archive with an array of zeros that unpacks to `size` bytes; the directory tells it, or other sizes."""
    members = unpacked(whole)
    name = chance.choice(sorted(members))
    dtype, width = chance.choice([("<f8", 8), ("|i1", 1), ("<f4", 4), ("<U1", 4)])
    shape = chance.choice([(size // width,), (size // width // 2, 2)])
    header = npy(np.zeros(0, dtype))
    header = header_changed(header, shape=shape, descr=dtype)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    start = packer.compress(header) + packer.flush(zlib.Z_FULL_FLUSH)
    told = chance.choice([size + len(header)] * 3 + [1000, 2**32 - 2])
    entries = [(x, content, content, len(content), 0) for x, content in members.items() if x != name]
    return _zip([*entries, (name, start + _zeros(size, bytes(BLOCK)), None, told, 8)])


def packed_bomb(size, line=b"1,2,a\n1,3,b\n"):
    """A gzip file that unpacks to a table of `size` bytes."""
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + _zeros(size, line * (BLOCK // len(line))) + bytes(8)


@functools.lru_cache(2)
def _zeros(size, block):
    """Deflated: the block as often as it takes.  After a full flush nothing refers to what came before."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    once = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    return once * (size // len(block)) + packer.flush()


def _zip(entries):
    """An archive of (name, stored bytes, content or None, told size, method)."""
    file, directory = io.BytesIO(), b""
    for name, stored, content, told, method in entries:
        checksum = 0 if content is None else zlib.crc32(content)
        fields = struct.pack("<HHHHHIIIHH", 20, 0, method, 0, 33, checksum, len(stored), told, len(name), 0)
        directory += b"PK\x01\x02" + struct.pack("<H", 20) + fields
        directory += struct.pack("<HHHII", 0, 0, 0, 0, file.tell()) + name.encode()
        file.write(b"PK\x03\x04" + fields + name.encode() + stored)
    place = file.tell()
    return (
        file.getvalue()
        + directory
        + b"PK\x05\x06"
        + struct.pack("<HHHHIIH", 0, 0, *[len(entries)] * 2, len(directory), place, 0)
    )


def _arrays(whole):
    with np.load(io.BytesIO(whole)) as file:
        return {name: file[name] for name in file.files if name != npz.DIGEST}


def _sealed(content):
    """The archive as `npz.write` writes it."""
    return packed({f"{name}.npy": npy(x) for name, x in (content | {npz.DIGEST: npz.digest(content)}).items()})


def _text_changed(text, chance):
    """Another text; of a JSON object, another value."""
    try:
        values = json.loads(text)
    except ValueError:
        values = None
    if not isinstance(values, dict) or not values:
        return str(chance.choice(ODD)).replace("\ud800", "")
    values[chance.choice([*sorted(values), "unknown"])] = chance.choice(ODD)
    return json.dumps(values)
