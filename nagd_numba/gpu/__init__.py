"""Kernels for CUDA, compiled without a device, and launched on foreign arrays.

    target.py          all that is used of numba-cuda: the language of kernels, and their compilation
    pointers.py        typed accesses through bare pointers, 16 bytes at a time where possible
    pointer_tuples.py  the same for tuples of pointers: the states of a rule
    compiler.py        a function becomes machine code for an architecture, with no driver; kept on disk
    toolchain.py       which compilers there are, and whether they fit together
    device_array.py    foreign device arrays: their description, and the checks
    errors.py          what a failed call of the driver is told as
    driver.py          the only calls of the driver: load, launch, allocate, copy
    queue.py           what training asks of it: page-locked memory, events, tables of launches
    streams.py         the streams of Numba, CuPy, PyTorch and cuda.core
    elementwise.py     the kernels of update rules
    tables.py          memory for the tables of lists of arrays, used again in the order of its stream
    repeats.py         steps on arrays that were met before, in the order of the streams of the arrays' libraries
    launch.py          validated launches of these kernels
    guard_kernels.py   steps with a guard, decided on the device (guard_sums.py, powers.py); guarded.py starts them
    guard_scale.py     the loss scale that follows the gradients
    hyper_kernels.py   constants of a rule from hyper-parameters in device memory; hyper.py starts it

Bits on a device are those of the host but for one thing, which no rule can pin: a float32 NaN that arithmetic makes is
0x7fffffff on a GPU (the PTX ISA says so), where an x86 processor hands on the sign and the payload of a NaN operand.
(A float64 NaN may differ in the same way.)

(The folder is not called `cuda` since numba-cuda's import hook takes any module `*numba.cuda` for its own.)
"""
