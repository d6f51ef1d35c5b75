"""Which arrays are accepted, and every message about those that are not.  Nothing here writes to an array."""

from __future__ import annotations

import contextlib
import difflib
import math
import operator
import sys
from collections.abc import Callable, Collection, Sequence
from types import TracebackType
from typing import Any

import numpy as np
from numpy.lib.array_utils import byte_bounds

from .kernels.jit import SIMULATOR
from .kernels.rule import Range

DTYPES = (np.dtype(np.float32), np.dtype(np.float64))
_DLPACK_CPU = 1
_AT_ONCE = 1 << 16  # elements that are in the cache when they are looked at again


class prefixed(contextlib.ContextDecorator):  # a context manager, named like those of contextlib
    """Let the messages of this package's TypeErrors and ValueErrors begin with the name of a public function.

    A context manager (about 0.2 us) and a decorator.  What the user's own functions raise inside, and what other
    libraries raise, passes as it is.  Of nested functions the outermost is named: it is the one that was called.

    >>> with prefixed("MLP.fit"):
    ...     whole("batch_size", 0)
    Traceback (most recent call last):
        ...
    ValueError: MLP.fit: batch_size is 0; a whole number from 1 on is needed
    """

    def __init__(self, function: str) -> None:
        self.prefix = f"{function}: "

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, TypeError | ValueError) and len(error.args) == 1 and raised_here(traceback):
            message = str(error.args[0]).removeprefix(vars(error).get("prefix", ""))
            error.args = (self.prefix + message,)
            vars(error)["prefix"] = self.prefix


def raised_here(traceback: TracebackType | None) -> bool:
    """Do all frames below the first belong to this package (or to its decorators)?"""
    package = __name__.partition(".")[0]
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
        if traceback.tb_frame.f_globals.get("__name__", "").partition(".")[0] not in (package, "contextlib"):
            return False
    return True


def is_device_array(x: Any) -> bool:
    """Does `x` live in the memory of a CUDA device (or of its simulator)?"""
    if isinstance(x, np.ndarray):
        return False
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(x, torch.Tensor):
        return x.is_cuda
    return hasattr(x, "__cuda_array_interface__") or hasattr(x, "__cuda_ndarray__")  # the latter: the simulator


def unsimulated(x: Any) -> Any:
    """The host array that a device array of Numba's simulator is; anything else as it is."""
    return getattr(x, "_ary", x) if SIMULATOR else x


def any_on_device(named: Sequence[tuple[str, Any]]) -> bool:
    """Are the arrays on a device?  Raises where only some of them are."""
    places = [(name, is_device_array(x)) for name, x in named]
    device = [name for name, on_device in places if on_device]
    host = [name for name, on_device in places if not on_device]
    if device and host:
        raise ValueError(
            f"{' and '.join(device)} live{'s' if len(device) == 1 else ''} on a CUDA device and {' and '.join(host)} "
            f"on the host; all arrays must be in one place: copy one side, for example with numba.cuda.to_device or "
            f"copy_to_host"
        )
    return bool(device)


def host_array(name: str, x: Any, write: bool, dtypes: Sequence[np.dtype] = DTYPES) -> np.ndarray:
    """`x` as a NumPy array on the same memory; raises where it cannot be, or cannot be written as asked."""
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array, whose masked elements have no meaning here; pass {name}.filled(0)")
    if issubclass(type(x), np.ndarray):  # isinstance asks the object's `__class__`, which may say anything
        x = plain_view(x)
    else:
        not_sparse(name, x)
        if write:
            not_immutable(name, x)
        x = _from_dlpack(name, x)
    if x.dtype not in dtypes:
        raise TypeError(
            f"{name} has dtype {x.dtype}; {' or '.join(map(str, dtypes))} in native byte order is needed: "
            f"{name}.astype(np.{dtypes[0]})"
        )
    if write and not x.flags.writeable:
        raise ValueError(f"{name} is read-only and would be updated in place; pass {name}.copy()")
    return x


def plain_view(x: np.ndarray) -> np.ndarray:
    """The array that an array of a subclass is, whatever attributes and methods of its own that has.

    (`np.matrix` knows no vectors, others may say another dtype or other flags than their memory has.)
    """
    return x if type(x) is np.ndarray else np.ndarray.view(x, np.ndarray)


def not_sparse(name: str, x: Any) -> None:
    """Raise for a sparse matrix, of SciPy or another library, which NumPy takes for a single object."""
    if hasattr(x, "toarray"):
        raise TypeError(f"{name} is {type_of(x)}; a dense array is needed: {name}.toarray()")


def not_immutable(name: str, x: Any) -> None:
    """Raise for an array of JAX, whose memory others may read as a constant (whatever DLPack says of it)."""
    jax = sys.modules.get("jax")
    if jax is not None and isinstance(x, jax.Array):
        raise ValueError(
            f"{name} is an array of JAX, which is immutable, and would be updated in place; the functions of "
            f"nagd_numba.adapters.optax (step, adam_step, ...) return new arrays, np.array({name}) is a copy"
        )


def finite(name: str, x: np.ndarray, dtype: np.dtype | None = None) -> None:
    """Raise for an element that is not finite, or with `dtype`, that of samples, not in it; the first one is named."""
    at = first_not_finite(x, dtype)
    if at is not None:
        column = f", column {at[1]}" if x.ndim == 2 else ""
        where = f"at index {at[0]}" if dtype is None and not column else f"in row {at[0]}{column}"
        kind = "" if dtype is None or dtype == x.dtype else f" (in {dtype})"
        raise ValueError(f"{name} is {float(x[at])!r} {where}; finite numbers are needed{kind}")


def first_not_finite(x: np.ndarray, dtype: np.dtype | None = None) -> tuple[int, ...] | None:
    """The place of the first element of a vector or matrix that is not finite, or is not in `dtype`; None without."""
    if x.dtype.kind != "f" or x.size == 0:
        return None
    kind = x.dtype if dtype is None else dtype
    largest = min(float(np.finfo(kind).max), float(np.finfo(x.dtype).max))
    rows = max(1, _AT_ONCE * len(x) // x.size)
    for first in range(0, len(x), rows):
        part = x[first : first + rows]
        if not (part.min() >= -largest and part.max() <= largest):  # NaN is neither
            with np.errstate(all="ignore"):
                bad = ~np.isfinite(part.astype(kind))
            if bad.any():
                row, *rest = (int(k) for k in np.unravel_index(bad.argmax(), part.shape))
                return first + row, *rest
    return None


def _from_dlpack(name: str, x: Any) -> np.ndarray:
    if not hasattr(x, "__dlpack__"):
        raise TypeError(
            f"{name} is {type_of(x)}; an array is needed (NumPy, anything with DLPack on the CPU, or with "
            f"__cuda_array_interface__): np.asarray({name}, dtype=np.float32)"
        )
    x = plain_tensor(name, x)
    try:
        if hasattr(x, "__dlpack_device__") and int(x.__dlpack_device__()[0]) != _DLPACK_CPU:
            raise TypeError("it is on a device that offers no __cuda_array_interface__")
        return np.from_dlpack(x)
    except (TypeError, ValueError, BufferError, RuntimeError) as error:  # NotImplementedError is a RuntimeError
        raise TypeError(
            f"{name} ({_type_name(x)}) cannot be used without a copy: {error}; "
            f"a dense float32 or float64 array on the CPU or a CUDA device is needed"
        ) from error


def plain_tensor(name: str, x: Any) -> Any:
    """A tensor of PyTorch outside its graph, anything else as it is; raises for one whose memory holds other values."""
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(x, torch.Tensor):
        return x
    if x.is_neg():
        raise TypeError(f"{name} is a negated view of other memory; pass {name}.resolve_neg()")
    return x.detach()


def is_tensor(x: Any) -> bool:
    """Is `x` a tensor of PyTorch?"""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def same_kind(named: Sequence[tuple[str, Any]]) -> None:
    """Raise unless all arrays have the dtype and the shape of the first."""
    first, reference = named[0]
    for name, x in named[1:]:
        if x.dtype != reference.dtype:
            raise TypeError(
                f"{name} has dtype {x.dtype} and {first} {reference.dtype}; one dtype is needed for all: "
                f"{name}.astype(np.{reference.dtype})"
            )
        if tuple(x.shape) != tuple(reference.shape):
            raise ValueError(
                f"{name} has shape {tuple(x.shape)} and {first} {tuple(reference.shape)}; one shape is needed for "
                f"all: reshape or slice {name}"
            )


def no_overlap(named: Sequence[tuple[str, np.ndarray]], written: Collection[str]) -> None:
    """Raise where a written host array shares memory with another, or elements of it among themselves."""
    for name, x in named:
        if name in written and _overlaps_itself(x):
            raise ValueError(
                f"elements of {name} share memory (strides {x.strides} for shape {x.shape}); each needs its own: "
                f"pass {name}.copy()"
            )
    for first, second in _near([x for _, x in named]):
        (name, x), (other, y) = named[first], named[second]
        if (name in written or other in written) and _shares_memory(x, y):
            raise ValueError(
                f"{name} and {other} {'are the same memory' if x is y else 'overlap in memory'}; "
                f"each needs its own: pass {other}.copy()"
            )


def _near(arrays: Sequence[np.ndarray]) -> list[tuple[int, int]]:
    """The pairs of arrays whose memory lies in one another's bounds, by their places: few, however many there are."""
    bounds = sorted((*_bounds(x), k) for k, x in enumerate(arrays) if x.size > 0)
    pairs: list[tuple[int, int]] = []
    open_: list[tuple[int, int]] = []  # the end and the place of each array that is not over yet
    for start, end, k in bounds:
        open_ = [(other_end, other) for other_end, other in open_ if other_end > start]
        pairs += [(min(k, other), max(k, other)) for _, other in open_]
        open_.append((end, k))
    return sorted(pairs)


def _bounds(x: np.ndarray) -> tuple[int, int]:
    """Where the memory of an array begins and ends."""
    if not x.flags.c_contiguous:
        return byte_bounds(x)
    start: int = x.__array_interface__["data"][0]
    return start, start + x.nbytes


def _shares_memory(x: np.ndarray, y: np.ndarray) -> bool:
    try:
        bounded: Any = np.shares_memory  # NumPy's types know only the two special values of max_work
        return bounded(x, y, max_work=10**6)
    except np.exceptions.TooHardError:
        return True


def _overlaps_itself(x: np.ndarray) -> bool:
    if x.size == 0 or x.flags.c_contiguous:
        return False
    reach = x.itemsize
    for stride, length in sorted((abs(s), n) for s, n in zip(x.strides, x.shape, strict=True) if n > 1):
        if stride < reach:
            return True
        reach = stride * (length - 1) + reach
    return False


def flat_views(arrays: Sequence[np.ndarray]) -> list[np.ndarray] | None:
    """One-dimensional views of arrays that are all C or all Fortran contiguous, in one element order; else None."""
    if all(x.flags.c_contiguous for x in arrays):
        return [x if x.ndim == 1 else x.reshape(-1) for x in arrays]
    if all(x.flags.f_contiguous for x in arrays):
        return [x.T.reshape(-1) for x in arrays]
    return None


def hyper_parameters(
    named: dict[str, Any], dtype: np.dtype, range_of: Callable[[str], Range] = lambda name: Range()
) -> tuple[float, ...]:
    """The hyper-parameters as floats; raises for one that is not a number, or out of its range, or of `dtype`'s."""
    values = []
    for name, x in named.items():
        value = real(name, x)
        with np.errstate(all="ignore"):
            if not (range_of(name).holds(value) and math.isfinite(value) and np.isfinite(dtype.type(value))):
                raise ValueError(f"{name} is {shown(x)}; {range_of(name)} is needed (in {dtype})")
        values.append(value)
    return tuple(values)


def choice(name: str, x: Any, allowed: Sequence[str]) -> int:
    """The index of `x` among the allowed names; raises with a suggestion."""
    if isinstance(x, str) and x in allowed:
        return allowed.index(x)
    near = difflib.get_close_matches(str(x).lower(), allowed, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"{name} is {x!r}; one of {', '.join(map(repr, allowed))} is needed{hint}")


def flag(name: str, x: Any) -> bool:
    """`x` as a bool; raises for anything but a truth value, such as a string."""
    if isinstance(x, int | float | np.bool_) and x in (0, 1):
        return bool(x)
    raise TypeError(f"{name} is {x!r}; True or False is needed")


def numbered(names: Sequence[str], index: int) -> tuple[str, ...]:
    """The names of arrays that stand at one place of lists."""
    return tuple(f"{name}[{index}]" for name in names)


def tell_torch(*arrays: Any) -> None:
    """Tell PyTorch's autograd that its tensors among `arrays` were written, so that a stale backward pass raises."""
    torch = sys.modules.get("torch")
    if torch is not None:
        for x in arrays:
            if isinstance(x, torch.Tensor):
                torch.autograd.graph.increment_version(x)


def _type_name(x: Any) -> str:
    return f"{type(x).__module__}.{type(x).__qualname__}".removeprefix("builtins.")


def type_of(x: Any) -> str:
    """The name of an object's type, with its article."""
    word = _type_name(x)
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


def whole(name: str, x: Any, least: int = 1, below: int | None = None) -> int:
    """`x` as an int; raises for anything but a whole number in the range."""
    try:
        if isinstance(x, bool):
            raise TypeError("a truth value")
        value = operator.index(x)
    except TypeError as error:
        raise TypeError(f"{name} is {x!r}; a whole number is needed") from error
    if value < least or (below is not None and value >= below):
        reach = "on" if below is None else f"to below {below}"
        raise ValueError(f"{name} is {value}; a whole number from {least} {reach} is needed")
    return value


def number(
    name: str,
    x: Any,
    low: float = 0.0,
    high: float = math.inf,
    low_open: bool = False,
    high_open: bool = False,
    finite: bool = True,
) -> float:
    """`x` as a float from `low` to `high`, without an end that is open; raises for anything else."""
    value = real(name, x)
    inside = (low < value or (value == low and not low_open)) and (value < high or (value == high and not high_open))
    if not inside or (finite and math.isinf(value)):
        upper = f" and {'<' if high_open else '<='} {high:g}" if high < math.inf else ""
        kind = "finite number" if finite else "number"
        raise ValueError(f"{name} is {shown(x)}; a {kind} {'>' if low_open else '>='} {low:g}{upper} is needed")
    return value


def clipping_limits(clip_norm: float, clip_value: float, dtype: np.dtype) -> None:
    """Raise for a limit of a gradient that is 0 in the type of the arrays."""
    least = float(np.finfo(dtype).tiny)
    for name, x in (("clip_norm", clip_norm), ("clip_value", clip_value)):
        if x < least:
            raise ValueError(f"{name} is {x!r}; a number >= {least:.2g} is needed (in {dtype})")


def shown(x: Any) -> str:
    """A number for a message: integers as they are, but for endless ones, everything else as a float."""
    try:
        whole = operator.index(x)
    except TypeError:
        return repr(real("x", x))
    return str(whole) if abs(whole) < 10**40 else repr(real("x", x))


def real(name: str, x: Any) -> float:
    """`x` as a float, an integer too large for it as infinity; raises for what is no real number, and for bools."""
    try:
        if isinstance(x, str | bytes | bool | np.bool_):
            raise TypeError("text or a truth value")
        return float(x)
    except OverflowError:
        return math.inf
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} is {x!r}; a number is needed") from error


def function(name: str, x: Any, of: str) -> None:
    """Raise unless `x` is None or a function of what is said."""
    if x is not None and not callable(x):
        raise TypeError(f"{name} is {x!r}; a function of {of} is needed")
