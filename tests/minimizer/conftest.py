"""Lanes for few problems."""

import pytest

from nagd_numba.minimizer import lane_rows


@pytest.fixture
def lanes(monkeypatch):
    """Lanes for any number of problems; the list tells, for each call, if they were taken."""
    taken, make = [], lane_rows.solver

    def solver(*given):
        taken.append(make(*given))
        return taken[-1]

    monkeypatch.setattr(lane_rows, "LANES_FROM", 1)
    monkeypatch.setattr(lane_rows, "solver", solver)
    return taken
