"""Problems solved on a CUDA device, each by a thread, from its start to its end in one launch where it is short.

arrays.py     arrays of compiled code from bare pointers
kernel.py     the kernel: the algorithm of `..algorithm`, bound to the user's functions
functions.py  what users give, and every message about what it does not fit
launches.py   the state of the problems in the device's memory, and the launches that advance it
solve.py      `minimize` and `minimize_many` on arrays of a device
"""
