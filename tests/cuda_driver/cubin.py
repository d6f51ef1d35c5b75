"""What machine code says of itself: architecture, kernels, and for each its parameters, registers, shared memory."""

import re
import struct
from dataclasses import dataclass, field

# Attributes in the sections `.nv.info` and `.nv.info.KERNEL`, as `cuobjdump -elf` names them.
MAX_THREADS, KPARAM_INFO, REGCOUNT = 0x05, 0x17, 0x2F
NO_BITS = 8  # a section that holds no bytes in the file
RESERVED_SHARED = 1024  # of the system's, at the front of a block's shared memory since sm_80


@dataclass
class Parameter:
    """Where the machine code expects an argument."""

    offset: int
    size: int


@dataclass
class Entry:
    """A kernel in a cubin."""

    name: str
    parameters: list = field(default_factory=list)
    registers: int = 0
    max_threads: int = 1024
    static_shared: int = 0

    @property
    def title(self):
        return short(self.name)


class BadImage(Exception):
    """Not a cubin."""


class Cubin:
    def __init__(self, image):
        self.image = image
        if image[:5] != b"\x7fELF\x02" or struct.unpack_from("<H", image, 18)[0] != 190:
            raise BadImage("no 64-bit ELF file for NVIDIA's machines")
        flags = struct.unpack_from("<I", image, 48)[0]
        number = flags >> 8 & 0xFF if image[8] >= 8 else flags & 0xFF  # 90 is sm_90
        self.capability = divmod(number, 10)
        self._sections()
        self.entries = {}
        for name in self.sections:
            if name.startswith(".text."):
                self.entries[name[6:]] = Entry(name[6:])
        self._common()
        for entry in self.entries.values():
            self._read(entry)

    @property
    def size(self):
        """The bytes of the image, which is passed by its address only."""
        return len(self.image)

    def _sections(self):
        image = self.image
        start = struct.unpack_from("<Q", image, 40)[0]
        _, count, names = struct.unpack_from("<HHH", image, 58)
        found = [struct.unpack_from("<IIQQQQIIQQ", image, start + 64 * k) for k in range(count)]
        text = found[names][4]
        self.sections = {}
        for name, kind, _, _, offset, size, *_ in found:
            end = image.index(b"\0", text + name)
            self.sections[image[text + name : end].decode()] = kind, offset, size
        self._symbol_names = next((f[4] for f in found if image[text + f[0] :].startswith(b".strtab\0")), 0)

    def _bytes(self, name):
        kind, offset, size = self.sections.get(name, (NO_BITS, 0, 0))
        return b"" if kind == NO_BITS else self.image[offset : offset + size]

    def _common(self):
        """Registers, which stand in a table by number of symbol."""
        symbols = self._bytes(".symtab")
        for attribute, value in _attributes(self._bytes(".nv.info")):
            if attribute == REGCOUNT:
                symbol, registers = struct.unpack("<II", value)
                start = self._symbol_names + struct.unpack_from("<I", symbols, 24 * symbol)[0]
                name = self.image[start : self.image.index(b"\0", start)].decode()
                if name in self.entries:
                    self.entries[name].registers = registers

    def _read(self, entry):
        parameters = {}
        for attribute, value in _attributes(self._bytes(f".nv.info.{entry.name}")):
            if attribute == KPARAM_INFO:
                _, ordinal, offset, packed = struct.unpack("<IHHI", value)
                parameters[ordinal] = Parameter(offset, packed >> 18)
            elif attribute == MAX_THREADS:
                x, y, z = struct.unpack("<III", value)
                entry.max_threads = x * y * z
        entry.parameters = [parameters[k] for k in sorted(parameters)]
        shared = self.sections.get(f".nv.shared.{entry.name}", (0, 0, 0))[2]
        reserved = RESERVED_SHARED if self.capability >= (8, 0) and shared >= RESERVED_SHARED else 0
        entry.static_shared = shared - reserved


def length(read):
    """The bytes of an image of which only the address is known; `read(offset, size)` gives bytes of it."""
    head = read(0, 64)
    if head[:5] != b"\x7fELF\x02":
        raise BadImage("no 64-bit ELF file")
    programs, sections = struct.unpack_from("<QQ", head, 32)
    size, count, section_size, section_count = struct.unpack_from("<HHHH", head, 54)
    end = max(programs + size * count, sections + section_size * section_count)
    for k in range(section_count):
        _, kind, _, _, offset, nbytes, *_ = struct.unpack("<IIQQQQIIQQ", read(sections + 64 * k, 64))
        end = max(end, offset + (0 if kind == NO_BITS else nbytes))
    return end


def _attributes(data):
    """(attribute, value) one after another: a format, an attribute, and two bytes, or their number and as many."""
    at = 0
    while at + 4 <= len(data):
        kind, attribute, word = struct.unpack_from("<BBH", data, at)
        at += 4
        if kind == 4:
            yield attribute, data[at : at + word]
            at += word
        else:
            yield attribute, word.to_bytes(2, "little")


def short(name):
    """A mangled name's own last part: `_ZN6module4funcB2v1...` is `func`."""
    parts, at = [], 3
    while name.startswith("_ZN") and (digits := re.match(r"\d+", name[at:])):
        at += digits.end()
        parts.append(name[at : at + int(digits[0])])
        at += int(digits[0])
    return parts[-1] if parts else name
