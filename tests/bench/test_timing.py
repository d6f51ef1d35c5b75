"""How contenders are timed."""

import sys
import threading
import time

import pytest

from nagd_numba.bench import timing


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell which threads run")
def test_no_timing_begins_while_a_thread_spins():
    ended = threading.Event()

    def spin():
        end = time.perf_counter() + 0.2
        while time.perf_counter() < end:
            pass
        ended.set()

    threading.Thread(target=spin).start()
    timing.settled(0.0)
    assert ended.is_set()


def test_a_thread_that_spins_for_ever_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(timing, "LONGEST", 0.05)
    monkeypatch.setattr(timing, "_threads_run", lambda: True)
    timing.settled(0.0)
