"""Settings for parts of the parameters: which entry of `groups` a segment or an array goes by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

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
