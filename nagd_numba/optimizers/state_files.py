"""Parameters and states of any storage in one file, by name.

The members of the .npz file are arrays that NumPy reads by itself.  A name is followed by what NumPy has no dtype or
type for: `name.bfloat16` are the bits of bfloat16 numbers, `name.codes` and `name.scales` an `Int8State`,
`name.rounding` the seed, the steps and the first element of a `StochasticRounding`.  Of a list it is `name[0]`, ...
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from .. import validation
from ..io import npz
from ..kernels.half import BITS_OF
from ._stored import stored_array
from .storage import CODES, Int8State, StochasticRounding

_FORMAT, _VERSION = "nagd_numba_states", 2  # 1: without a digest
_NAME = re.compile(r"(?P<name>[A-Za-z_]\w*)(\[(?P<place>\d+)\])?(\.(?P<part>bfloat16|codes|scales|rounding))?")


def save_states(path: str | Path, **named: Any) -> None:
    """Write parameters, states and what goes with them into one file, whole or not at all.

        save_states("run.npz", params=params, vel=vel, rounding=rounding)

    Parameters
    ----------
    path : str or path
        The file; `.npz` is not added.
    **named
        Arrays on the host (NumPy's and PyTorch's, also float16 and bfloat16), `Int8State`, `StochasticRounding`,
        numbers, and lists of these.

    Raises
    ------
    TypeError
        For anything else; the file is then as it was.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import nagd_numba
    >>> rounding = nagd_numba.StochasticRounding(seed=3, steps=1000)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     nagd_numba.save_states(folder + "/run.npz", params=np.ones(3), t=17, rounding=rounding)
    ...     found = nagd_numba.load_states(folder + "/run.npz")
    >>> found["rounding"], int(found["t"])
    (StochasticRounding(seed=3, steps=1000), 17)
    """
    with validation.prefixed("save_states"):
        content: dict[str, Any] = {_FORMAT: _VERSION}
        for name, x in named.items():
            if name == _FORMAT:
                raise TypeError(f"{name} is what marks such files; another name is needed")
            if isinstance(x, list | tuple):
                for k, item in enumerate(x):
                    content |= _members(f"{name}[{k}]", item)
            else:
                content |= _members(name, x)
        npz.write(path, content)


def load_states(path: str | Path) -> dict[str, Any]:
    """What `save_states` has written, by name.

    Parameters
    ----------
    path : str or path
        The file.

    Returns
    -------
    dict
        Arrays of NumPy, `Int8State`, `StochasticRounding`, and lists of them, all new.  bfloat16 numbers come back as
        arrays of `ml_dtypes`, which must be installed for that.

    Raises
    ------
    ValueError
        For a file of another kind, or a damaged one.
    ImportError
        Where there is bfloat16 in it and no `ml_dtypes`.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import nagd_numba
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     nagd_numba.save_states(folder + "/run.npz", params=np.ones(2))
    ...     nagd_numba.load_states(folder + "/run.npz")
    {'params': array([1., 1.])}
    """
    with validation.prefixed("load_states"):
        content = npz.read(path, "file of save_states")
        if _FORMAT not in content:
            raise ValueError(f"{path} is not a file of save_states")
        version, digest = npz.whole(content, _FORMAT), content.pop(npz.DIGEST, None)
        if not 1 <= version <= _VERSION:
            raise ValueError(f"{path} has version {version} of these files; this nagd_numba knows 1 to {_VERSION}")
        if version > 1 and digest is None:
            raise ValueError(f"{path} is damaged: the digest of its arrays is missing")
        del content[_FORMAT]
        found: dict[str, dict[int, Any]] = {}
        for member, array in content.items():
            match = _NAME.fullmatch(member)
            if match is None:
                raise ValueError(f"{path} is not a file of save_states: there is {member!r} in it")
            part = match["part"]
            if part == "scales":
                continue
            place = -1 if match["place"] is None else int(match["place"])
            found.setdefault(match["name"], {})[place] = _value(path, content, member, part, array)
        for name, x in found.items():
            if sorted(x) not in ([-1], list(range(len(x)))):
                raise ValueError(f"{path} is damaged: of {name} there are the items {sorted(x)}")
        return {name: x[-1] if -1 in x else [x[k] for k in sorted(x)] for name, x in found.items()}


def _members(name: str, x: Any) -> dict[str, Any]:
    if isinstance(x, Int8State):
        codes = validation.host_array(f"{name}.codes", x.codes, False, CODES)
        scales = validation.host_array(f"{name}.scales", x.scales, False)
        return {f"{name}.codes": codes, f"{name}.scales": scales}
    if isinstance(x, StochasticRounding):
        return {f"{name}.rounding": np.array([x.seed, x.steps, x.first], np.uint64)}
    if not hasattr(x, "dtype"):
        if not isinstance(x, int | float) or isinstance(x, bool):
            raise TypeError(f"{name} is {validation.type_of(x)}; an array or a number is needed")
        return {name: x}
    kind, array = stored_array(name, x, write=False)
    if kind == "bfloat16":
        return {f"{name}.bfloat16": array}
    return {name: array.view(np.float16) if kind in BITS_OF else array}


def _value(path: str | Path, content: dict[str, np.ndarray], member: str, part: str | None, array: np.ndarray) -> Any:
    if part == "codes":
        scales = npz.member(content, member.removesuffix("codes") + "scales")
        if array.dtype not in CODES or scales.dtype != np.float32:
            raise ValueError(f"{path}: {member} and its scales have dtypes {array.dtype} and {scales.dtype}")
        return Int8State(array, scales)
    if part == "rounding":
        if array.shape != (3,) or array.dtype != np.uint64:
            raise ValueError(f"{path}: {member} has shape {array.shape} and dtype {array.dtype}")
        return StochasticRounding(*map(int, array))
    if part == "bfloat16":
        try:
            import ml_dtypes
        except ImportError as error:
            raise ImportError(f"{path} has bfloat16 numbers, which need ml_dtypes: pip install ml_dtypes") from error
        if array.dtype != np.uint16:
            raise ValueError(f"{path}: {member} has dtype {array.dtype}")
        return array.view(ml_dtypes.bfloat16)
    return array
