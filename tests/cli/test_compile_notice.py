"""The line that the command line prints while kernels compile."""

import time

from numba.core import event

from nagd_numba.cli import compile_notice
from nagd_numba.cli.compile_notice import TEXT


def passes(seconds, monkeypatch):
    """Compile for so long, where 0.05 s is long enough to be told."""
    monkeypatch.setattr(compile_notice, "AFTER", 0.05)
    with compile_notice.compile_notice():
        with event.trigger_event("numba:run_pass"):
            time.sleep(seconds)
        time.sleep(0.2)
        with event.trigger_event("numba:run_pass"):
            time.sleep(seconds)


def test_a_long_compilation_is_told_once_on_standard_error(capsys, monkeypatch):
    passes(0.2, monkeypatch)
    assert capsys.readouterr() == ("", f"{TEXT}\n")


def test_short_ones_and_what_comes_from_the_disk_are_not_told(capsys, monkeypatch):
    passes(0.0, monkeypatch)
    assert capsys.readouterr() == ("", "")
