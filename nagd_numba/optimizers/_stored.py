"""Steps on host arrays of small storage: the checks, and the kernels' start.

    params        float16, bfloat16 (as `ml_dtypes` or PyTorch have it), or float32 beside int8 states; contiguous
    grads         the same dtype
    states        float32, or `Int8State`
    master        float32, beside 16-bit parameters: the copy that is updated
    compensation  as the parameters, of 16 bits: what they lack
    rounding      `StochasticRounding`: for 16-bit parameters with neither, and needed by every `Int8State`

All is computed in float32.  The kernels are those of `kernels.stored_loops`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import validation
from ..kernels import stored_loops
from ..kernels.codes import BLOCK
from ..kernels.half import BITS_OF
from ..kernels.random_bits import keys
from ..kernels.rule import Rule
from ..kernels.stored_loops import COMPENSATED, MASTER, NEAREST, RANDOM
from . import _host
from .storage import CODES, Int8State, StochasticRounding

_FLOAT = np.dtype(np.float32)
_NO_SCALES = np.zeros(0, np.float32)

Group = tuple[tuple[str, ...], tuple[Any, ...]]  # names and arrays: params, grads, states, and master or compensation
Hyper = tuple[float, ...]


def wanted(groups: Sequence[Group], rounding: Any) -> bool:
    """Is anything about these arrays a matter of small storage?"""
    return rounding is not None or any(
        group[-1] is not None or _kind_of(group[0]) in BITS_OF or any(isinstance(x, Int8State) for x in group[2:])
        for _, group in groups
    )


def apply(rule: Rule, groups: Sequence[Group], hyper: dict[str, Any], options: tuple[Any, ...], rounding: Any) -> None:
    """One step of all groups, after every check of all of them."""
    Prepared(rule, groups, options, rounding, check_hyper(rule, hyper, options)).start_checked()


def on_device_wanted(groups: Sequence[Group], rounding: Any) -> bool:
    """Is it for the kernel of small storage?  (Half precision, with a master copy or without, is for the usual one.)"""
    return rounding is not None or any(
        (group[-1] is not None and names[-1].startswith("compensation"))
        or any(isinstance(x, Int8State) for x in group[2:])
        for names, group in groups
    )


def apply_on_device(
    rule: Rule, groups: Sequence[Group], hyper: dict[str, Any], options: tuple[Any, ...], rounding: Any, stream: Any
) -> None:
    """The same on a CUDA device."""
    from ..gpu import device_array, stored  # they import numba.cuda

    rounding, arrays = _rounding(rounding), []
    for names, (params, grads, *states, extra) in groups:
        half = device_array.describe(names[0], params, True, ("float32", "float64", *BITS_OF)).dtype in BITS_OF
        form = _form(names, half, extra, rounding, states)
        pairs = tuple((x.codes, x.scales) if isinstance(x, Int8State) else x for x in states)
        arrays.append(stored.Arrays(names, params, grads, pairs, extra, form))
    values = check_hyper(rule, hyper, options)
    first = 0 if rounding is None else rounding.first
    key = (0, 0) if rounding is None else keys(rounding.seed, rounding.steps)
    stored.apply(rule, options, arrays, values, (first, *key), stream)
    if rounding is not None:
        rounding.steps += 1


def check_hyper(rule: Rule, hyper: dict[str, Any], options: tuple[Any, ...]) -> Hyper:
    """The hyper-parameters as floats; raises for values out of range."""
    values = validation.hyper_parameters(hyper, _FLOAT, rule.range_of)
    rule.scalars(values, _FLOAT, options)
    return values


class Prepared:
    """A step on checked arrays, to be started with hyper-parameters."""

    def __init__(
        self, rule: Rule, groups: Sequence[Group], options: tuple[Any, ...], rounding: Any, hyper: Hyper
    ) -> None:
        self._rule, self._options, self._rounding = rule, options, _rounding(rounding)
        self._groups = [(names, tuple(map(_unsimulated, group))) for names, group in groups]
        every = [part for _, group in self._groups for x in group for part in _parts("", x)]
        self._tensors = [x for _, x in every if validation.is_tensor(x)]
        self._written = [x for _, group in self._groups for k, x in enumerate(group) if k != 1]
        self._look(hyper)

    def _look(self, hyper: Hyper) -> None:
        """Check the arrays, and find their memory."""
        self._places, self._hyper = self._places_now(), hyper
        self._starts: list[tuple[Callable[..., int], int]] = []
        made = [_Arrays(self._rule, names, group, self._rounding) for names, group in self._groups]
        everything = [pair for arrays in made for pair in arrays.named]
        validation.no_overlap(
            everything, written={name for arrays in made for k, (name, _) in enumerate(arrays.named) if k != 1}
        )
        index = 0 if self._rounding is None else self._rounding.first
        for arrays in made:
            if arrays.size > 0:
                self._starts.append((arrays.starter(self._rule, self._options), index & 0xFFFFFFFF))
            index += arrays.size

    def _places_now(self) -> list[tuple[int, int]]:
        """Where PyTorch's tensors lie, whose memory may be exchanged."""
        return [(x.data_ptr(), x.numel()) for x in self._tensors]

    def start(self, hyper: Hyper) -> None:
        """One step; raises for unfit hyper-parameters, before anything is written."""
        if hyper != self._hyper:
            check_hyper(self._rule, dict(zip(self._rule.hyper, hyper, strict=True)), self._options)
            self._hyper = hyper
        if self._tensors and self._places_now() != self._places:
            self._look(hyper)
        self.start_checked()

    def start_checked(self) -> None:
        """One step with the hyper-parameters that were last checked."""
        rounding = self._rounding
        key, other = (0, 0) if rounding is None else keys(rounding.seed, rounding.steps)
        for start, index in self._starts:
            _host.accepted(start(index, key, other, self._hyper))
        if rounding is not None:
            rounding.steps += 1
        validation.tell_torch(*self._written)


class _Arrays:
    """The arrays of one group, as kernels take them.

    named  them all with their names, the gradient second, all others written
    """

    def __init__(self, rule: Rule, names: Sequence[str], group: Sequence[Any], rounding: Any) -> None:
        params, grads, *states, extra = group
        kind, p = stored_array(names[0], params, write=True)
        half = kind in BITS_OF
        if kind == "float64":
            raise TypeError(
                f"{names[0]} has dtype float64; float16, bfloat16 or float32 is needed beside {_beside(names, group)}, "
                f"where all is computed in float32"
            )
        self.form = _form(names, half, extra, rounding, states)
        g = _like(names[1], grads, kind, p, names[0], write=False)
        likes, self.codes, self.scales = [p, g], [], []
        self.named = [(names[0], p), (names[1], g)]
        for name, own, state in zip(names[2:], rule.states, states, strict=False):
            if isinstance(state, Int8State):
                codes, scales = _codes(name, state, p.size, own in rule.nonnegative)
                self.named += [(f"{name}.codes", codes), (f"{name}.scales", scales)]
            else:
                codes, scales = _like(name, state, "float32", p, names[0], write=True), _NO_SCALES
                self.named.append((name, codes))
                likes.append(codes)
            self.codes.append(codes)
            self.scales.append(scales)
        if extra is not None:
            wanted_kind = "float32" if self.form == MASTER else kind
            more = _like(names[-1], extra, wanted_kind, p, names[0], write=True)
            self.named.append((names[-1], more))
            likes.append(more)
        flat = validation.flat_views(likes)
        if flat is None:
            raise ValueError(
                f"{names[0]} or an array beside it is strided, or they differ in the order of their elements; "
                f"contiguous arrays of one order are needed for small storage"
            )
        self.params, self.grads, *others = flat
        self.extra = () if extra is None else (others.pop(),)
        exact = iter(others)
        self.states = tuple(x if x.dtype in CODES else next(exact) for x in self.codes)
        self.size = self.params.size

    def starter(self, rule: Rule, options: tuple[Any, ...]) -> Callable[..., int]:
        """`start(index, key, other key, hyper) -> status`."""
        arrays = self.params, self.grads, self.extra, self.states, tuple(self.scales)
        signature = stored_loops.signature_of(arrays, len(rule.hyper))

        def start(index: int, key: int, other: int, hyper: Hyper) -> int:
            kernel, forms = stored_loops.stored_kernel(rule, options, self.form, signature)
            random = np.uint32(index), np.uint32(key), np.uint32(other)
            status: int = kernel(*arrays, *random, hyper, forms.of(self.size))
            return status

        return start


def _form(names: Sequence[str], half: bool, extra: Any, rounding: Any, states: Sequence[Any]) -> int:
    """What is stored of the parameters; raises where the arguments contradict each other."""
    coded = [name for name, x in zip(names[2:], states, strict=False) if isinstance(x, Int8State)]
    if coded and rounding is None:
        raise TypeError(
            f"{coded[0]} is an Int8State, whose codes are rounded by random bits, and there are none; pass "
            f"rounding=nagd_numba.StochasticRounding(seed)"
        )
    if extra is not None and not half:
        raise ValueError(f"{names[-1]} is for parameters of half precision, and these are float32: leave it out")
    if rounding is not None and not coded and (extra is not None or not half):
        why = f"beside {names[-1]} the parameters are rounded to nearest" if half else "the parameters are float32"
        raise ValueError(f"rounding has nothing to round: {why}, and no state is an Int8State; leave it out")
    if extra is not None:
        return MASTER if names[-1].startswith("master") else COMPENSATED
    return RANDOM if half and rounding is not None else NEAREST


def _rounding(x: Any) -> StochasticRounding | None:
    if x is not None and not isinstance(x, StochasticRounding):
        raise TypeError(f"rounding is {validation.type_of(x)}; a nagd_numba.StochasticRounding is needed")
    return x


def _beside(names: Sequence[str], group: Sequence[Any]) -> str:
    coded = [name for name, x in zip(names[2:], group[2:], strict=True) if isinstance(x, Int8State)]
    return f"{coded[0]} of int8" if coded else names[-1] if group[-1] is not None else "rounding"


def _kind_of(x: Any) -> str:
    """The name of an array's dtype, where it says it."""
    return str(getattr(getattr(x, "dtype", None), "name", getattr(x, "dtype", ""))).removeprefix("torch.")


def stored_array(name: str, x: Any, write: bool) -> tuple[str, np.ndarray]:
    """The name of a dtype, and the array with elements as kernels take them: 16-bit integers for half precision."""
    if issubclass(type(x), np.ndarray) and not isinstance(x, np.ma.MaskedArray):  # which says so itself
        x = validation.plain_view(x)
    kind = _kind_of(x)
    if kind not in BITS_OF:
        made = validation.host_array(name, x, write)
        return str(made.dtype), made
    bits = BITS_OF[kind]
    if validation.is_tensor(x):
        x = validation.plain_tensor(name, x).view(sys.modules["torch"].int16)
    elif isinstance(x, np.ndarray):
        x = x.view(bits) if x.dtype.isnative else x  # a masked array keeps its mask
    elif kind == "bfloat16":
        raise TypeError(
            f"{name} ({validation.type_of(x)}) cannot be used without a copy: NumPy takes no bfloat16 from others; an "
            f"array of ml_dtypes.bfloat16 or a tensor of PyTorch is needed"
        )
    made = validation.host_array(name, x, write, (np.dtype(np.float16), np.dtype(np.int16), np.dtype(np.uint16)))
    return kind, made.view(bits)


def _like(name: str, x: Any, kind: str, params: np.ndarray, first: str, write: bool) -> np.ndarray:
    """An array of that dtype and the shape of the parameters."""
    if isinstance(x, Int8State):
        raise TypeError(f"{name} is an Int8State; an array of {kind} is needed")
    found, made = stored_array(name, x, write)
    if found != kind:
        raise TypeError(f"{name} has dtype {found}; {kind} is needed beside {first}")
    if made.shape != params.shape:
        raise ValueError(
            f"{name} has shape {made.shape} and {first} {params.shape}; one shape is needed for all: "
            f"reshape or slice {name}"
        )
    return made


def _codes(name: str, state: Int8State, size: int, nonnegative: bool) -> tuple[np.ndarray, np.ndarray]:
    """The arrays of a state of int8, for so many elements."""
    signed, unsigned = CODES
    codes = validation.host_array(f"{name}.codes", state.codes, True, CODES)
    scales = validation.host_array(f"{name}.scales", state.scales, True, (_FLOAT,))
    kind = unsigned if nonnegative else signed
    if codes.dtype != kind:
        said = "is never negative" if nonnegative else "can be negative"
        raise TypeError(
            f"{name}.codes has dtype {codes.dtype}; {kind} is needed, since {name} {said}: nagd_numba.int8_states "
            f"makes the states of a step"
        )
    for part, array, count in (("codes", codes, size), ("scales", scales, -(-size // BLOCK))):
        if array.shape != (count,) or not array.flags.c_contiguous:
            raise ValueError(
                f"{name}.{part} has shape {array.shape} and strides {array.strides}; a contiguous vector of {count} is "
                f"needed"
            )
    return codes, scales


def _parts(name: str, x: Any) -> list[tuple[str, Any]]:
    """An array with its name, or both of an `Int8State`; nothing for None."""
    if isinstance(x, Int8State):
        return [(f"{name}.codes", x.codes), (f"{name}.scales", x.scales)]
    return [] if x is None else [(name, x)]


def _unsimulated(x: Any) -> Any:
    if isinstance(x, Int8State):
        return Int8State(validation.unsimulated(x.codes), validation.unsimulated(x.scales))
    return validation.unsimulated(x)
