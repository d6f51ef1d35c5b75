"""Hyper-parameters of a step on device arrays: numbers, or arrays of one element in the device's memory.

Numbers become constants on the host, which the kernels take as arguments.  Where one lies in the device's memory, a
kernel of one thread makes the constants there (`hyper_kernels`), to the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import validation
from ..kernels.rule import Rule
from . import device_array, hyper_kernels
from .compiler import Kernel
from .device_array import DeviceMemory

CONSTANTS = 32  # float64 that are room for the constants of any rule, and for what stands before them


class Hyper:
    """The hyper-parameters of one step, checked as far as the host can."""

    def __init__(self, rule: Rule, options: tuple[Any, ...], given: Mapping[str, Any], exact: np.dtype) -> None:
        assert rule.constant_count < CONSTANTS
        self.rule, self.options, self.exact = rule, options, exact
        self.arrays = {name: x for name, x in given.items() if validation.is_device_array(x)}
        numbers = {name: x for name, x in given.items() if name not in self.arrays}
        values = validation.hyper_parameters(numbers, exact, rule.range_of)
        self._values = dict(zip(numbers, values, strict=True))
        self._places = {name: self._described(name, x) for name, x in self.arrays.items()}
        self.constants = () if self.arrays else rule.scalars(values, exact, options)

    def _described(self, name: str, x: Any) -> DeviceMemory:
        counted = name == "t" and self.rule.counts_steps
        return one_element(name, x, np.dtype(np.int64) if counted else self.exact, write=counted)

    def places(self) -> list[tuple[str, DeviceMemory]]:
        """The arrays among them, with their names."""
        return list(self._places.items())

    def written(self) -> list[tuple[str, DeviceMemory]]:
        """Those that a step counts up."""
        return [(name, x) for name, x in self._places.items() if name == "t" and self.rule.counts_steps]

    def kernel(self) -> Kernel:
        """The kernel of one thread that makes the constants on the device."""
        return hyper_kernels.prepare_kernel(self.rule, self.options, self.exact.name)

    def arguments(self, out: int, control: int = 0) -> tuple[Any, ...]:
        """Its arguments: it writes to the address `out`; `control` is that of a guard."""
        values = [np.float64(self._values.get(name, 0.0)) for name in self.rule.hyper]
        addresses = [self._places[name].pointer if name in self._places else 0 for name in self.rule.hyper]
        return *values, *addresses, out, 0, control


def one_element(name: str, x: Any, dtype: np.dtype, write: bool = False) -> DeviceMemory:
    """A number in a device's memory; raises for anything but one element of a dtype."""
    memory = device_array.describe(name, x, write=write, dtypes=None)
    if memory.dtype != dtype.name or memory.size != 1:
        raise TypeError(
            f"{name} is a device array of dtype {memory.dtype} and shape {memory.shape}; on the device one element of "
            f"{dtype} is needed"
        )
    return memory
