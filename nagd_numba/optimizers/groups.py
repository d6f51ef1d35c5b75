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

    `row_of` is the row of each entry; entries that are equal share one.  `sources` says where the numbers come from.
    """

    def __init__(self, rule: Rule, follows: Mapping[str, str], entries: Sequence[Mapping[str, Any]]) -> None:
        self._rule, self._names = rule, list(rule.hyper)
        distinct: dict[Any, Mapping[str, Any]] = {}
        keys = [tuple(sorted(entry.items())) for entry in entries]
        for key, entry in zip(keys, entries, strict=True):
            distinct.setdefault(key, entry)
        places = {key: k for k, key in enumerate(distinct)}
        self.row_of = [places[key] for key in keys]
        shape = max(1, len(distinct)), len(self._names)
        sources, own = np.full(shape, SHARED, np.int64), np.zeros(shape)
        for k, entry in enumerate(distinct.values()):
            for name, x in entry.items():
                at = k, self._names.index(name)
                sources[at], own[at] = ITS_OWN, validation.real(name, x)
        has, leaders = sources == ITS_OWN, np.full(len(self._names), -1, np.int64)
        for name, other in follows.items():
            j, i = self._names.index(name), self._names.index(other)
            rows = has[:, i] & ~has[:, j]
            sources[rows, j], own[rows, j], leaders[j] = AS_ITS_LEADER, own[rows, i], i
        self.sources = RowSources(sources, own, leaders)

    def rows(self, shared: Sequence[float]) -> np.ndarray:
        """All rows; what follows another in `shared` follows it in each."""
        sources, own, leaders = self.sources
        numbers = np.array(shared, np.float64)
        follow = (sources == AS_ITS_LEADER) & (numbers == numbers[leaders])
        made: np.ndarray = np.where((sources == ITS_OWN) | follow, own, numbers)
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
