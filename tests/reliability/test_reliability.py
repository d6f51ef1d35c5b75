"""Each part of the reliability trials, a few times: nothing is lost."""

import pytest

from . import Result, part, parts
from .__main__ import main

SLOW = {"kills"}  # over 20 s


@pytest.mark.ci
@pytest.mark.parametrize("name", [pytest.param(x, marks=pytest.mark.slow if x in SLOW else ()) for x in parts()])
def test_nothing_is_lost(name, tmp_path):
    module = part(name)
    result = module.trial(module.SHORT, 0, tmp_path)
    assert result.times > 0 or result.left_out
    assert result.lost == ()


def test_the_command_counts_what_was_lost(monkeypatch, capsys):
    module = part(parts()[0])
    asked = []

    def trial(count, seed, folder):
        asked.append((count, seed, list(folder.iterdir())))
        return Result("this", count, ("seed 3: gone",))

    monkeypatch.setattr(module, "trial", trial)
    assert main([parts()[0], "--long", "--seed", "5"]) == 1
    assert asked == [(module.LONG, 5, [])]
    assert f"this: {module.LONG:,} tried, 1 lost" in capsys.readouterr().out
