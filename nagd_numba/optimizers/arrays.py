"""The types of what steps and scalar rules take, for editors and type checkers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

from numpy.typing import NDArray

from .storage import Int8State


class SupportsDLPack(Protocol):
    """An array of another library in host memory: PyTorch, JAX, ..."""

    def __dlpack__(self, *args: Any, **keywords: Any) -> Any: ...


class SupportsCudaArrayInterface(Protocol):
    """An array on a CUDA device: Numba, CuPy, PyTorch, ..."""

    @property
    def __cuda_array_interface__(self) -> Any: ...


Array = NDArray[Any] | SupportsDLPack | SupportsCudaArrayInterface
Arrays = Array | Sequence[Array]  # one array, or a list of them
State = Arrays | Int8State | Sequence[Int8State]
Params = TypeVar("Params", bound=Arrays)

Scalar = Any  # a float, np.float32 or np.float64; in compiled code a number of such a type
Constants = tuple[Scalar, ...]
