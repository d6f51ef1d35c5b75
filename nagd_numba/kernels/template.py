"""Templates: a function that is compiled in several variants, whose parts are filled in by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import FunctionType
from typing import Any


class Template:
    """A function over slots that returns a function for Numba, which sees what fills the slots as constants.

    @template
    def scaled_loop(scale, OFFSET):
        def loop(x):
            for i in range(x.size):
                x[i] = scale(x[i]) + OFFSET

        return loop

    `scaled_loop.bind("double_plus_one", scale=double, OFFSET=1)` is a function of that name; a missing or an unknown
    slot raises TypeError.
    """

    def __init__(self, make: Callable[..., FunctionType]) -> None:
        self._make = make
        self.slots = tuple(inspect.signature(make).parameters)
        self.__name__, self.__doc__ = make.__name__, make.__doc__
        self.__module__, self.__qualname__ = make.__module__, make.__qualname__

    def bind(self, name: str | None = None, **slots: Any) -> FunctionType:
        """The function with these slots, called `name` (by default as the template)."""
        made = self._make(**slots)
        made.__name__ = made.__qualname__ = name or self._make.__name__
        return made


template = Template
