"""Kernels for CUDA, compiled without a device, and launched on foreign arrays.

    target.py          all that is used of numba-cuda: the language of kernels, and their compilation
    pointers.py        typed accesses through bare pointers, 16 bytes at a time where possible
    pointer_tuples.py  the same for tuples of pointers: the states of a rule
    compiler.py        a function becomes machine code for an architecture, with no driver; kept on disk
    device_array.py    foreign device arrays: their description, and the checks
    driver.py          the only calls of the driver: load, launch, allocate, copy
    streams.py         the streams of Numba, CuPy, PyTorch and cuda.core
    elementwise.py     the kernels of update rules
    launch.py          validated launches of these, and their cache

(The folder is not called `cuda` since numba-cuda's import hook takes any module `*numba.cuda` for its own.)
"""
