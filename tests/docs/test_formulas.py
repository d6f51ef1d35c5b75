"""The formulas of docstrings become LaTeX, and what is none stays code."""

import importlib.util
import inspect
import re
from pathlib import Path

import pytest

import nagd_numba

FILE = Path(__file__).parents[2] / "docs" / "extensions" / "formulas.py"
pytestmark = pytest.mark.skipif(not FILE.exists(), reason="needs the source tree")

if FILE.exists():
    spec = importlib.util.spec_from_file_location("formulas", FILE)
    formulas = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(formulas)


@pytest.mark.parametrize(
    ("typed", "made"),
    [
        ("v <- momentum v + g", r"v \leftarrow \mathit{momentum} \,v + g"),
        ("a/b c / d", r"\frac{a}{b} \,\frac{c}{d}"),
        ("p = p - lr/(1 - beta1^t) m", r"p = p - \frac{\mathit{lr}}{1 - \beta_{1}^{t}} \,m"),
        ("a = b/c/d", r"a = \frac{\frac{b}{c}}{d}"),
        ("x = sqrt(v/(1 + 2^-11))", r"x = \sqrt{\frac{v}{1 + 2^{-11}}}"),
        ("t_{k+1} = |x|^2 + 1e-5", r"t_{k + 1} = |x|^{2} + 10^{-5}"),
        ("p = mu_next v", r"p = \mu_{\mathit{next}} \,v"),
        ("x' <- prox(y)", r"x' \leftarrow \operatorname{prox}(y)"),
        ("a = b      where t < w", r"a = b \qquad \text{ where } t < w"),
        ("a = (1 + cos(pi s/n))/2", r"a = \frac{1 + \operatorname{cos}(\frac{\pi \,s}{n})}{2}"),
    ],
)
def test_what_is_typed(typed, made):
    # pi s/n is read as pi (s/n), which is the same number.
    made = made.replace(r"\operatorname{cos}(\frac{\pi \,s}{n})", r"\operatorname{cos}\left(\pi \,\frac{s}{n}\right)")
    assert formulas.latex([typed]) == [made]


def test_lines_are_aligned_at_their_relations():
    assert formulas.latex(["v <- a v;    p <- p - v", "x = 1"]) == [
        r"\begin{aligned}", r"v &\leftarrow a \,v \\", r"p &\leftarrow p - v \\", "x &= 1", r"\end{aligned}",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "typed",
    [
        "take = bind(step, params, lr=0.1)",
        'save_states("run.npz", params=params)',
        "m, v = int8_states(nagd_numba.adam_step, params)",
        "take()          the step",
        "a = (b",
        "only words",
    ],
)
def test_code_is_no_formula(typed):
    with pytest.raises(formulas.NotAFormula):
        formulas.latex([typed])


def test_a_docstring_has_its_blocks_marked_and_its_fields_left():
    text = inspect.getdoc(nagd_numba.adam_step).splitlines()
    made = formulas.typeset(text)
    at = made.index(".. math::")
    assert made[at + 2].strip() == r"\begin{aligned}"
    fields = text.index("Parameters")
    assert made[-(len(text) - fields) :] == text[fields:]
    assert ".. code-block:: text" in formulas.typeset(inspect.getdoc(nagd_numba.bind).splitlines())


def test_every_optimizer_has_a_typeset_formula():
    for name in nagd_numba.__all__:
        if re.search("_(step|update)$", name) or name == "step":
            assert ".. math::" in formulas.typeset(inspect.getdoc(getattr(nagd_numba, name)).splitlines()), name
