"""Where each optimizer, option and function works: the table of `nagd-numba info --support`.

`docs/reference/support.md` shows it.

The rows of the optimizers come from the registry and from what the adapters declare; those of everything else say what
the code asks before it refuses.  Each cell that is a no has its reason.
"""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path
from typing import NamedTuple

from ..adapters import torch_forms
from ..c.functions import functions
from ..gpu.device_array import HALF
from ..kernels.jit import PACKAGE
from ..optimizers.optimizer import PYTHON_ONLY, Optimizer
from ..optimizers.registry import OPTIMIZERS
from ..validation import DTYPES

COLUMNS = ("NumPy arrays", "device arrays", "in `@njit`", "in `@cuda.jit`", "C", "PyTorch", "JAX", "Keras", "sklearn")
YES = "yes"


class No(NamedTuple):
    """A cell that is a no."""

    reason: str


Cell = str | No

SCALAR = No("a kernel of your own steps scalars: the optimizer's rule (`..._update`), which its row names")
PYTHON = No("arrays are looked at, and errors worded, in Python")
LOOP = No("the framework has its own loop, arguments and losses")
PLAIN_C = No("the C functions are steps on pointers")
HERE = No("adapters pass arrays that lie on the CPU; PyTorch's classes leave other tensors to PyTorch")
LIBRARY = No("scikit-learn's estimators are those of `solver='sgd'`: gradient descent, momentum, Nesterov")
KERAS = No("no class for Keras yet")
NO_METHOD = No("its state begins with the parameters, which these take to be zeros")
ON_DEVICE = No("it is about device memory")
TOGETHER = No("compiled callers and C call it for each array")
TREES = "yes, as pytrees"
PARAMETERS = "by parameter groups, no masks"
WHOLE_PROGRAM = No("a training or a solve is a program of its own")


def rows() -> dict[str, tuple[Cell, ...]]:
    """The cells of each row, in the order of `COLUMNS`."""
    made = {f"`{optimizer.name}`": _optimizer(optimizer) for optimizer in OPTIMIZERS.values()}
    return made | _options() | _functions()


def _optimizer(optimizer: Optimizer) -> tuple[Cell, ...]:
    names = [form.name for form in torch_forms.FORMS.values() if form.optimizer is optimizer]
    c = sorted({f"`{x}`" for x, (step, _) in functions().items() if step.optimizer is optimizer})
    made = "" if optimizer.constants is None else f", `{optimizer.constants.__name__}`"
    names_of = optimizer.methods[-1:] if optimizer.rule.interpolated is None else ()  # that an update is a change of
    transformation = "".join(f" and `{x.name}`" for x in names_of)
    keras = _keras(optimizer)
    return (
        YES,
        YES,
        YES,
        f"`{optimizer.update.__name__}`{made}",
        ", ".join(c),
        ", ".join(f"`{x}`" for x in names) or NO_METHOD,
        f"`{optimizer.name}`{transformation}",
        f"`{keras}`" if keras else KERAS,
        YES if any(method.name == "nag" for method in optimizer.methods) else LIBRARY,
    )


def _options() -> dict[str, tuple[Cell, ...]]:
    """The parameters that steps have in common."""
    compiled = PYTHON if set(PYTHON_ONLY) >= {"guard", "master", "stream"} else YES
    half = f"{' and '.join(HALF)}, contiguous"
    only = f"only {' and '.join(map(str, DTYPES))} are there"
    guarded = "on the CPU" if all("guard" in x.signature.parameters for x in torch_forms.FORMS.values()) else ""
    return {
        "lists of arrays, one launch": (YES, YES, TOGETHER, SCALAR, TOGETHER, YES, TREES, YES, LOOP),
        "strided arrays": (YES, No("kernels move 16 bytes at a time"), YES, SCALAR, PLAIN_C, YES, HERE, HERE, LOOP),
        "half precision": (half, half, No(f"{only} in compiled code"), SCALAR, PLAIN_C, HERE, HERE, HERE, HERE),
        "`master=`, `compensation=`, `rounding=`": (YES, YES, compiled, SCALAR, PLAIN_C, HERE, HERE, HERE, HERE),
        "states of 8 bits (`Int8State`)": (
            *("contiguous", "contiguous, not bound, not in a graph", compiled, SCALAR, PLAIN_C, HERE, HERE, HERE, HERE),
        ),
        "masks, bounds, `prox=`, averages, groups, rates as arrays": (
            *(YES, "contiguous, masks as bytes, groups of lists", "all but groups", SCALAR),
            *("all but groups, masks as bytes", PARAMETERS, HERE, HERE, "averages"),
        ),
        "`guard=` (`Guard`)": (YES, "yes, decided there", compiled, SCALAR, PLAIN_C, guarded, LOOP, LOOP, LOOP),
        "`stream=`, captured graphs": (ON_DEVICE, YES, compiled, ON_DEVICE, ON_DEVICE, HERE, HERE, HERE, HERE),
        "hyper-parameters and `t` in device memory": (
            *(ON_DEVICE, YES, ON_DEVICE, SCALAR, ON_DEVICE),
            *(HERE, "arrays of one element, on the CPU", LOOP, LOOP),
        ),
    }


def _functions() -> dict[str, tuple[Cell, ...]]:
    """The functions of this package that are more than a step."""
    outside = (WHOLE_PROGRAM, WHOLE_PROGRAM, LOOP, LOOP, LOOP, LOOP)
    held_out = YES if _has("mlp.gpu.evaluation") else No("validation is computed on the host")
    solved = "yes, in one launch" if _has("minimizer.gpu") else "tensors and CuPy arrays, in Python"
    many = YES if _has("minimizer.gpu") else No("Numba's device arrays have no arithmetic")
    methods = [method for x in OPTIMIZERS.values() for method in x.methods]
    trained = f"all {len(methods)} methods"
    return {
        "`MLP.fit`, `fit_many`": (trained, trained, WHOLE_PROGRAM, *outside[:-1], YES),
        "validation, metrics in them": (YES, held_out, WHOLE_PROGRAM, *outside[:-1], YES),
        "schedules in them": (YES, YES, WHOLE_PROGRAM, *outside[:-1], No("its own `learning_rate`")),
        "clipping, accumulation, dropout in them": (
            YES,
            YES,
            WHOLE_PROGRAM,
            *outside[:-1],
            No("not among its options"),
        ),
        "probabilities as `y`, `label_smoothing` in them": (
            *(YES, YES, WHOLE_PROGRAM, *outside[:-1]),
            No("not among its options"),
        ),
        "`class_weight` in them": (YES, YES, WHOLE_PROGRAM, *outside[:-1], YES),
        "`average=` in them": (YES, YES, WHOLE_PROGRAM, *outside[:-1], YES),
        "sparse X in them": (
            *("CSR", No("kernels read dense rows"), WHOLE_PROGRAM, *outside[:-1]),
            "CSR; predictions make some rows at a time dense",
        ),
        "`MLP.predict`, `MLP.compiled`": (YES, "`predict`", "`compiled`", *outside[:-1], YES),
        "`nagd-numba sweep`": (YES, YES, PYTHON, *outside),
        "`minimize`": (YES, solved, YES, *outside),
        "`minimize_many`": (YES, many, YES, *outside),
        "`prox=` in them": (YES, solved, YES, *outside),
        "`check_grad`, `scipy_method`": (YES, No("they work on NumPy arrays"), PYTHON, *outside),
        "`ShardedStep`": (
            *(YES, "without `guard` and `reproducible`", PYTHON, WHOLE_PROGRAM, WHOLE_PROGRAM),
            *("tensors, over `torch.distributed`", LOOP, LOOP, LOOP),
        ),
        "`step_rows`, `finish_rows`": (YES, YES, YES, *outside),
        "`FlatParams`": (YES, No("views are of NumPy arrays"), PYTHON, *outside),
    }


def _has(module: str) -> bool:
    return importlib.util.find_spec(f"{__package__.rpartition('.')[0]}.{module}") is not None


def _keras(optimizer: Optimizer) -> str | None:
    """The class for Keras, which cannot be imported everywhere, so that its source says whether there is one."""
    source = Path(PACKAGE, "adapters", "keras.py").read_text(encoding="utf-8")
    lists = [
        x.value for x in ast.parse(source).body if isinstance(x, ast.Assign) and ast.unparse(x.targets[0]) == "__all__"
    ]
    names = {name.lower(): name for name in ast.literal_eval(lists[0])}
    forms = [form.name.lower() for form in torch_forms.FORMS.values() if form.optimizer is optimizer]
    return next((names[x] for x in forms if x in names), None)


def table() -> str:
    """The table in Markdown, with the reasons below it."""
    reasons: dict[str, int] = {}
    lines = [f"| | {' | '.join(COLUMNS)} |", f"|---|{'---|' * len(COLUMNS)}"]
    for name, cells in rows().items():
        shown = []
        for cell in cells:
            if isinstance(cell, No):
                shown.append(f"no ({reasons.setdefault(cell.reason, len(reasons) + 1)})")
            else:
                shown.append(cell)
        lines.append(f"| {name} | {' | '.join(shown)} |")
    notes = [f"({number}) {reason}." for reason, number in reasons.items()]
    return "\n".join([*lines, "", *notes])
