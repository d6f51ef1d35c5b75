"""Functions written in LLVM code, in lanes."""

import ctypes

import numpy as np
from llvmlite import binding

from nagd_numba.kernels.lanes import modules

W = modules.width()
DTYPES = {"double": np.float64, "float": np.float32, "i64": np.int64, "i32": np.int32, "i16": np.int16, "i8": np.int8}


def compiled(parameters, body, declarations="", returns="i32"):
    """`call(*arrays and numbers, there)` for parameters, each `type %name` and what it is."""
    given = ", ".join(name for name, _ in parameters)
    text = f'target triple = "{binding.get_process_triple()}"\n{declarations}\n'
    text += f"define {returns} @f({given}) {{\n{body}\n}}\n"
    loaded = modules.loaded(modules.in_lanes(text, "f", [kind for _, kind in parameters], W))
    words = [ctypes.c_void_p if name.startswith("ptr") else ctypes.c_int64 for name, _ in parameters]
    function = ctypes.CFUNCTYPE(ctypes.c_int64, *words, ctypes.c_int64)(loaded.address)

    def call(*arguments):
        *arrays, there = arguments
        lanes = sum(1 << int(lane) for lane in np.flatnonzero(there))
        failed = function(*(x.ctypes.data if isinstance(x, np.ndarray) else x for x in arrays), lanes)
        assert loaded.engine is not None
        return np.array([failed >> lane & 1 for lane in range(W)], bool)

    return call


def some(seed=0):
    rng = np.random.default_rng(seed)
    return rng, rng.random(W) < 0.7, rng.integers(0, 2, W)
