"""Settings for parts of the parameters: which entry of `groups` a segment or an array goes by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from .. import validation
from ..kernels.array_call import AS_ITS_LEADER, ITS_OWN, SHARED, RowSources
from ..kernels.rule import Rule

SEPARATORS = "./"


def matches(key: str, name: str) -> bool:
    """Is the key the name, a prefix of it up to a `.` or `/`, or a pattern (`*`, `?`, `[...]`) of it?"""
    return name == key or any(name.startswith(key + x) for x in SEPARATORS) or fnmatchcase(name, key)


def settings_of(names: Sequence[str], groups: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The settings of each name: of all keys that match it, a later one before an earlier one."""
    for key, entry in groups.items():
        if not isinstance(entry, Mapping):
            raise TypeError(f"groups[{key!r}] is {entry!r}; a dict of settings is needed: dict(lr=0.1)")
        if not any(matches(key, name) for name in names):
            shown = ", ".join(map(repr, names[:8])) + (", ..." if len(names) > 8 else "")
            raise ValueError(f"groups[{key!r}] matches no segment; there are {shown}")
    made = []
    for name in names:
        own: dict[str, Any] = {}
        for key, entry in groups.items():
            if matches(key, name):
                own.update(entry)
        made.append(own)
    return made


class Numbers:
    """The hyper-parameters of groups: a row for each, of those that are the same for all and its own.

    `row_of` is the row of each entry; entries that are equal share one.
    """

    def __init__(self, rule: Rule, follows: Mapping[str, str], entries: Sequence[Mapping[str, Any]]) -> None:
        self._rule, self._names = rule, list(rule.hyper)
        distinct: dict[Any, Mapping[str, Any]] = {}
        keys = [tuple(sorted(entry.items())) for entry in entries]
        for key, entry in zip(keys, entries, strict=True):
            distinct.setdefault(key, entry)
        places = {key: k for k, key in enumerate(distinct)}
        self.row_of = [places[key] for key in keys]
        self._has = np.zeros((max(1, len(distinct)), len(self._names)), bool)
        self._own = np.zeros(self._has.shape)
        for k, entry in enumerate(distinct.values()):
            for name, x in entry.items():
                at = k, self._names.index(name)
                self._has[at], self._own[at] = True, validation.real(name, x)
        # Columns that follow another, and the rows that have a number of their own for that other alone.
        self._follows: list[tuple[int, int, np.ndarray]] = []
        for name, other in follows.items():
            j, i = self._names.index(name), self._names.index(other)
            self._follows.append((j, i, self._has[:, i] & ~self._has[:, j]))

    @property
    def sources(self) -> RowSources:
        """The same for compiled code."""
        sources, own = np.where(self._has, ITS_OWN, SHARED), self._own.copy()
        leaders = np.full(len(self._names), -1)
        for j, i, rows in self._follows:
            leaders[j] = i
            sources[rows, j], own[rows, j] = AS_ITS_LEADER, own[rows, i]
        return RowSources(sources.astype(np.int64), own, leaders.astype(np.int64))

    def rows(self, shared: Sequence[float]) -> np.ndarray:
        """All rows; what follows another in `shared` follows it in each."""
        made: np.ndarray = np.where(self._has, self._own, np.array(shared, np.float64))
        for j, i, rows in self._follows:
            if shared[j] == shared[i]:
                made[rows, j] = made[rows, i]
        return made

    def check(self, rows: np.ndarray, dtypes: Sequence[np.dtype[Any]], options: tuple[Any, ...]) -> None:
        """Raise for numbers out of their ranges, or that arrays of these dtypes cannot hold."""
        for dtype in dict.fromkeys(dtypes):
            for row in rows:
                named = dict(zip(self._names, map(float, row), strict=True))
                values = validation.hyper_parameters(named, dtype, self._rule.range_of)
                if named.get("lower", -np.inf) > named.get("upper", np.inf):
                    raise ValueError(f"lower is {named['lower']!r}, above upper, {named['upper']!r}")
                self._rule.scalars(values, dtype, options)
