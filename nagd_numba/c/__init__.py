"""The steps for C, C++, Fortran, and whatever else calls C functions.

functions.py   the functions: their parameters, types and addresses in this process
text.py        their declarations: a header for C and C++, a module for Fortran
export.py      these and an object file, for programs without Python
"""

from .functions import c_address, c_functions

__all__ = ["c_address", "c_functions"]
