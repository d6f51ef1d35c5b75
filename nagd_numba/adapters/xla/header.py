"""Where the fields of XLA's structures lie: read from the C header of its foreign function interface (FFI).

jaxlib ships the header that it was compiled with (`xla/ffi/api/c_api.h`).  Offsets follow from the order and the types
of the fields, by the rules of C on 64-bit machines, so that a version that moves a field is read rightly, and one that
lacks a field is refused before anything runs.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

MAJOR = 0  # of the FFI: another one may mean something else by the same fields
_SCALARS = {"size_t": 8, "int64_t": 8, "int": 4, "int32_t": 4, "uint32_t": 4, "XLA_FFI_Handler_Traits": 4}
_POINTER = 8


class Unknown(Exception):
    """The header is not one that is understood; the message says where."""


class Header:
    """The structures, constants and the version of one header."""

    def __init__(self, text: str) -> None:
        text = re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.DOTALL)
        self.version = tuple(int(self._macro(text, f"XLA_FFI_API_{part}")) for part in ("MAJOR", "MINOR"))
        if self.version[0] != MAJOR:
            raise Unknown(f"its version is {self.version[0]}.{self.version[1]}, and {MAJOR}.x is needed")
        self._bodies = dict(re.findall(r"struct (XLA_FFI_\w+) \{(.*?)\n\}", text, re.DOTALL))
        self._last = dict(re.findall(r"XLA_FFI_DEFINE_STRUCT_TRAITS\((\w+), (\w+)\)", text))
        enums = re.findall(r"(?:typedef enum|enum \w+) \{(.*?)\}\s*(\w*);", text, re.DOTALL)
        self._enums = {name for _, name in enums if name}
        self.values = {name: int(x) for body, _ in enums for name, x in re.findall(r"(\w+) = (\d+)\s*,", body)}
        self._fields: dict[str, dict[str, tuple[int, int]]] = {}

    @staticmethod
    def _macro(text: str, name: str) -> str:
        found = re.search(rf"#define {name} (\d+)", text)
        if found is None:
            raise Unknown(f"it does not define {name}")
        return found[1]

    def value(self, name: str) -> int:
        """A constant of an enumeration."""
        if name not in self.values:
            raise Unknown(f"it has no constant {name}")
        return self.values[name]

    def offset(self, struct: str, field: str) -> int:
        """The bytes before a field."""
        fields = self.fields(struct)
        if field not in fields:
            raise Unknown(f"{struct} has no field {field}")
        return fields[field][0]

    def size(self, struct: str) -> int:
        """What the field `struct_size` of a structure holds: the bytes up to the end of its last field."""
        if struct not in self._last:
            raise Unknown(f"it does not say how long {struct} is")
        last = self._last[struct]
        return self.offset(struct, last) + self.fields(struct)[last][1]

    def fields(self, struct: str) -> dict[str, tuple[int, int]]:
        """The offset and the size of each field."""
        if struct not in self._bodies:
            raise Unknown(f"it has no structure {struct}")
        if struct not in self._fields:
            made: dict[str, tuple[int, int]] = {}
            end = 0
            for line in self._bodies[struct].split(";"):
                if line.strip():
                    name, size, alignment = self._field(" ".join(line.split()))
                    start = -(-end // alignment) * alignment
                    made[name], end = (start, size), start + size
            self._fields[struct] = made
        return self._fields[struct]

    def _field(self, declaration: str) -> tuple[str, int, int]:
        """The name, the size and the alignment that a declaration gives a field."""
        pointer = re.fullmatch(r"_XLA_FFI_API_STRUCT_FIELD\((\w+)\)|.*\(\*(\w+)\)\(.*\)|.*\* *(\w+)", declaration)
        if pointer is not None:
            return next(filter(None, pointer.groups())), _POINTER, _POINTER
        plain = re.fullmatch(r"(?:const )?(?:struct )?(\w+) (\w+)", declaration)
        if plain is None:
            raise Unknown(f"the field '{declaration}' is not understood")
        kind, name = plain.groups()
        size = _SCALARS.get(kind, 4 if kind in self._enums else 0)
        if size:
            return name, size, size
        inner = self.fields(kind)
        alignment = max(self._alignment(kind), 1)
        end = max(start + size for start, size in inner.values())
        return name, -(-end // alignment) * alignment, alignment

    def _alignment(self, struct: str) -> int:
        declarations = (" ".join(line.split()) for line in self._bodies[struct].split(";") if line.strip())
        return max(self._field(x)[2] for x in declarations)


@cache
def header(folder: str) -> Header:
    """The header below an include folder."""
    file = Path(folder) / "xla" / "ffi" / "api" / "c_api.h"
    if not file.is_file():
        raise Unknown(f"there is no {file}")
    return Header(file.read_text(encoding="utf-8"))
