"""The optimizers as parameters of tests: one or two by default, a rule of another kind in CI, the others are slow."""

import pytest

from nagd_numba.optimizers.registry import OPTIMIZERS


def marked(default=("nesterov",), ci=("adam",), names=tuple(OPTIMIZERS)):
    """Names of optimizers, each with the mark of when it is tested."""
    marks = {**dict.fromkeys(ci, pytest.mark.ci), **dict.fromkeys(default, ())}
    return [pytest.param(name, marks=marks.get(name, pytest.mark.slow), id=name) for name in names]


def optimizers(default=("nesterov",), ci=("adam",)):
    """`optimizer` as a parameter."""
    values = [pytest.param(OPTIMIZERS[x.id], marks=x.marks, id=x.id) for x in marked(default, ci)]
    return pytest.mark.parametrize("optimizer", values)
