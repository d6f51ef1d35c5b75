"""The section of the adapters: contenders that step the same parameters, and the rows that become of them."""

import math
import sys

import pytest

from nagd_numba.bench import adapters_torch, report, sections, timing
from nagd_numba.bench.contenders import Missing
from nagd_numba.bench.sections import Row


def test_the_shapes_are_those_of_the_networks():
    count = {name: sum(map(math.prod, make())) for name, make in adapters_torch.PARAMETERS.items()}
    assert list(count.values()) == [6_570, 11_689_512, 100_000]
    assert len(adapters_torch.resnet18()) == 62


def test_rows_of_pytorch(monkeypatch):
    pytest.importorskip("torch", reason="torch is not installed")
    seen = {}

    def interleaved(contenders, rounds):
        seen.update(contenders)
        return {name: [1.0 if name == "ours" else 2.0] for name in contenders}

    monkeypatch.setattr(timing, "interleaved", interleaved)
    rows = []
    for case, measure in sections.adapters():
        if case["parameters"].startswith("perceptron"):
            rows.append(Row(case))
            measure(rows[-1])
    for step in seen.values():
        step()
    kinds = {type(step.__self__).__module__ for step in seen.values()}
    assert kinds == {"nagd_numba.adapters.torch", "torch.optim.adam"}
    params = {name: step.__self__.param_groups[0]["params"] for name, step in seen.items()}
    assert all((p != 1).all() for own in params.values() for p in own)
    table = report.tabled("adapters", rows)
    assert table.headings == ["framework", "rule", "parameters", "ours", "torch fused", "torch foreach"]
    assert table.lines[0] == ["PyTorch", "NAG", "perceptron 64-64-32-10", "1 s", "2", "2"]


def test_without_the_framework(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(Missing):
        adapters_torch.measure(adapters_torch.CASES[0], 1)
