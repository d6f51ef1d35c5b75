"""Device arrays of half precision, whose bits NumPy has no name for."""

import numpy as np


def round_to(x, storage):
    """float32 as half precision, in the bits of its memory."""
    if storage == "float16":
        return x.astype(np.float16).view(np.uint16)
    bits = x.view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def widen(bits, storage):
    if storage == "float16":
        return bits.view(np.float16).astype(np.float32)
    return (bits.astype(np.uint32) << 16).view(np.float32)


class Half:
    """A device array of half precision; bfloat16 is said as CuPy with ml_dtypes says it."""

    def __init__(self, gpu, bits, storage, offset):
        self.inner = gpu.array(bits, offset=offset)
        self.storage = storage
        self.dtype = type("Dtype", (), {"name": storage})

    @property
    def __cuda_array_interface__(self):
        letters = "<f2" if self.storage == "float16" else "<V2"
        return {**self.inner.__cuda_array_interface__, "typestr": letters}
