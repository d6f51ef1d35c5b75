"""Numba kernels for array-level optimizers: Nesterov's accelerated gradient on flat parameters, CPU and CUDA.

    nagd_numba.step(params, grads, vel)     one step, in place
    nagd_numba.nesterov_update(p, g, v, …)  the same for scalars, inside @njit and @cuda.jit functions
    nagd_numba.adam_step, adamw_step, nadam_step, lion_step, rmsprop_step, adagrad_step, fista_step; adam_update, ...
                                            the other methods, likewise
    nagd_numba.schedule_free_sgd_step, schedule_free_adamw_step     without a schedule of the rate; `schedule_free_eval`
                                            makes of their parameters those to evaluate
    nagd_numba.step_rows, finish_rows       a step of the rows that have a gradient, as if all had been stepped
    nagd_numba.StochasticRounding, int8_states      small storage: 16-bit parameters, states of 8 bits
    nagd_numba.save_states, load_states             parameters and states of any storage in a file
    nagd_numba.bind(step, params, …)        a step bound to its arrays, which are checked once
    nagd_numba.c_address("nag_step_f32")    a step as a function for C, C++ and Fortran
    nagd_numba.FlatParams(layout)           named views on one flat vector
    nagd_numba.MLP(sizes)                   a small network on one flat vector, with compiled training: `fit`
    nagd_numba.fit_many(mlp, params2d, …)   many of them at once: sweeps, ensembles
    nagd_numba.schedules                    schedules of the learning rate and the momentum
    nagd_numba.minimize(fun, x0, …)         a whole problem; `minimize_many`, `scipy_method`, `check_grad` belong to it

Nothing compiles and no device is touched when this package is imported.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from . import _as_command  # noqa: F401  # before what takes long to import
from ._version import __version__
from .c import c_address, c_functions
from .flat import FlatParams
from .optimizers.adagrad import adagrad_constants, adagrad_step, adagrad_update
from .optimizers.adam import adam_constants, adam_step, adam_update
from .optimizers.adamw import adamw_constants, adamw_step, adamw_update
from .optimizers.average import Average, average_weight
from .optimizers.bound import bind
from .optimizers.conventions import nesterov_update
from .optimizers.fista import fista_step, fista_t, fista_update
from .optimizers.guard import Guard
from .optimizers.lion import lion_constants, lion_step, lion_update
from .optimizers.nadam import nadam_constants, nadam_step, nadam_update
from .optimizers.nesterov import step
from .optimizers.registry import OPTIMIZERS as _OPTIMIZERS
from .optimizers.rmsprop import rmsprop_constants, rmsprop_step, rmsprop_update
from .optimizers.rows import finish_rows, row_history, step_rows
from .optimizers.schedule_free import schedule_free_eval, schedule_free_train, schedule_free_x
from .optimizers.schedule_free_adamw import (
    schedule_free_adamw_constants,
    schedule_free_adamw_step,
    schedule_free_adamw_update,
)
from .optimizers.schedule_free_sgd import (
    schedule_free_sgd_constants,
    schedule_free_sgd_step,
    schedule_free_sgd_update,
)
from .optimizers.state_files import load_states, save_states
from .optimizers.storage import Int8State, StochasticRounding, int8_states

if TYPE_CHECKING:
    from . import schedules as schedules
    from .history import History as History
    from .minimizer.check_grad import check_grad as check_grad
    from .minimizer.many import minimize_many as minimize_many
    from .minimizer.minimize import minimize as minimize
    from .minimizer.scipy_method import scipy_method as scipy_method
    from .mlp import MLP as MLP
    from .mlp import fit_many as fit_many


__all__ = [
    "MLP",
    "Average",
    "FlatParams",
    "Guard",
    "History",
    "Int8State",
    "StochasticRounding",
    "__version__",
    "adagrad_constants",
    "adagrad_step",
    "adagrad_update",
    "adam_constants",
    "adam_step",
    "adam_update",
    "adamw_constants",
    "adamw_step",
    "adamw_update",
    "average_weight",
    "bind",
    "c_address",
    "c_functions",
    "check_grad",
    "finish_rows",
    "fista_step",
    "fista_t",
    "fista_update",
    "fit_many",
    "int8_states",
    "lion_constants",
    "lion_step",
    "lion_update",
    "load_states",
    "minimize",
    "minimize_many",
    "nadam_constants",
    "nadam_step",
    "nadam_update",
    "nesterov_update",
    "rmsprop_constants",
    "rmsprop_step",
    "rmsprop_update",
    "row_history",
    "save_states",
    "schedule_free_adamw_constants",
    "schedule_free_adamw_step",
    "schedule_free_adamw_update",
    "schedule_free_eval",
    "schedule_free_sgd_constants",
    "schedule_free_sgd_step",
    "schedule_free_sgd_update",
    "schedule_free_train",
    "schedule_free_x",
    "schedules",
    "scipy_method",
    "step",
    "step_rows",
]


def __getattr__(name: str) -> Any:
    if name in ("MLP", "fit_many"):  # the kernels are many: imported when asked for
        from . import mlp

        return getattr(mlp, name)
    if name in ("check_grad", "minimize", "minimize_many", "scipy_method"):
        from . import minimizer

        return getattr(minimizer, name)
    if name == "schedules":
        return importlib.import_module(f".{name}", __name__)
    if name == "History":
        from .history import History

        return History
    for optimizer in _OPTIMIZERS.values():  # one that was added to the registry alone
        if name in optimizer.public:
            return optimizer.public[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
