"""The page `docs/howto/torch.md`: its code runs, and it names every class."""

import re
from pathlib import Path

import pytest

pytest.importorskip("torch", "2.5", reason="torch >= 2.5 is not installed")

from nagd_numba.adapters import torch as ours

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "torch.md"
pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="needs the source tree")


def test_blocks_run_one_after_another():
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(blocks) >= 3
    names = {}
    for number, block in enumerate(blocks):
        exec(compile(block, f"docs/howto/torch.md, block {number}", "exec"), names)


def test_the_table_has_every_class_and_its_options():
    rows = re.findall(r"^\| `(\w+)` \|(.*)\|$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    table = {name: re.findall(r"`(\w+)`", rest.split("|")[-1]) for name, rest in rows}
    assert set(table) == set(ours.__all__) - {"Fused"}
    for name, options in table.items():
        assert {*options, "lr", "weight_decay", "maximize"} == set(getattr(ours, name).form.options)
