"""Which form takes a call: against machines that are made up."""

import os
import random

import numpy as np
import pytest

from nagd_numba.kernels import forms, segments
from nagd_numba.kernels.forms import PARALLEL, SERIAL, Forms, chosen, noted
from nagd_numba.kernels.jit import plain
from nagd_numba.optimizers.registry import RULES
from tests.helpers.backends import JIT_OFF

US = 1e3  # ns


class Machine:
    """Draws how long a call takes, in ns, for each form."""

    def __init__(self, serial, parallel, seed=0):
        self.serial, self.parallel, self.random = serial, parallel, random.Random(seed)

    def took(self, form):
        return (self.parallel if form == PARALLEL else self.serial)(self.random)


def idle(random):
    return 26 * US


def idle_serial(random):
    return 60 * US


def waits(random):
    """Four of five calls find their cores; the fifth waits for one."""
    return 26 * US if random.random() < 0.8 else random.uniform(500, 7000) * US


def waits_seldom(random):
    return 26 * US if random.random() < 0.95 else 7000 * US


def run(cell, machine, calls):
    """The mean of the calls, and how many were parallel."""
    total, parallel = 0.0, 0
    for _ in range(calls):
        form = plain(chosen)(cell)
        took = machine.took(form)
        plain(noted)(cell, form, took)
        total, parallel = total + took, parallel + form
    return total / calls, parallel


def new_cell():
    return np.zeros(8)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("loaded", [waits, waits_seldom])
def test_on_a_loaded_machine_calls_take_what_the_serial_form_takes(loaded, seed):
    cell = new_cell()
    mean, _ = run(cell, Machine(idle_serial, loaded, seed), 5_000)
    assert mean < 1.3 * 60 * US
    assert run(cell, Machine(idle_serial, loaded, seed + 100), 20_000)[0] < 1.15 * 60 * US


def test_on_an_idle_machine_little_is_lost():
    cell = new_cell()
    run(cell, Machine(idle_serial, idle), 100)
    assert run(cell, Machine(idle_serial, idle), 20_000)[0] < 1.02 * 26 * US


def test_one_long_wait_changes_nothing():
    cell = new_cell()
    run(cell, Machine(idle_serial, idle), 300)
    plain(noted)(cell, PARALLEL, 7000 * US)
    assert run(cell, Machine(idle_serial, idle), 1_000)[0] < 1.05 * 26 * US


def test_a_machine_that_changes():
    """The loss at each change is bounded, and the better form takes over."""
    cell = new_cell()
    run(cell, Machine(idle_serial, idle), 5_000)
    assert run(cell, Machine(idle_serial, waits), 5_000)[0] < 1.3 * 60 * US
    run(cell, Machine(idle_serial, idle), 10_000)
    mean, parallel = run(cell, Machine(idle_serial, idle), 2_000)
    assert mean < 1.05 * 26 * US
    assert parallel > 1_900


@pytest.mark.parametrize("serial", [5, 20, 200])
def test_threads_that_never_pay_are_left_alone(serial):
    cell = new_cell()
    machine = Machine(lambda random: serial * US, lambda random: 26 * US * (1 + random.random()))
    run(cell, machine, 100)
    mean, _ = run(cell, machine, 10_000)
    assert mean < 1.03 * min(serial, 39) * US


def test_long_calls_are_for_threads():
    """After one call of the serial form that said so."""
    mean, parallel = run(new_cell(), Machine(lambda random: 80e6, lambda random: 45e6), 100)
    assert parallel == 99
    assert mean < 46e6


@pytest.mark.skipif(JIT_OFF, reason="there are no threads")
def test_each_kernel_and_length_has_times_of_its_own():
    rule = RULES["nesterov"]
    made = Forms()
    step = segments.Step(rule, rule.defaults(), np.dtype(np.float32), made)
    kept = [[np.ones(n, np.float32) for _ in range(3)] for n in (50_000, 200_000)]
    tables = [segments.Table.of([x]) for x in kept]
    if not forms.threads_may_run():
        pytest.skip("one thread, or a threading layer that may not be entered twice")
    for _ in range(20):
        assert step(tables[0], (0.1, 0.9, 0.9, 0.0)) == 0
    cells = made._record[forms._CELLS :].view(np.float64).reshape(-1, 8)
    used = np.flatnonzero(cells[:, 2:4].sum(axis=1))
    assert list(used) == [16]
    assert cells[16, 2:4].sum() == 20
    assert (cells[16, :2] > 1_000).all()  # ns
    assert cells[16, [2 + SERIAL, 2 + PARALLEL]].min() >= forms.FIRST
    step(tables[1], (0.1, 0.9, 0.9, 0.0))
    assert list(np.flatnonzero(cells[:, 2:4].sum(axis=1))) == [16, 18]


@pytest.mark.skipif(JIT_OFF or not hasattr(os, "fork"), reason="needs threads, and fork")
def test_a_child_asks_anew():
    forms.threads_may_run()
    child = os.fork()
    if child == 0:
        os._exit(int(forms._threads[0] != forms._NOT_ASKED))
    assert os.waitpid(child, 0)[1] == 0
