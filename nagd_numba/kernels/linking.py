"""Functions that are compiled once, by themselves, and called by others at their address.

Numba compiles what a function calls into the function, again for each caller.  A coarse function (a matrix product, a
loss, the loop of a step) is compiled once instead, for the types that its `Interface` declares.  Callers, compiled for
the same interface, contain nothing of it:

    PRODUCT = Interface(types.void(pointer, pointer, types.int64))
    product = jit.linked(function, PRODUCT)         compiled, or loaded from the disk

    PRODUCT.call(address, x, y, n)                  in compiled code, with `product.address` as an argument
    product.call(x, y, n)                           in compiled code, resolved when that code is loaded

The first form serves where one caller meets several functions (an activation, a loss); the second, whose symbol
carries the fingerprint of the sources, where there is one.  A call costs some nanoseconds.  Exceptions propagate, or
become a value: `Linked.for_users_or`.
With the JIT off an address is the Python function itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.core.compiler_lock import global_compiler_lock
from numba.core.errors import TypingError
from numba.core.typing import Signature
from numba.extending import intrinsic

from .interrupts import interrupts_wait
from .jit import JIT_OFF, kernel, python_callable, unique_name
from .raising import ALWAYS, WHERE_HEARD, drop_pending, is_heard

_linked: dict[str, Linked] = {}  # by symbol


class Interface:
    """The types of a function that is called at its address."""

    def __init__(self, signature: Signature) -> None:
        self.signature = signature

        def call(typingctx, address, *given):
            declared = self._declared(typingctx, given)
            return declared(types.int64, types.StarArgTuple(given)), self._build(_at_address)

        def python(address, *given):
            return address(*given)

        self.call: Any = python_callable(intrinsic(call), python)

    def __repr__(self) -> str:
        return f"Interface({self.signature})"  # a part of the names of kernels: the same in every process

    def symbol_caller(self, symbol: str, python: Callable) -> Any:
        """`call(...)` of the function that is linked under this symbol."""

        def call(typingctx, *given):
            declared = self._declared(typingctx, given)
            return declared(types.StarArgTuple(given)), self._build(_at_symbol(symbol))

        return python_callable(intrinsic(call), python)

    def dynamic_caller(self, address: int, python: Callable, raises: int = ALWAYS, otherwise: int = 0) -> Any:
        """`call(...)` at this address, for users' compiled code: Numba does not keep such code on disk, where the
        address would mean nothing.  Where it `raises` not, it returns `otherwise`, a whole number.
        """

        def call(typingctx, *given):
            declared = self._declared(typingctx, given)
            return declared(types.StarArgTuple(given)), self._build(_at_dynamic_address(address), raises, otherwise)

        return python_callable(intrinsic(call), python)

    def symbol_locator(self, symbol: str, python: Callable) -> Any:
        """`locate()`: the address of the function that is linked under this symbol."""

        def locate(typingctx):
            def build(context, builder, signature, values):
                kind = context.call_conv.get_function_type(self.signature.return_type, self.signature.args)
                return builder.ptrtoint(_at_symbol(symbol)(context, builder, kind), ir.IntType(64))

            return types.int64(), build

        return python_callable(intrinsic(locate), lambda: python)

    def _declared(self, typingctx: Any, given: tuple[Any, ...]) -> Any:
        """The return type; raises where the arguments do not fit."""
        wanted = self.signature.args
        fits = len(given) == len(wanted) and all(
            a == b or typingctx.can_convert(a, b) is not None for a, b in zip(given, wanted, strict=True)
        )
        if not fits:
            raise TypingError(f"a function of {wanted} is called with {given}")
        return self.signature.return_type

    def _build(self, resolve: Callable, raises: int = ALWAYS, otherwise: int = 0) -> Callable:
        result, wanted = self.signature.return_type, self.signature.args

        def build(context, builder, signature, values):
            *address, given = values
            made = [
                context.cast(builder, value, kind, declared)
                for value, kind, declared in zip(
                    cgutils.unpack_tuple(builder, given), signature.args[-1], wanted, strict=True
                )
            ]
            kind = context.call_conv.get_function_type(result, wanted)
            function = resolve(context, builder, kind, *address)
            status, returned = context.call_conv.call_function(builder, function, result, wanted, made)
            if raises == ALWAYS:
                with cgutils.if_unlikely(builder, status.is_error):
                    context.call_conv.return_status_propagate(builder, status)
                return returned
            slot = cgutils.alloca_once_value(builder, returned)
            with cgutils.if_unlikely(builder, status.is_error):
                if raises == WHERE_HEARD:
                    with builder.if_then(is_heard(context, builder)):
                        context.call_conv.return_status_propagate(builder, status)
                with builder.if_then(status.is_python_exc):
                    drop_pending(context, builder)
                builder.store(context.get_constant(result, otherwise), slot)
            return builder.load(slot)

        return build


def _at_address(context: Any, builder: Any, kind: Any, address: Any) -> Any:
    return builder.inttoptr(address, kind.as_pointer())


def _at_symbol(symbol: str) -> Callable:
    def resolve(context: Any, builder: Any, kind: Any) -> Any:
        return cgutils.get_or_insert_function(builder.module, kind, symbol)

    return resolve


def _at_dynamic_address(address: int) -> Callable:
    def resolve(context: Any, builder: Any, kind: Any) -> Any:
        place = context.add_dynamic_addr(builder, address, info="a kernel of nagd_numba")
        return builder.bitcast(place, kind.as_pointer())

    return resolve


class Linked:
    """A compiled function and its address; `call` and `locate` are for compiled code that is linked to it.

    `for_users` is `call` for users' compiled code.
    """

    def __init__(
        self,
        function: Callable,
        interface: Interface,
        symbol: str,
        parallel: bool,
        from_python: bool,
        allocates: bool,
        on_disk: bool,
    ) -> None:
        self.kernel: Any = function
        self.address: Any = function
        self.interface = interface
        self.call = interface.symbol_caller(symbol, function)
        self.locate = interface.symbol_locator(symbol, function)
        if not JIT_OFF:
            self.kernel = kernel(function, interface.signature, parallel, from_python, allocates, on_disk=on_disk)
            with interrupts_wait():
                (made,) = self.kernel.overloads.values()
                self.address = int(made.library.get_pointer_to_function(made.fndesc.llvm_func_name))
                binding.add_symbol(symbol, self.address)
        self.for_users = interface.dynamic_caller(self.address, function)

    def for_users_or(self, otherwise: int, raises: int) -> Any:
        """`for_users` that returns a whole number instead of raising: `NEVER`, or only `WHERE_HEARD`."""
        return self.interface.dynamic_caller(self.address, self.kernel, raises, otherwise)


def address_of(compiled: Any, interface: Interface) -> int:
    """The address of an `@njit` function, compiled for the interface; it must be kept as long as it is called."""
    with interrupts_wait():
        compiled.compile(interface.signature)
    made = compiled.overloads[interface.signature.args]
    return int(made.library.get_pointer_to_function(made.fndesc.llvm_func_name))


def linked(
    function: Callable,
    interface: Interface,
    parallel: bool = False,
    from_python: bool = False,
    allocates: bool = False,
    on_disk: bool = True,
) -> Linked:
    """Compile a function for its interface, or load it from the disk.

    `from_python`: Python calls its `kernel` too.  `allocates`: it makes arrays.  Not `on_disk`, it is for this process
    alone.  It is made once, and kept: compiled callers go on to its address.
    """
    symbol = unique_name(function, interface.signature, parallel)
    with global_compiler_lock:  # Numba's: a lock of our own could be waited for by who holds it
        if symbol not in _linked:
            _linked[symbol] = Linked(function, interface, symbol, parallel, from_python, allocates, on_disk)
        return _linked[symbol]
