"""Steps as C functions that do more than their rule: masks, bounds, maps, averages and rates of elements."""

import ctypes
import inspect
import itertools

import numpy as np
import pytest

from nagd_numba import c_address, c_functions
from nagd_numba.c import text
from nagd_numba.c.functions import function_of, steps
from nagd_numba.c.parts import WORDS, ordered, split
from nagd_numba.cli.main import main
from nagd_numba.kernels import statuses
from nagd_numba.kernels.jit import SIMULATOR
from tests.helpers.backends import JIT_OFF
from tests.helpers.bits import assert_same_bits
from tests.helpers.c_programs import STRICT, run, tool

pytestmark = pytest.mark.skipif(JIT_OFF or SIMULATOR, reason="is about compiled code on the CPU")

KINDS = {"length": ctypes.c_int64, "real": ctypes.c_double, "whole": ctypes.c_int64}
ALL = ("lr_array", "lower", "upper_array", "l1", "average", "mask")
NUMBERS = {"lower": -0.4, "upper": 0.5, "prox_weight": 0.3, "average_weight": 0.25}


class Call:
    """Arrays and numbers for a function in C and for the step that it is."""

    def __init__(self, name, n=203):
        self.made, dtype = function_of(name)
        rng = np.random.default_rng(3)
        self.arrays = {}
        for x, kind in self.made.parameters.items():
            if kind == "bytes":
                self.arrays[x] = rng.integers(0, 2, n).astype(np.uint8) * 255
            elif kind in ("read", "written"):
                self.arrays[x] = rng.normal(size=n).astype(dtype)
        for x in self.arrays.keys() - {"params", "grads", "lower", "upper", "mask"}:
            np.abs(self.arrays[x], out=self.arrays[x])
        for x, factor in (("lr", 0.1), ("weight_decay", 0.1)):
            if x in self.arrays:
                self.arrays[x] *= dtype.type(factor)
        if "upper" in self.arrays:
            self.arrays["upper"] = np.abs(self.arrays["upper"])
        if "lower" in self.arrays:
            self.arrays["lower"] = -np.abs(self.arrays["lower"])
        usual = {x: parameter.default for x, parameter in inspect.signature(self.made.step).parameters.items()}
        self.numbers = {x: usual.get(x) for x in self.made.parameters if x not in self.arrays and x != "n"}
        self.numbers |= {x: value for x, value in NUMBERS.items() if x in self.numbers}
        if "momentum_next" in self.numbers:
            self.numbers["momentum_next"] = self.numbers["momentum"]
        for x, value in self.numbers.items():
            if value is inspect.Parameter.empty:
                self.numbers[x] = 3 if x == "t" else 0.1
        kinds = [
            KINDS.get(x, ctypes.c_int if x in ("choice", "flag") else ctypes.c_void_p)
            for x in self.made.parameters.values()
        ]
        self._function = ctypes.CFUNCTYPE(ctypes.c_int, *kinds)(c_address(name))

    def in_c(self, n=None, **changed):
        """The status of the call in C, with other arrays or numbers."""
        given = {"n": self.arrays["params"].size if n is None else n, **self.arrays, **self.numbers, **changed}
        arguments = []
        for x in self.made.parameters:
            value = given[x]
            if isinstance(value, str):
                value = self.made.choices[x].index(value)
            arguments.append(value.ctypes.data if isinstance(value, np.ndarray) else value)
        return self._function(*arguments)

    def in_python(self, **changed):
        """The same call of the public step."""
        given = self.arrays | self.numbers | changed
        weight = given.pop("average_weight", None)
        if "average" in given:
            given["average"] = given["average"], weight
        if "mask" in given:
            given["mask"] = given["mask"] != 0
        prox = [x for x in ("l1", "scaled_l1") if x in self.made.words]
        self.made.step(**given, **({"prox": prox[0]} if prox else {}))


def sets():
    """Each part by itself with the rule that says most of it, all of them with every rule."""
    for word in WORDS:
        rule = {"weight_array": "fista_step", "scaled_l1": "adam_step"}.get(word, "nag_step")
        yield f"{rule}_f32_{word}"
    for step in steps(ALL):
        yield "_".join([step.name, "f64" if step.name == "nag_step" else "f32", *ALL])


USUAL = ("nag_step_f32_lower", "nag_step_f32_mask")
IN_CI = ("_".join(["adam_step_f32", *ALL]), "fista_step_f32_weight_array", "nag_step_f32_average", "nag_step_f32_l1")
MARKS = {**dict.fromkeys(USUAL, ()), **dict.fromkeys(IN_CI, pytest.mark.ci)}  # each is compiled twice
names = pytest.mark.parametrize("name", [pytest.param(x, marks=MARKS.get(x, pytest.mark.slow)) for x in sets()])


@names
def test_bits_of_the_public_step(name):
    """Also with every option that is not the usual one."""
    call = Call(name)
    flags = [x for x, kind in call.made.parameters.items() if kind == "flag"]
    for other, n in itertools.product((False, True), (203, 0)):
        changed = {x: not call.numbers[x] for x in flags} if other else {}
        here = {x: array[:n].copy() for x, array in call.arrays.items()}
        there = {x: array.copy() for x, array in here.items()}
        for _ in range(3):
            assert call.in_c(n, **here, **changed) == statuses.OK
            call.in_python(**there, **changed)
        assert_same_bits([*here.values()], [*there.values()])


def test_what_is_refused_writes_nothing():
    call = Call("nag_step_f32_lr_array_lower_array_upper_average_mask")
    before = {x: array.copy() for x, array in call.arrays.items()}

    def with_one(name, value):
        changed = call.arrays[name].copy()
        changed[77] = value
        return {name: changed}

    assert call.in_c(n=-1) == statuses.LENGTH
    for x in call.arrays:
        assert call.in_c(**{x: None}) == statuses.NULL
        if x not in ("params", "mask"):
            assert call.in_c(n=100, **{x: call.arrays["params"][99:]}) == statuses.OVERLAP
    assert call.in_c(mask=call.arrays["average"][200:].view(np.uint8)) == statuses.OVERLAP
    assert {call.in_c(**with_one("lr", bad)) for bad in (-0.1, np.nan, np.inf)} == {statuses.RATES}
    assert call.in_c(**with_one("lower", 0.6)) == statuses.BOUNDS
    assert {call.in_c(average_weight=bad) for bad in (-0.1, 1.1, np.nan)} == {statuses.HYPER}
    assert {call.in_c(upper=bad) for bad in (np.nan, np.inf)} <= {statuses.HYPER, statuses.BOUNDS}
    assert_same_bits([*call.arrays.values()], [*before.values()])
    assert call.in_c(lower=call.arrays["grads"] - 9) == statuses.OK
    assert not np.array_equal(call.arrays["params"], before["params"])


def test_arrays_that_are_only_read_may_be_one():
    call = Call("nag_step_f64_lower_array_upper_array")
    bound = np.full(203, 0.25)
    assert call.in_c(lower=bound, upper=bound) == statuses.OK
    assert (call.arrays["params"] == 0.25).all()


def test_an_array_of_weight_decays_that_are_zero_is_no_other_rule():
    """Nesterov's rule has kernels of its own for no weight decay, which a pointer cannot choose."""
    call = Call("nag_step_f32_weight_decay_array")
    call.arrays["weight_decay"][:] = 0
    plain = Call("nag_step_f32")
    for x in ("params", "grads", "vel"):
        plain.arrays[x] = call.arrays[x].copy()
    assert call.in_c() == plain.in_c() == statuses.OK
    assert_same_bits([call.arrays["params"], call.arrays["vel"]], [plain.arrays["params"], plain.arrays["vel"]])


def test_names():
    assert ordered(["mask", "lower"]) == ("lower", "mask")
    assert split("adam_step_f32_lower_array_l1_mask") == ("adam_step_f32", ("lower_array", "l1", "mask"))
    assert split("adam_step_f32_mask_lower") == ("adam_step_f32_mask_lower", ())
    for words in (ALL, ("scaled_l1",), ("weight_decay_array", "average")):
        for name in c_functions(*words):
            own, found = split(name)
            assert own in c_functions()
            assert (found, "_".join([own, *found])) == (words, name)
    assert not any(x.startswith("fista") for x in c_functions("l1"))
    assert not any(x.startswith("nag_") for x in c_functions("scaled_l1"))
    with pytest.raises(ValueError, match=r"'maks' is no part of a step; .*did you mean 'mask'"):
        c_functions("maks")
    with pytest.raises(ValueError, match="l1 and scaled_l1 are given"):
        c_functions("l1", "scaled_l1")
    with pytest.raises(ValueError, match="nag_step_f32 cannot be composed with scaled_l1"):
        c_address("nag_step_f32_scaled_l1")


PROGRAM = r"""
#include <stdio.h>
#include "nagd_numba.h"

int main(void)
{
    double x[3] = {0}, g[3], v[3] = {0}, mean[3] = {0};
    const uint8_t mask[3] = {1, 1, 0};
    int k, i, status = NAGD_OK;
    for (k = 1; k <= 100; k++) {
        for (i = 0; i < 3; i++) g[i] = x[i] - (1 - i);
        status |= nagd_nag_step_f64_lower_average_mask(x, g, v, mean, mask, 3, 0.5, 0.5, 0.5, NAGD_CONVENTION_TORCH, 1,
            0.0, 0, 0, -0.25, 1.0 / k);
    }
    for (i = 0; i < 3; i++) printf("%a %a\n", x[i], mean[i]);
    return status;
}
"""


@pytest.mark.slow
def test_a_program_with_the_exported_functions(tmp_path):
    assert main(["export", str(tmp_path), "--with", "mask,lower,average"]) == 0
    (tmp_path / "program.c").write_text(PROGRAM)
    program = tmp_path / "program"
    run(tool("gcc"), *STRICT, "-std=c99", tmp_path / "program.c", tmp_path / "nagd_numba.o", "-lm", "-o", program)
    printed = [float.fromhex(x) for x in run(program, env={}).split()]
    x, v, mean = np.zeros(3), np.zeros(3), np.zeros(3)
    for k in range(1, 101):
        step = function_of("nag_step_f64")[0].step
        step(x, x - [1, 0, -1], v, 0.5, 0.5, lower=-0.25, average=(mean, 1 / k), mask=np.array([True, True, False]))
    assert printed == [*itertools.chain(*zip(x, mean, strict=True))]
    assert abs(x[0] - 1) < 1e-6


def test_the_module_is_fortran(tmp_path):
    module = text.fortran("here", [ALL, ("scaled_l1",)])
    (tmp_path / "nagd_numba.f90").write_text(module)
    assert "interface nagd_nag_step_lr_array_lower_upper_array_l1_average_mask" in module
    assert "! Too long for names in Fortran: schedule_free_sgd_step_f32_lr_array" in module
    run(
        tool("gfortran"), "-std=f2008", "-Wall", "-Wextra", "-pedantic", "-Werror", "-c", "nagd_numba.f90", cwd=tmp_path
    )
