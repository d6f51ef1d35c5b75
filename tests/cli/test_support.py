"""The table of what runs where: complete, and what the documentation shows."""

import re
from pathlib import Path

import pytest

import nagd_numba
from nagd_numba.c.functions import functions
from nagd_numba.cli import support
from nagd_numba.optimizers.registry import OPTIMIZERS

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "support.md"


def test_the_page_has_the_table_of_now():
    """To renew it: `nagd-numba info --support`, between the marks."""
    if not PAGE.is_file():
        pytest.skip("the tests run without the documentation's sources")
    text = PAGE.read_text(encoding="utf-8")
    shown = re.search(r"<!-- support: [^\n]*-->\n\n(.*?)\n\n<!-- end of support -->", text, re.DOTALL)
    assert shown is not None
    assert shown[1] == support.table()


def test_no_cell_is_empty_or_without_its_reason():
    for name, cells in support.rows().items():
        assert len(cells) == len(support.COLUMNS), name
        for cell in cells:
            assert (cell.reason if isinstance(cell, support.No) else cell).strip(), name


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_the_names_in_a_row_are_there(optimizer):
    cells = support.rows()[f"`{optimizer.name}`"]
    shown = dict(zip(support.COLUMNS, cells, strict=True))
    assert hasattr(nagd_numba, optimizer.name)
    for name in re.findall(r"`(\w+)`", shown["in `@cuda.jit`"]):
        assert hasattr(nagd_numba, name)
    assert set(re.findall(r"`(\w+)`", shown["C"])) == {
        x for x, (made, _) in functions().items() if made.rule is optimizer.rule
    }


@pytest.mark.parametrize(
    ("library", "column", "module"),
    [("torch", "PyTorch", "torch"), ("optax", "JAX", "optax"), ("keras", "Keras", "keras")],
)
def test_the_adapters_have_what_it_says(library, column, module):
    pytest.importorskip(library, reason=f"{library}, or what it stands on, is not installed")
    adapter = pytest.importorskip(f"nagd_numba.adapters.{module}", reason="what it stands on is not installed")
    for optimizer in OPTIMIZERS.values():
        cell = dict(zip(support.COLUMNS, support.rows()[f"`{optimizer.name}`"], strict=True))[column]
        names = [] if isinstance(cell, support.No) else re.findall(r"`(\w+)`", cell)
        assert all(hasattr(adapter, name) for name in names), optimizer.name


def test_the_command_prints_it(capsys):
    from nagd_numba.cli.main import main

    assert main(["info", "--support"]) == 0
    assert capsys.readouterr().out.strip() == support.table()
