"""Whole-problem minimisation.

vectors     what an iteration does to vectors
prox        proximal maps
objective   the user's function and gradient, in the forms they come in
loop        the iteration
compiled    the loop over the user's functions
settings    checks of everything but the functions
adapt       checks of the functions
front       `minimize`;  inside: the same in compiled code
many        `minimize_many`
protocol    `scipy_method`
check       `check_grad`
"""

# registers `minimize` for compiled code
from .check_grad import check_grad
from .many import minimize_many
from .minimize import minimize
from .scipy_method import scipy_method

__all__ = ["check_grad", "minimize", "minimize_many", "scipy_method"]
