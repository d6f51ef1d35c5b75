"""The registers of the threads of a block, and the operands of instructions, which name them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

Reader = Callable[[], Any]
Writer = Callable[[Any, np.ndarray], None]

_CONSTANT = re.compile(r"c\[0x0\]\[(?:(R\d+|RZ|UR\d+)\+?)?(-?0x[0-9a-f]+)?\]")
_REGISTER = re.compile(r"(U?)R(\d+|Z)(?:\.(\w+))?")
_PREDICATE = re.compile(r"(!?)(U?)P(\d|T)")
_SIGN = np.uint32(1 << 31)


class Registers:
    """Registers, uniform registers (one value for a warp, kept for each thread), predicates, the constant bank."""

    def __init__(self, threads: int, constants: bytes) -> None:
        self.threads = threads
        self.plain = np.zeros((256, threads), np.uint32)
        self.uniform = np.zeros((64, threads), np.uint32)
        self.predicates = np.zeros((8, threads), bool)
        self.uniform_predicates = np.zeros((8, threads), bool)
        self.predicates[7] = self.uniform_predicates[7] = True
        self.constants = np.frombuffer(constants, np.uint32)

    # ------------------------------------------------------------------ reading

    def predicate(self, text: str) -> Reader:
        found = _PREDICATE.fullmatch(text)
        assert found is not None, text
        kept = (self.uniform_predicates if found[2] else self.predicates)[7 if found[3] == "T" else int(found[3])]
        return (lambda: ~kept) if found[1] else (lambda: kept)

    def bits(self, text: str, pair: bool = False) -> Reader:
        """An operand without its sign, as uint32; as uint64 with the register behind it."""
        if found := _CONSTANT.fullmatch(text):
            return self._constant(found, pair)
        if found := _REGISTER.fullmatch(text):
            bank, last = (self.uniform, 63) if found[1] else (self.plain, 255)
            number = last if found[2] == "Z" else int(found[2])
            low = bank[number]
            if found[3] in ("H0_H0", "H1_H1"):
                shift = np.uint32(16 if found[3] == "H1_H1" else 0)
                return lambda: low >> shift & np.uint32(0xFFFF)
            if not pair:
                return lambda: low
            high = bank[last if number == last else number + 1]
            return lambda: low.astype(np.uint64) | high.astype(np.uint64) << np.uint64(32)
        value = int(text, 0) & (1 << 64) - 1 if pair else int(text, 0) & (1 << 32) - 1
        fixed = np.uint64(value) if pair else np.uint32(value)
        return lambda: fixed

    def _constant(self, found: re.Match, pair: bool) -> Reader:
        at = int(found[2] or "0", 0) // 4
        if found[1]:
            index = self.bits(found[1])
            return lambda: self.constants[index() // 4 + at]
        value = self.constants[at]
        if pair:
            value = np.uint64(value) | np.uint64(self.constants[at + 1]) << np.uint64(32)
        return lambda: value

    def integer(self, text: str, pair: bool = False) -> Reader:
        """As a uint64 whose sum is right modulo 2^64: `-x` is 2^32 - x, which may be 2^32, `~x` is 2^32 - 1 - x."""
        sign = text[0] if text[0] in "-~" and not text[1:2].isdigit() else ""
        read = self.bits(text[len(sign) :], pair)
        if pair:
            assert sign in ("", "-"), text
            return (lambda: np.uint64(0) - read()) if sign else read
        if sign == "-":
            return lambda: np.uint64(1 << 32) - np.uint64(read())
        if sign == "~":
            return lambda: np.uint64((1 << 32) - 1) - np.uint64(read())
        return lambda: np.uint64(read())

    def word(self, text: str) -> Reader:
        """As a uint32 with its sign or complement."""
        if text[0] in "-~" and not text[1:2].isdigit():
            read = self.integer(text)
            return lambda: np.asarray(read()).astype(np.uint32)
        return self.bits(text)

    def single(self, text: str) -> Reader:
        """As a float32."""
        inner, negative, absolute = _signs(text)
        if _REGISTER.fullmatch(inner) or _CONSTANT.fullmatch(inner):
            read = self.bits(inner)
            if inner.endswith(("H0_H0", "H1_H1")):
                half = read
                read = lambda: half().astype(np.uint16).view(np.float16).astype(np.float32).view(np.uint32)  # noqa: E731
            if absolute:
                return lambda: (read() & ~_SIGN | (_SIGN if negative else np.uint32(0))).view(np.float32)
            if negative:
                return lambda: (read() ^ _SIGN).view(np.float32)
            return lambda: read().view(np.float32)
        fixed = np.float32(float(text.replace("QNAN", "nan")))
        return lambda: fixed

    def double(self, text: str) -> Reader:
        """As a float64."""
        inner, negative, absolute = _signs(text)
        if _REGISTER.fullmatch(inner) or _CONSTANT.fullmatch(inner):
            read = self.bits(inner, pair=True)
            top = np.uint64(1 << 63)
            if absolute:
                return lambda: (read() & ~top | (top if negative else np.uint64(0))).view(np.float64)
            if negative:
                return lambda: (read() ^ top).view(np.float64)
            return lambda: read().view(np.float64)
        fixed = np.float64(float(text))
        return lambda: fixed

    # ------------------------------------------------------------------ writing

    def to(self, text: str, pair: bool = False) -> Writer:
        """What writes an operand for the threads of a mask."""
        if found := _PREDICATE.fullmatch(text):
            kept = self.uniform_predicates if found[2] else self.predicates
            if found[3] == "T":
                return lambda value, mask: None
            return _store(kept[int(found[3])])
        found = _REGISTER.fullmatch(text)
        assert found is not None, text
        bank = self.uniform if found[1] else self.plain
        if found[2] == "Z":
            return lambda value, mask: None
        low = bank[int(found[2])]
        if not pair:
            return _store(low)
        high = bank[int(found[2]) + 1]
        both = _store(low), _store(high)

        def write(value: Any, mask: np.ndarray) -> None:
            value = np.asarray(value)
            if value.dtype != np.uint64:
                value = value.view(np.uint64)
            both[0]((value & np.uint64(0xFFFFFFFF)).astype(np.uint32), mask)
            both[1]((value >> np.uint64(32)).astype(np.uint32), mask)

        return write


def _signs(text: str) -> tuple[str, bool, bool]:
    """An operand without its sign and bars."""
    negative = text.startswith("-")
    inner = text[1:] if negative else text
    absolute = inner.startswith("|")
    return inner.replace("|", ""), negative, absolute


def _store(row: np.ndarray) -> Writer:
    def write(value: Any, mask: np.ndarray) -> None:
        value = np.asarray(value)
        if value.dtype == np.float32:
            value = value.view(np.uint32)
        np.copyto(row, value, where=mask, casting="unsafe")

    return write
