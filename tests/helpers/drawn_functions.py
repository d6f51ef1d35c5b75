"""Functions of one problem, drawn: loops, branches, exceptions, arrays, whole numbers, calls of one another.

Each is Python of which every read is of something that was written, every index is within its array, and every loop
ends; what it computes means nothing.
"""

from __future__ import annotations

import random
from collections.abc import Callable

ARGUMENTS = "kind, row, picks, scale, flag, times, table, level"  # after x
LENGTHS = {"x": 3, "row": 4, "picks": 3, "times": 5, "table": 6, "g": 3}
_MOST = 3  # blocks within one another
_REALS = ["0.0", "1.0", "-1.0", "0.5", "-0.3", "2.75", "1e-3", "3.0", "-2.0", "1.5"]
_REALS += ["0.0", "1e300", "-1e-310", "math.inf", "-math.inf", "math.nan"]
_WHOLES = ["0", "1", "-1", "2", "3", "-5", "7", "12", "255", "-1000", "4611686018427387904"]
_GIVEN = ("table[1]", "table[4]", "np.int64(picks[0])", "np.int64(picks[2])", "np.int64(flag)")
_MATHS = ["exp", "log", "sqrt", "sin", "cos", "tanh", "atan", "floor", "ceil", "expm1", "log1p", "fabs", "erf"]


class Drawn:
    """The text of the functions `helper0`, ... and `fun(x, ...)`, from a seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.lines: list[str] = ["import math", "import numpy as np", "from numba import njit"]
        self.helpers: list[tuple[str, str]] = []  # name and what it returns
        self.indent = 0
        self.reals: list[str] = []
        self.wholes: list[str] = []
        self.arrays: dict[str, int] = {}  # that may be written to, by name: their lengths
        self.counted = 0
        self.loops = 0
        self.left = 0  # statements
        self.lines += ["", "@njit", "def mixed(a, b, c, i, j, k):", "    s = 0.0"]
        for name, weight in zip("abcijk", (1.0, 0.37, -0.11, 1e-3, -2e-3, 3.7e-4), strict=True):
            self.lines.append(f"    if abs({name} * 1.0) < 1e12:")
            self.lines.append(f"        s += {weight} * {name}")
        self.lines.append("    return s")
        for k in range(self.random.choice((0, 0, 1, 2, 3))):
            self._helper(k)
        self._fun()
        self.text = "\n".join(self.lines) + "\n"

    # -- functions

    def _helper(self, k: int) -> None:
        kind = self.random.choice(("real", "whole", "pair", "array"))
        self._begin(f"helper{k}", "a, b, i, y", ["a", "b"], ["i"], {"y": 3} if self.random.random() < 0.5 else {})
        self.result = kind
        self._statements(self.random.randint(2, 6), 1)
        self._do(f"return {self._returned()}")
        self.helpers.append((f"helper{k}", kind))

    def _fun(self) -> None:
        self.result = "both"
        self._begin("fun", f"x, {ARGUMENTS}", ["level"], ["kind"], {"g": 3})
        self._statements(self.random.randint(4, 14), 0)
        self._do(f"return {self._returned()}")

    def _begin(self, name: str, arguments: str, reals: list[str], wholes: list[str], arrays: dict[str, int]) -> None:
        self.indent = 0
        self.known = {"y": 3} if name != "fun" else {k: n for k, n in LENGTHS.items() if k != "g"}
        self._do("")
        self._do(self.random.choice(("@njit", "@njit", '@njit(error_model="numpy")')))
        self._do(f"def {name}({arguments}):")
        self.indent = 1
        self.fixed = set(reals + wholes)
        self.reals, self.wholes, self.arrays = list(reals), list(wholes), dict(arrays)
        if name == "fun":
            self._do("g = np.zeros(x.size)")
            self._do("small = scale * 1.0")
            self.reals.append("small")
        for k in range(3):
            self._do(f"r{k} = {self.random.choice(('0.0', '1.0', self._real(0)))} * 1.0")
            self._do(f"w{k} = {self.random.choice(('0', '1', self._whole(0)))}")
            self.reals.append(f"r{k}")
            self.wholes.append(f"w{k}")
        self.left = 40

    def _returned(self) -> str:
        if self.result == "both":
            gradient = self.random.choice(("g", "g", "g", "x - g", f"g * {self._real(1)}", f"g + {self._array(3)}"))
            return f"mixed(r0, r1, r2, w0, w1, w2), {gradient}"
        if self.result == "pair":
            return f"({self._real(1)} * 1.0, {self._whole(1)})"
        if self.result == "array":
            return f"y + {self._real(1)}"
        return f"{self._real(2)} * 1.0" if self.result == "real" else self._whole(2)

    # -- statements

    def _do(self, line: str) -> None:
        self.lines.append("    " * self.indent + line if line else "")

    def _new(self, prefix: str) -> str:
        self.counted += 1
        return f"{prefix}{self.counted}"

    def _statements(self, count: int, depth: int) -> None:
        for _ in range(count):
            self.left -= 1
            if self.left < 0:
                break
            self._statement(depth)

    def _block(self, depth: int) -> None:
        """A block within: what it alone makes is not known after it."""
        self.indent += 1
        kept = list(self.reals), list(self.wholes), dict(self.arrays), dict(self.known)
        self._do(self._assignment())
        self._statements(self.random.randint(1, 3), depth + 1)
        self.reals, self.wholes, self.arrays, self.known = kept
        self.indent -= 1

    def _statement(self, depth: int) -> None:
        draw = self.random.random()
        if depth < _MOST and draw < 0.16:
            self._do(f"if {self._condition()}:")
            self._block(depth)
            if self.random.random() < 0.3:
                self._do(f"elif {self._condition()}:")
                self._block(depth)
            if self.random.random() < 0.5:
                self._do("else:")
                self._block(depth)
        elif depth < _MOST and draw < 0.30:
            self._loop(depth)
        elif draw < 0.36 and self.loops > 0:
            self._do(f"if {self._condition()}:")
            self._do("    " + self.random.choice(("break", "continue", "break")))
        elif draw < 0.40:
            self._do(f"if {self._condition(rare=True)}:")
            self._do(f"    return {self._returned()}")
        elif draw < 0.43:
            self._do(f"if {self._condition(rare=True)}:")
            self._do("    " + self.random.choice(('raise ValueError("no")', 'raise ArithmeticError("never", 3)')))
        elif draw < 0.50:
            self._make_array()
        elif draw < 0.68 and self.arrays:
            name, n = self.random.choice(list(self.arrays.items()))
            sign = self.random.choice(("=", "=", "+=", "-=", "*="))
            self._do(f"{name}[{self._index(n)}] {sign} {self._real(2)}")
        elif draw < 0.71:
            name = self._new("k")
            self._do(f"{name} = np.array([{self._whole(1)}, {self._whole(1)}, {self._whole(1)}])")
            self._do(f"{name}[{self._index(3)}] += {self._whole(1)}")
            self.wholes.append(f"{name}[{self._index(3)}]")
            self.fixed.add(self.wholes[-1])
        elif draw < 0.75 and len(self.arrays) > 1:
            pairs = [(a, b) for a, n in self.arrays.items() for b, m in self.arrays.items() if a != b and n == m]
            if pairs and self.loops >= 0:
                a, b = self.random.choice(pairs)
                self._do(f"{a}, {b} = {b}, {a}")
        elif draw < 0.80 and any(kind == "pair" for _, kind in self.helpers):
            name = next(name for name, kind in self.helpers if kind == "pair")
            self._do(f"{self._target(self.reals)}, {self._target(self.wholes)} = {self._call(name)}")
        elif draw < 0.83:
            made = self._new("t")
            self._do(f"{made} = ({self._real(1)}, {self._whole(1)}, {self._real(1)})")
            self._do(f"{self._target(self.reals)} = {made}[0] - {made}[2] * 1.0")
        else:
            self._do(self._assignment())

    def _target(self, names: list[str]) -> str:
        own = [name for name in names if name not in self.fixed and name != "small"]
        return self.random.choice(own)

    def _assignment(self) -> str:
        if self.random.random() < 0.6:
            name, sign = self._target(self.reals), self.random.choice(("=", "+=", "="))
            return f"{name} {sign} {self._real(3)} * 1.0"
        return f"{self._target(self.wholes)} {self.random.choice(('=', '+='))} {self._whole(3)}"

    def _loop(self, depth: int) -> None:
        self.loops += 1
        name = self._new("i")
        if self.random.random() < 0.6:
            over = self.random.choice(
                (
                    "range(3)",
                    "range(1, 9, 3)",
                    "range(4, -1, -1)",
                    f"range({self._whole(1)} % 7)",
                    f"range(min(abs({self._whole(1)}), 5))",
                    *([] if self.indent == 0 else [f"range({self.random.choice(list(self.known))}.size)"]),
                )
            )
            self._do(f"for {name} in {over}:")
            self.wholes.append(name)
            self.fixed.add(name)
            self._block(depth)
            self.wholes.remove(name)
        else:
            self._do(f"{name} = 0")
            self._do(f"while {name} < {self.random.choice(('6', '12', '3'))} and ({self._condition()}):")
            self.indent += 1
            self._do(f"{name} += 1")
            self.indent -= 1
            self._block(depth)
        self.loops -= 1

    def _make_array(self) -> None:
        name, n = self._new("v"), self.random.choice((3, 3, 2, 5, 8))
        dtype = self.random.choice(("", "", "", ", np.float32"))
        draw = self.random.random()
        if draw < 0.5:
            self._do(f"{name} = np.zeros({n}{dtype})")
        elif draw < 0.7:
            self._do(f"{name} = np.empty({n}{dtype})")
            self._do(f"for q in range({n}):")
            self._do(f"    {name}[q] = q * {self._real(1)}")
        elif draw < 0.85 and "times" in self.known:
            n, dtype = self.random.choice(((3, ""), (4, ""), (5, "")))
            self._do(f"{name} = {({3: 'x', 4: 'row', 5: 'times'})[n]} * {self._real(1)}")
        else:
            self._do(f"{name} = np.full({n}, {self._real(1)} * 1.0)")
            dtype = ""
        if not dtype:
            self.arrays[name] = n
        self.known[name] = n

    # -- values

    def _index(self, n: int) -> str:
        draw = self.random.random()
        if draw < 0.4:
            return str(self.random.randrange(n))
        if draw < 0.5:
            return str(-self.random.randint(1, n))
        return f"({self._whole(1)}) % {n}"

    def _array(self, n: int) -> str:
        return self.random.choice([name for name, m in {**self.known, **self.arrays}.items() if m == n])

    def _call(self, name: str) -> str:
        array = "x" if "x" in self.known else "y"
        if self.random.random() < 0.4:
            array = self._array(3)
            array = array if array != "picks" else "x"
        if array.startswith("v") and array not in self.arrays:
            array = "x" if "x" in self.known else "y"  # of float32
        copy = ".copy()" if self.random.random() < 0.5 or array in ("x", "y") else ""
        return f"{name}({self._real(1)} * 1.0, {self._real(1)} * 1.0, {self._whole(1)}, {array}{copy})"

    def _real(self, depth: int) -> str:
        if depth == 0 or self.random.random() < 0.25:
            draw = self.random.random()
            if draw < 0.15:
                return self.random.choice(_REALS)
            if draw < 0.55 or not self.known:
                return self.random.choice(self.reals)
            name, n = self.random.choice([(k, m) for k, m in {**self.known, **self.arrays}.items() if k != "table"])
            return f"{name}[{self._index(n)}]" if depth > 0 else f"{name}[{self.random.randrange(n)}]"
        a, b = (self._real(depth - 1) for _ in range(2))
        helpers = [name for name, kind in self.helpers if kind == "real"]
        arrays = [name for name, kind in self.helpers if kind == "array"]
        forms: list[Callable[[], str]] = [
            *[lambda: f"({a} {self.random.choice('+-*')} {b})"] * 6,
            *[lambda: f"({a} / (1.0 + abs({b})))"] * 2,
            lambda: f"({a} / {self.random.choice((b, '0.3', '-7.0', '1e-3'))})",
            lambda: f"math.{self.random.choice(_MATHS[:9])}(abs({a}))",
            lambda: f"math.{self.random.choice(_MATHS)}(min(abs({a}), 5.0))",
            lambda: f"max({a}, {b})",
            lambda: f"min({a}, {b})",
            lambda: f"({a} if {self._condition()} else {b})",
            lambda: f"({self._whole(depth - 1)} * 0.25)",
            lambda: f"({a} % {self.random.choice(('0.7', '(1.0 + abs(' + b + '))'))})",
            lambda: f"abs({a}) ** {self.random.choice(('0.5', '2', '3', '(' + self._whole(0) + ' % 4)', '1.5'))}",
            lambda: f"np.float32({a})",
            lambda: f"math.atan2({a}, {b})",
            lambda: f"math.copysign({a}, {b})",
            lambda: f"np.sum({self.random.choice(list({**self.known, **self.arrays}))})",
            lambda: f"{self.random.choice([k for k, m in {**self.known, **self.arrays}.items() if m > 2])}[1:3].sum()",
        ]
        if helpers:
            forms += [lambda: self._call(self.random.choice(helpers))] * 2
        if arrays:
            forms += [lambda: f"{self._call(self.random.choice(arrays))}[{self._index(3)}]"]
        return self.random.choice(forms)()

    def _whole(self, depth: int) -> str:
        if depth == 0 or self.random.random() < 0.3:
            draw = self.random.random()
            if draw < 0.2:
                return self.random.choice(_WHOLES)
            if draw < 0.7 or "table" not in self.known:
                return self.random.choice(self.wholes)
            return self.random.choice(
                ("table[1]", "table[4]", "np.int64(picks[0])", "np.int64(picks[2])", "np.int64(flag)")
            )
        a, b = (self._whole(depth - 1) for _ in range(2))
        helpers = [name for name, kind in self.helpers if kind == "whole"]
        forms: list[Callable[[], str]] = [
            *[lambda: f"({a} {self.random.choice('+-*&|^')} {b})"] * 5,
            lambda: self._ratio(a, ("3", "-4", "7", f"(1 + abs({b}) % 9)")),
            lambda: self._ratio(a, (b, "5", "-2", f"({b} | 1)")),
            lambda: f"({a} {self.random.choice(('<<', '>>'))} {self.random.choice(('1', '3', '(' + b + ' & 15)'))})",
            lambda: f"abs({a})",
            lambda: f"(-{a})",
            lambda: f"min({a}, {b})",
            lambda: f"max({a}, {b})",
            lambda: f"({a} if {self._condition()} else {b})",
            lambda: f"int(max(-1e6, min(1e6, {self._real(depth - 1)})))",
            lambda: f"np.int64(np.int32({a}))",
            lambda: f"np.int64(np.int8({a}))",
            lambda: f"np.int64({self._condition()})",
        ]
        if "table" in self.known:
            forms += [lambda: f"table[({a}) % 6]", lambda: f"np.int64(picks[({a}) % 3])"]
        if helpers:
            forms += [lambda: self._call(self.random.choice(helpers))] * 2
        return self.random.choice(forms)()

    def _ratio(self, a: str, by: tuple[str, ...]) -> str:
        return f"({a} {self.random.choice(('//', '%'))} {self.random.choice(by)})"

    def _condition(self, rare: bool = False) -> str:
        if rare:
            equal = "kind == 5" if "kind" in self.fixed else "i == 5"
            return self.random.choice((f"{self._whole(1)} % 11 == 3", f"{self._real(1)} > 40.0", equal))
        sign = self.random.choice(("<", ">", "<=", ">=", "==", "!="))
        draw = self.random.random()
        if draw < 0.45:
            return f"{self._real(1)} {sign} {self._real(1)}"
        if draw < 0.85:
            return f"{self._whole(1)} {sign} {self._whole(1)}"
        return f"{self._real(0)} < {self._real(0)} {self.random.choice(('and', 'or'))} {self._whole(0)} % 3 != 1"
