"""A Numba target whose functions are also had as LLVM code that nothing has worked on yet.

It is the CPU, but for two things.  `exp` and `log` of floats are those of `mathematics`.  And a library keeps, as
`written`, what Numba wrote and what that calls: where LLVM has unrolled and vectorised the loops of a function, many
calls of it can no longer be vectorised.  Functions of `@njit` that are called are compiled for this target too.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

from llvmlite import binding
from numba.core import codegen, cpu, dispatcher, typing
from numba.core.compiler_lock import global_compiler_lock
from numba.core.descriptors import TargetDescriptor
from numba.core.target_extension import CPU, dispatcher_registry, jit_registry, target_override, target_registry

from .mathematics import substituted

_NAME = "nagd_numba_lanes"
_HERE = "_nagd_numba_lanes"  # an attribute of functions: what they are on this target


class _Lanes(CPU):
    """The target's place among Numba's."""


class _Library(codegen.JITCodeLibrary):
    def _optimize_functions(self, module):
        module.data_layout = self._codegen._data_layout

    def _optimize_final_module(self):
        self.written = self._final_module.clone()
        self._for_lanes = any(function.name.startswith("nagd_numba.") for function in self.written.functions)
        if not self._for_lanes:  # calls of what only lanes have: there is no code of it for one
            text = str(self.written)
            if substituted(text) is not text:
                self._final_module = binding.parse_assembly(substituted(text))
            super()._optimize_final_module()

    def _finalize_final_module(self):
        if self._for_lanes:
            self._finalized = True
        else:
            super()._finalize_final_module()

    def _get_module_for_linking(self):
        self._ensure_finalized()
        if self._shared_module is None:
            self._shared_module = self.written.clone()
            for function in self._shared_module.functions:
                if not function.is_declaration and function.linkage == binding.Linkage.external:
                    function.linkage = "linkonce_odr"
        return self._shared_module


class _Codegen(codegen.JITCPUCodegen):
    _library_class = _Library

    def set_env(self, env_name, env):
        if self._engine.is_symbol_defined(env_name):
            super().set_env(env_name, env)


class _Context(cpu.CPUContext):
    @global_compiler_lock
    def init(self):
        super().init()
        self._internal_codegen = _Codegen("nagd_numba.lanes")


class _TypingContext(typing.Context):
    def resolve_value_type(self, value):
        return super().resolve_value_type(here(value))


class _Descriptor(TargetDescriptor):
    options = cpu.CPUTargetOptions

    @cached_property
    def typing_context(self):
        return _TypingContext()

    @cached_property
    def target_context(self):
        return _Context(self.typing_context, self._target_name)


target_registry[_NAME] = _Lanes


class _Dispatcher(dispatcher.Dispatcher):
    targetdescr = _Descriptor(_NAME)

    def compile(self, sig):
        with target_override(_NAME):
            return super().compile(sig)


def jit(**options: Any) -> Callable:
    """`njit` for this target."""

    def decorate(function):
        return _Dispatcher(function, targetoptions={"nopython": True, **options})

    return decorate


def here(value: Any) -> Any:
    """A function of `@njit`, for this target; anything else as it is."""
    if not isinstance(value, dispatcher.Dispatcher) or isinstance(value, _Dispatcher):
        return value
    if _HERE not in value.__dict__:
        made = _Dispatcher(value.py_func, locals=value.locals, targetoptions=dict(value.targetoptions))
        if not getattr(value, "_can_compile", True):  # the user said for which types, to which arguments are converted
            for signature in value.nopython_signatures:
                made.compile(signature)
            made.disable_compile()
        value.__dict__[_HERE] = made
    return value.__dict__[_HERE]


def _decorator(*functions: Any, **options: Any) -> Any:
    """As Numba calls it, with a function or without."""
    return jit(**options)(functions[0]) if functions and callable(functions[0]) else jit(**options)


dispatcher_registry[target_registry[_NAME]] = _Dispatcher
jit_registry[target_registry[_NAME]] = _decorator
