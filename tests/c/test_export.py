"""The steps as C functions in this process: by their address, and from object code."""

import ctypes
import inspect
import itertools
import threading

import numpy as np
import pytest

from nagd_numba import c_address, c_functions
from nagd_numba.c import export
from nagd_numba.c.functions import PREFIX, functions, steps
from nagd_numba.cli.main import main
from nagd_numba.kernels import statuses
from nagd_numba.kernels.jit import SIMULATOR
from nagd_numba.optimizers.optimizer import PYTHON_ONLY
from nagd_numba.optimizers.registry import RULES
from tests.helpers.backends import JIT_OFF
from tests.helpers.bits import assert_same_bits
from tests.helpers.c_programs import STRICT, run, tool

pytestmark = pytest.mark.skipif(JIT_OFF or SIMULATOR, reason="is about compiled code on the CPU")

FUNCTIONS = functions()
names = pytest.mark.parametrize("name", FUNCTIONS)
# Each call that is compared compiles the step from Python: in float64 one of the steps; the others are slow.
compared = pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name.endswith("f64") and name != "nag_step_f64" else ())
        for name in FUNCTIONS
    ],
)
CTYPES = {
    "read": ctypes.c_void_p,
    "written": ctypes.c_void_p,
    "length": ctypes.c_int64,
    "real": ctypes.c_double,
    "whole": ctypes.c_int64,
    "choice": ctypes.c_int,
    "flag": ctypes.c_int,
}


def keywords_of(made):
    """Calls in which every value of every option occurs; one of them with the defaults."""
    given = inspect.signature(made.step).parameters
    kinds = {x: made.parameters[x] for x in made.optimizer.settings}
    usual = {x: given[x].default for x in kinds}
    without = {x: 3 if kinds[x] == "whole" else 2.5 for x in kinds if usual[x] is inspect.Parameter.empty}
    calls = []
    for k in range(max([4, *map(len, made.choices.values())])):
        call = dict(without)
        if k > 0:
            call |= {x: allowed[k % len(allowed)] for x, allowed in made.choices.items()}
            call |= {x: not usual[x] for x, kind in kinds.items() if kind == "flag" and k % 2 == 1}
            call |= {x: 0.1 for x, kind in kinds.items() if kind == "real" and usual[x] == 0 and k < 3}
            call |= {x: 0.5 for x in kinds if usual[x] is None}
            call |= {x: k + 1 for x, kind in kinds.items() if kind == "whole" and x not in without}
        calls.append(call)
    return calls


KEYWORDS = {made.name: keywords_of(made) for made in steps()}
KEYWORDS["nag_step"].append({"momentum": 0.0, "weight_decay": 0.1, "decoupled": True})


def library(folder, code):
    """A shared library of object code."""
    (folder / "steps.o").write_bytes(code)
    target = folder / "steps.so"
    run(tool("gcc"), "-shared", "-o", target, folder / "steps.o", "-lm", "-Wl,-z,text", "-Wl,--fatal-warnings")
    return ctypes.CDLL(str(target))


def typed(name, function):
    function.argtypes = [CTYPES[kind] for kind in FUNCTIONS[name][0].parameters.values()]
    function.restype = ctypes.c_int
    return function


def from_address(name):
    made = [CTYPES[kind] for kind in FUNCTIONS[name][0].parameters.values()]
    return ctypes.CFUNCTYPE(ctypes.c_int, *made)(c_address(name))


@pytest.fixture(scope="session")
def loaded(exported, tmp_path_factory):
    return library(tmp_path_factory.mktemp("loaded"), (exported / "nagd_numba.o").read_bytes())


@pytest.fixture(params=["address", "object"])
def c(request, exported):
    """`c(name)` is a C function; those behind an address lie on the disk once they were exported."""
    if request.param == "address":
        return from_address
    there = request.getfixturevalue("loaded")
    return lambda name: typed(name, getattr(there, PREFIX + name))


def arrays(name, n, seed=0):
    """Parameters, gradients and states; squares are not negative."""
    made, dtype = FUNCTIONS[name]
    rng = np.random.default_rng(seed)
    p, g, *states = (rng.normal(size=n).astype(dtype) for _ in range(2 + len(made.rule.states)))
    return [p, g, *map(np.abs, states)]


def arguments(name, given, n=None, **keywords):
    """The arguments in C of a call in Python."""
    made, _ = FUNCTIONS[name]
    usual = {x: parameter.default for x, parameter in inspect.signature(made.step).parameters.items()}
    chosen = usual | keywords
    if "momentum_next" in chosen and chosen["momentum_next"] is None:
        chosen["momentum_next"] = chosen["momentum"]
    values = [None if x is None else x.ctypes.data if isinstance(x, np.ndarray) else x for x in given]
    values.append(given[0].size if n is None else n)
    for x, kind in list(made.parameters.items())[len(values) :]:
        value = chosen[x]
        values.append(made.choices[x].index(value) if kind == "choice" and isinstance(value, str) else value)
    return values


@compared
def test_bits_of_the_public_step(c, name):
    function, (made, _) = c(name), FUNCTIONS[name]
    for n, keywords in itertools.product((0, 1, 1003), KEYWORDS[made.name]):
        here, there = arrays(name, n), arrays(name, n)
        for _ in range(3):
            made.step(*here, **keywords)
            assert function(*arguments(name, there, **keywords)) == statuses.OK
        assert_same_bits(there, here)


def test_every_rule_and_every_option_is_there():
    assert {made.rule.name for made, _ in FUNCTIONS.values()} == set(RULES)
    for made, _ in FUNCTIONS.values():
        public = set(inspect.signature(made.step).parameters) - (set(PYTHON_ONLY) - set(made.choices))
        assert set(made.parameters) - {"n"} == public
        for x, allowed in made.choices.items():
            used = {keywords.get(x, allowed[0]) for keywords in KEYWORDS[made.name]}
            assert used == set(allowed)


@names
def test_what_is_refused_writes_nothing(c, name):
    function, (made, dtype) = c(name), FUNCTIONS[name]
    memory = arrays(name, 10)
    before = [x.copy() for x in memory]
    t = {"t": 1} if "t" in made.parameters else {}

    def status(given=memory, n=None, **keywords):
        return function(*arguments(name, given, n, **t | keywords))

    assert status(n=-1) == status(n=2**63 - 1) == status(n=2**63 // dtype.itemsize) == statuses.LENGTH
    for k in range(len(memory)):
        without = [*memory[:k], None, *memory[k + 1 :]]
        assert status(without, n=10) == statuses.NULL
        assert status(without, n=0) == statuses.OK
        for j in range(k):
            shared = [*memory[:k], memory[j][9:], *memory[k + 1 :]]
            assert status(shared, n=10) == statuses.OVERLAP
    for x, kind in made.parameters.items():
        if kind == "real":
            limits = made.rule.range_of(x)
            assert {status(**{x: bad}) for bad in (-0.1, np.nan, np.inf, limits.below)} == {statuses.HYPER}
        elif kind == "whole":
            limits = made.rule.range_of(x)
            unfit = {int(limits.low) - 1, -1, int(limits.below)}
            assert {status(**{x: bad}) for bad in unfit} == {statuses.HYPER}
        elif kind == "choice":
            assert {status(**{x: bad}) for bad in (-1, len(made.choices[x]))} == {statuses.HYPER}
    if dtype == np.float32:
        assert status(lr=1e39) == statuses.HYPER  # infinite in float32
    assert_same_bits(memory, before)
    assert status() == statuses.OK
    assert not np.array_equal(memory[0], before[0])


def test_any_truth_is_a_flag(c):
    function = c("nag_step_f32")
    given = {"weight_decay": 0.1, "convention": "caffe"}
    made = []
    for flag in (1, -1, 256):
        memory = arrays("nag_step_f32", 50)
        flags = {"decoupled": flag, "maximize": flag, "nesterov": flag}
        assert function(*arguments("nag_step_f32", memory, **given, **flags)) == statuses.OK
        made.append(memory)
    assert_same_bits(made[0], made[1])
    assert_same_bits(made[0], made[2])


def test_addresses():
    assert list(c_functions()) == list(FUNCTIONS)
    assert "nag_step_f32" in c_functions()
    assert c_address("nag_step_f32") == c_address("nag_step_f32")
    with pytest.raises(ValueError, match=r"name is 'nag_step'; one of .* is needed; did you mean 'nag_step_f"):
        c_address("nag_step")


THREADS = r"""
#include <pthread.h>
#include <stdint.h>

typedef int step(float *, const float *, float *, int64_t, double, double, double, int, int, double, int, int);
typedef struct { step *function; float *p, *g, *v; int64_t n; int status; } part;

static void *work(void *given)
{
    part *mine = given;
    for (int k = 0; k < 100 && mine->status == 0; k++)
        mine->status = mine->function(mine->p, mine->g, mine->v, mine->n, 0.01, 0.9, 0.9, 0, 1, 0.0, 0, 0);
    return 0;
}

int run(step *function, float *p, float *g, float *v, int64_t n)
{
    enum { COUNT = 4 };
    pthread_t threads[COUNT];
    part parts[COUNT];
    int status = 0;
    for (int k = 0; k < COUNT; k++) {
        int64_t from = k * n / COUNT, to = (k + 1) * n / COUNT;
        parts[k] = (part){function, p + from, g + from, v + from, to - from, 0};
        pthread_create(&threads[k], 0, work, &parts[k]);
    }
    for (int k = 0; k < COUNT; k++) {
        pthread_join(threads[k], 0);
        status |= parts[k].status;
    }
    return status;
}
"""


def test_threads_that_python_knows_nothing_of(exported, tmp_path):
    """They run while this thread keeps Python's lock: code that wanted it would wait for ever."""
    (tmp_path / "threads.c").write_text(THREADS)
    run(tool("gcc"), *STRICT, "-shared", "-fPIC", "-pthread", "-o", tmp_path / "threads.so", tmp_path / "threads.c")
    name = "nag_step_f32"
    here, there = arrays(name, 10_007), arrays(name, 10_007)
    holding = ctypes.PyDLL(str(tmp_path / "threads.so")).run
    pointers = [x.ctypes.data_as(ctypes.c_void_p) for x in there]
    assert holding(ctypes.c_void_p(c_address(name)), *pointers, ctypes.c_int64(10_007)) == statuses.OK
    for _ in range(100):
        FUNCTIONS[name][0].step(*here)
    assert_same_bits(there, here)


def test_threads_of_python(exported):
    name = "adam_step_f64"
    function = from_address(name)
    here, there = arrays(name, 4000), arrays(name, 4000)

    def work(k):
        part = [x[1000 * k : 1000 * k + 1000] for x in there]
        for t in range(1, 51):
            assert function(*arguments(name, part, t=t)) == statuses.OK

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for t in range(1, 51):
        FUNCTIONS[name][0].step(*here, t)
    assert_same_bits(there, here)


@pytest.mark.skipif("x86-64" not in export.processors(), reason="processors without fma are x86s")
def test_processors_without_fma_have_the_same_bits(exported, tmp_path, monkeypatch):
    some = ("nag_step_f32", "adamw_step_f64")  # each is compiled anew here
    monkeypatch.setattr(export, "functions", lambda words: {name: FUNCTIONS[name] for name in some})
    assert main(["export", str(tmp_path), "--cpu", "x86-64"]) == 0
    assert "library's fma" in (tmp_path / "nagd_numba.h").read_text()
    assert "library's fma" not in (exported / "nagd_numba.h").read_text()
    made_here = library(tmp_path, (tmp_path / "nagd_numba.o").read_bytes())
    undefined = run(tool("nm"), "-u", tmp_path / "nagd_numba.o").split()
    assert {"fma", "fmaf"} <= set(undefined) <= {"U", "fma", "fmaf", "pow"}
    for name in some:
        made, _ = FUNCTIONS[name]
        function = typed(name, getattr(made_here, PREFIX + name))
        for keywords in KEYWORDS[made.name]:
            here, there = arrays(name, 103), arrays(name, 103)
            made.step(*here, **keywords)
            assert function(*arguments(name, there, **keywords)) == statuses.OK
            assert_same_bits(there, here)
