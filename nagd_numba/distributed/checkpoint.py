"""Checkpoints of a `ShardedStep`: each rank writes its slice, then one of them the list that makes it a checkpoint.

A checkpoint is a directory: `manifest.json` names the parts, with their digests, and what they hold.  Parts are written
under new names, each whole or not at all, and the manifest takes the place of the old one when all of them are on the
disk; the old parts go after that.  So at every moment the manifest names parts that are whole, wherever ranks are
killed.  Elements are found by their place in the vector: another number of ranks can read them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..io import npz
from ..io.atomic import replacing
from ..io.one_line import one_line
from .agreement import agree

FORMAT, UNDIGESTED = "nagd_numba.distributed 2", "nagd_numba.distributed 1"
MANIFEST = "manifest.json"


def save(
    comm: Any, path: Path, arrays: Mapping[str, np.ndarray], place: tuple[int, int], about: Mapping[str, Any]
) -> None:
    """Write the slices of all ranks, each `place` of the vectors named in `arrays`; called by all ranks.

    `about` is kept in the manifest, and is the same on all ranks.  Raises on all ranks where one of them cannot write:
    the old checkpoint then stays.
    """
    text = json.dumps({"format": FORMAT, **about})
    _on_rank_0(comm, lambda: path.mkdir(parents=True, exist_ok=True))
    token = comm.all_gather_object(secrets.token_hex(8))[0]
    name, part, error = f"part-{token}-{comm.rank}.npz", {}, None
    try:
        if place[1] > place[0]:
            npz.write(path / name, arrays)
            part = {"file": name, "sha256": _digest(path / name), "first": place[0], "last": place[1]}
    except Exception as caught:
        error = caught
    parts = [x for x in comm.all_gather_object(part) if x]

    def finish() -> None:
        missing = [x["file"] for x in parts if not (path / x["file"]).is_file()]
        if missing:
            raise FileNotFoundError(
                f"{missing[0]} of another rank is not in {path}; a directory that all ranks share is needed"
            )
        with replacing(path / MANIFEST) as file:
            manifest = {**json.loads(text), "parts": parts}
            file.write(json.dumps({**manifest, "digest": manifest_digest(manifest)}, indent=1).encode())
        _to_disk(path)

    try:
        agree(comm, "ShardedStep.save", {"what is kept": hashlib.sha256(text.encode()).hexdigest()}, error)
        _on_rank_0(comm, finish)
    except (OSError, RuntimeError, ValueError):  # no new manifest; an interrupt may come after one
        with contextlib.suppress(OSError):
            (path / name).unlink(missing_ok=True)
        raise
    if comm.rank == 0:
        kept = {x["file"] for x in parts}
        for old in [*path.glob("part-*.npz"), *path.glob(".part-*.tmp")]:
            if old.name not in kept:
                with contextlib.suppress(OSError):
                    old.unlink()


def _on_rank_0(comm: Any, act: Callable[[], None]) -> None:
    """Let one rank do something; what it raises, all raise."""
    error: Exception | None = None
    try:
        if comm.rank == 0:
            act()
    except Exception as caught:
        error = caught
    agree(comm, "ShardedStep.save", {}, error)


def load(
    comm: Any, path: Path, names: tuple[str, ...], place: tuple[int, int], expected: Mapping[str, Any], dtype: np.dtype
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The elements `place` of the vectors of these names, and the manifest; called by all ranks.

    Raises on all ranks where one of them cannot read its elements, or where the manifest says something else than
    `expected`.
    """
    made: dict[str, np.ndarray] = {}
    manifest: dict[str, Any] = {}
    error: Exception | None = None
    try:
        manifest = _manifest(path)
        for name, value in expected.items():
            if manifest.get(name) != value:
                raise ValueError(f"{path}: {name} is {manifest.get(name)!r} there, and {value!r} here")
        made = {name: np.empty(place[1] - place[0], dtype) for name in names}
        at = place[0]
        for part in sorted(manifest["parts"], key=lambda x: x["first"]):
            first, last = max(at, part["first"]), min(place[1], part["last"])
            if part["first"] <= at < last:
                _read(path, part, made, first, last, place[0])
                at = last
        if at < place[1]:
            raise ValueError(f"{path}: no part of it has element {at}")
    except Exception as caught:
        error = caught
    agree(comm, "ShardedStep.load", {"the checkpoint": manifest.get("parts")}, error)
    return made, manifest


def _manifest(path: Path) -> dict[str, Any]:
    if not (path / MANIFEST).is_file():
        raise FileNotFoundError(f"{path}: no checkpoint is there (no {MANIFEST})")
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        if manifest["format"] not in (FORMAT, UNDIGESTED):
            raise ValueError(f"its format is {one_line(manifest['format'])!r}, not {FORMAT!r}")
        digest = manifest.pop("digest", None)
        if (digest is not None or manifest["format"] == FORMAT) and digest != manifest_digest(manifest):
            raise ValueError("it is not the one that was written: its digest is another")
        if type(manifest["t"]) is not int or manifest["t"] < 0 or "extra" not in manifest:
            raise ValueError(f"t is {one_line(manifest['t'])}, or there is no extra")
        for part in manifest["parts"]:
            whole = type(part["first"]) is type(part["last"]) is int
            if Path(part["file"]).name != part["file"] or not whole or not 0 <= part["first"] < part["last"]:
                raise ValueError(f"it names a part {one_line(part)}")
        return dict(manifest)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path / MANIFEST}: no manifest of a checkpoint: {one_line(error)}") from error


def manifest_digest(manifest: Mapping[str, Any]) -> str:
    """What tells a manifest from others; it is an entry of its own in the file."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _read(path: Path, part: dict[str, Any], made: dict[str, np.ndarray], first: int, last: int, begin: int) -> None:
    """Copy elements of a part, after a look at its digest."""
    file = path / part["file"]
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing; a directory that all ranks share is needed")
    if _digest(file) != part["sha256"]:
        raise ValueError(f"{file} is damaged: it is not the one that was written")
    content = npz.read(file, "part of a checkpoint")
    for name, out in made.items():
        x = npz.member(content, name)
        if x.dtype != out.dtype or x.shape != (part["last"] - part["first"],):
            raise ValueError(f"{file}: {name} has dtype {x.dtype} and shape {x.shape}")
        out[first - begin : last - begin] = x[first - part["first"] : last - part["first"]]


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _to_disk(folder: Path) -> None:
    """Let the new names in a folder outlast a loss of power."""
    with contextlib.suppress(OSError):  # where folders cannot be opened
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
