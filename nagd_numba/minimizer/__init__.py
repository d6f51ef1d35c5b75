"""Whole problems: `minimize`, `minimize_many`, `scipy_method`, `check_grad`.

algorithm       the iteration, written once; `objective`, `prox`, `vectors` are its parts
specialize      it bound to a user's functions, compiled or in Python
user_functions  checks of the functions;  `settings`: checks of all else
array_backends  vectors of PyTorch and CuPy that stay where they are
minimize        the call from Python;  `_overload`: from `@njit` code;  `many`: many small problems
"""

from . import _overload as _overload  # registers `minimize` for compiled code
from .check_grad import check_grad
from .many import minimize_many
from .minimize import minimize
from .scipy_method import scipy_method

__all__ = ["check_grad", "minimize", "minimize_many", "scipy_method"]
