"""Ctrl-C, SIGTERM and other signals while kernels compile."""

import os
import signal
import threading

import pytest

from nagd_numba.kernels.interrupts import interrupts_wait

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")


@pytest.fixture(autouse=True)
def pythons_handler():
    """What runs in the background of a shell starts with SIGINT ignored, and Python leaves it so."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def press():
    signal.raise_signal(signal.SIGINT)


def test_ctrl_c_arrives_after_the_block():
    said = []

    def work():
        with interrupts_wait():
            press()
            said.append("inside")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert said == ["inside"]


def test_in_blocks_within_blocks_too():
    said = []

    def work():
        with interrupts_wait():
            with interrupts_wait():
                press()
            said.append("between")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert said == ["between"]


def test_the_handler_is_as_before_and_gets_what_it_would_have_got():
    heard = []
    before = signal.signal(signal.SIGINT, lambda *given: heard.append(given))
    try:
        handler = signal.getsignal(signal.SIGINT)
        with interrupts_wait():
            press()
            assert not heard
        assert signal.getsignal(signal.SIGINT) is handler
        assert [number for number, _ in heard] == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("first", ["SIGINT", "SIGTERM", "SIGHUP", "SIGALRM", "SIGUSR1"])
def test_a_handler_that_raises_leaves_the_others_as_they_were(first):
    numbers, said = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM, signal.SIGUSR1], []

    def handler(number, _):
        said.append(number)
        raise InterruptedError

    before = [signal.signal(number, handler) for number in numbers]
    try:

        def work():
            with interrupts_wait():
                signal.raise_signal(getattr(signal, first))
                assert not said

        with pytest.raises(InterruptedError):
            work()
        assert said == [getattr(signal, first)]
        assert [signal.getsignal(number) for number in numbers] == [handler] * 5
    finally:
        for number, was in zip(numbers, before, strict=True):
            signal.signal(number, was)


def test_an_ignored_ctrl_c_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interrupts_wait():
            press()
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_are_left_alone():
    handler = signal.getsignal(signal.SIGINT)
    seen = []

    def work():
        with interrupts_wait():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [handler]
