"""Kernels for CUDA, built without a device, and launched on foreign arrays.

    registers.py  values in registers, and 16-byte accesses through bare pointers
    build.py      a template becomes machine code for an architecture, with no driver; kept on disk
    memory.py     foreign device arrays: what they are, and what is wrong with them
    driver.py     the only calls of the driver: load, launch, allocate, copy
    streams.py    everybody's streams
    step.py       update rules on one array, or on a list of arrays

(The folder is not called `cuda` since numba-cuda's import hook takes any module `*numba.cuda` for its own.)
"""
