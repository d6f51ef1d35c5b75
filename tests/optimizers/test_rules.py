"""What every rule in the registry must do, on every backend: the common suite of a new rule."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from llvmlite import binding
from numba import types

from nagd_numba.kernels import elementwise, loops, statuses
from nagd_numba.kernels.array_call import UNFIT, ArrayCall
from nagd_numba.kernels.jit import SIMULATOR
from nagd_numba.kernels.linking import linked
from nagd_numba.kernels.segments import Step, Table
from nagd_numba.optimizers._host import apply
from nagd_numba.optimizers.registry import RULES
from tests.helpers.backends import BACKENDS, JIT_OFF, LONGEST
from tests.helpers.bits import assert_same_bits

DTYPES = (np.float32, np.float64)

rules = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)


def way(backend, dtype, name):
    """A backend, a dtype and a rule; a repeat where two of the three are shown elsewhere, since each compiles.

    Users' compiled functions have a test for every rule of their own, in `test_in_compiled_code.py`.
    """
    first = name == "nesterov" or (dtype is np.float32 and backend.name not in ("njit", "prange", "strided"))
    again = pytest.mark.ci if dtype is np.float32 and backend.name == "strided" else pytest.mark.slow
    marks = () if first or backend is BACKENDS[0] else again
    return pytest.param(backend, dtype, RULES[name], marks=marks, id=f"{backend.name}-{dtype.__name__}-{name}")


ways = pytest.mark.parametrize(
    ("backend", "dtype", "rule"),
    [way(backend, dtype, name) for backend in BACKENDS for dtype in DTYPES for name in RULES],
    indirect=["backend"],
)


options_ways = pytest.mark.parametrize(
    ("backend", "rule"),
    [
        pytest.param(
            *(backend, rule),
            id=f"{backend.name}-{name}",
            marks=pytest.mark.ci if name == "nesterov" or backend.name == "serial" else pytest.mark.slow,
        )
        for backend in BACKENDS
        for name, rule in RULES.items()
    ],
    indirect=["backend"],
)


def covering(rule):
    """A few variants in which every value of every option occurs; each costs a compilation per backend."""
    rows = max(len(values) for values in rule.options.values())
    return [tuple(values[k % len(values)] for values in rule.options.values()) for k in range(rows)]


def values(limits):
    """Some values of a hyper-parameter."""
    steps = [0, 1, 2, 40, 1000] if limits.whole else [0.0, 2.0**-7, 0.01, 0.3, 0.9, 0.999]
    return st.sampled_from([float(limits.low + x) for x in steps if limits.holds(limits.low + x)])


def made_states(rule, dtype, gradients, hyper):
    """What the rule itself leaves after two steps: a state need not be able to hold any number."""
    made = [np.zeros(gradients[0].size, dtype) for _ in rule.states]
    for g in gradients:
        BACKENDS[0].run(rule, np.zeros(g.size, dtype), g, made, hyper, rule.defaults())
    return made


@st.composite
def problems(draw, rule, dtype, variants=1):
    """Random parameters, gradients, states, hyper-parameters and options (of the first variants) for a rule."""
    n = draw(st.integers(0, LONGEST))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = 2.0 ** draw(st.integers(-20, 20))
    p, g, *before = ((rng.normal(size=n) * scale).astype(dtype) for _ in range(4))
    hyper = tuple(draw(values(rule.range_of(name))) for name in rule.hyper)
    options = draw(st.sampled_from(covering(rule)[:variants]))
    return [p, g, *made_states(rule, dtype, before, tuple(rule.hyper.values()))], hyper, options


def reference(rule, arrays, hyper, options):
    """Copies of (params, *states) after the serial kernel's step."""
    p, g, *states = (x.copy() for x in arrays)
    BACKENDS[0].run(rule, p, g, states, hyper, options)
    return [p, *states]


@ways
@given(data=st.data())
def test_backends_agree_to_the_last_bit(rule, dtype, backend, data):
    arrays, hyper, options = data.draw(problems(rule, dtype))
    p, g, *states = (x.copy() for x in arrays)
    backend.run(rule, p, g, states, hyper, options)
    assert_same_bits([p, *states], reference(rule, arrays, hyper, options))
    assert_same_bits([g], [arrays[1]])  # gradients are left alone


@options_ways
@given(data=st.data())
def test_backends_agree_with_every_option(rule, backend, data):
    arrays, hyper, options = data.draw(problems(rule, np.float32, variants=None))
    p, g, *states = (x.copy() for x in arrays)
    backend.run(rule, p, g, states, hyper, options)
    assert_same_bits([p, *states], reference(rule, arrays, hyper, options))


@ways
@given(data=st.data())
def test_permuting_elements_permutes_the_result(rule, dtype, backend, data):
    arrays, hyper, options = data.draw(problems(rule, dtype))
    order = np.random.default_rng(0).permutation(arrays[0].size)
    p, g, *states = (x[order] for x in arrays)
    backend.run(rule, p, g, states, hyper, options)
    assert_same_bits([p, *states], [x[order] for x in reference(rule, arrays, hyper, options)])


@ways
@given(data=st.data())
def test_chunks_and_alignment_change_nothing(rule, dtype, backend, data):
    arrays, hyper, options = data.draw(problems(rule, dtype))
    n = arrays[0].size
    expected = reference(rule, arrays, hyper, options)
    offset = data.draw(st.integers(0, 7))
    shifted = [np.zeros(n + offset, dtype)[offset:] for _ in arrays]
    for x, y in zip(shifted, arrays, strict=True):
        x[...] = y
    cuts = sorted(data.draw(st.lists(st.integers(0, n), max_size=3)))
    for start, stop in zip([0, *cuts], [*cuts, n], strict=True):
        p, g, *states = (x[start:stop] for x in shifted)
        backend.run(rule, p, g, states, hyper, options)
    assert_same_bits([shifted[0], *shifted[2:]], expected)


@ways
@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_a_bad_element_stays_alone(rule, dtype, backend, poison):
    rng = np.random.default_rng(1)
    n, at = 37, 17
    hyper = tuple(rule.hyper.values())
    p, g, *before = (rng.normal(size=n).astype(dtype) for _ in range(4))
    arrays = [p, g, *made_states(rule, dtype, before, hyper)]
    expected = reference(rule, arrays, hyper, rule.defaults())
    arrays[1][at] = poison
    p, g, *states = arrays
    backend.run(rule, p, g, states, hyper, rule.defaults())
    others = np.arange(n) != at
    assert_same_bits([x[others] for x in (p, *states)], [x[others] for x in expected])
    assert not np.isfinite([x[at] for x in (p, *states)]).all()  # the sign of infinity is finite, an average is not


@rules
@pytest.mark.skipif(SIMULATOR, reason="threads are the CPU's")
def test_thread_count_changes_nothing(rule):
    import numba

    rng = np.random.default_rng(2)
    hyper = tuple(rule.hyper.values())
    p, g, *before = (rng.normal(size=100_003).astype(np.float32) for _ in range(4))
    arrays = [p, g, *made_states(rule, np.float32, before, hyper)]
    expected = reference(rule, arrays, hyper, rule.defaults())
    most = numba.get_num_threads()
    try:
        for threads in range(1, most + 1):
            numba.set_num_threads(threads)
            p, g, *states = (x.copy() for x in arrays)
            BACKENDS[1].run(rule, p, g, states, hyper, rule.defaults())
            assert_same_bits([p, *states], expected)
    finally:
        numba.set_num_threads(most)


@rules
@pytest.mark.parametrize("bad", [-0.1, np.nan, np.inf, -np.inf])
def test_bad_hyper_parameters_write_nothing(rule, bad):
    n = 5
    for k, name in enumerate(rule.hyper):
        arrays = [np.ones(n) for _ in range(2 + len(rule.states))]
        hyper = list(rule.hyper.values())
        hyper[k] = bad
        p, g, *states = arrays
        step = Step(rule, rule.defaults(), p.dtype, None)
        assert step(Table.of([arrays]), hyper) == statuses.HYPER
        with pytest.raises(ValueError, match=f"{name} is "):
            apply(rule, p, g, states, dict(zip(rule.hyper, hyper, strict=True)), rule.defaults())
        assert all((x == 1).all() for x in arrays)


@pytest.mark.skipif(JIT_OFF, reason="nothing is compiled, so nothing reads objects")
@rules
def test_compiled_calls_refuse_overlap_and_lengths(rule):
    """The checks inside the compiled call, on which the fast path of a step relies."""
    made, hyper = ArrayCall(len(rule.states), len(rule.hyper)), tuple(map(float, rule.hyper.values()))
    made.enable(Step(rule, rule.defaults(), np.dtype(np.float32), None), np.dtype(np.float32))
    kernel = made.call
    buffer = np.ones(100, np.float32)
    count = 2 + len(rule.states)
    apart = [buffer[10 * k : 10 * k + 10] for k in range(count)]  # adjacent, not overlapping
    for i in range(count):
        for j in range(i):
            overlapping = list(apart)
            overlapping[i] = buffer[10 * j + 9 : 10 * j + 19]  # one shared element
            p, g, *states = overlapping
            assert kernel(p, g, tuple(states), hyper) == UNFIT
        short = list(apart)
        short[i] = short[i][:9]
        p, g, *states = short
        assert kernel(p, g, tuple(states), hyper) == UNFIT
    assert (buffer == 1).all()
    p, g, *states = apart
    assert kernel(p, g, tuple(states), hyper) == statuses.OK
    assert (p != 1).any()


@pytest.mark.parametrize(
    "rule",
    [
        pytest.param(rule, id=name, marks=() if name in ("nesterov", "adam") else pytest.mark.ci)
        for name, rule in RULES.items()
    ],
)
@pytest.mark.skipif(JIT_OFF, reason="reads the machine code that the JIT makes")
@pytest.mark.skipif(not binding.get_host_cpu_features().get("avx2", False), reason="looks for AVX2 instructions")
def test_loops_are_vectorised(rule, monkeypatch):
    """The float32 loop works on vector registers and in float32 alone."""
    monkeypatch.setenv("NAGD_NUMBA_CACHE", "0")  # cached kernels cannot be inspected
    loop = loops.over_range.bind("inspected", update=rule.update, OPTIONS=rule.defaults())
    code = "\n".join(linked(loop, elementwise.loop_interface(rule, types.float32)).kernel.inspect_asm().values())
    loop_arithmetic = re.findall(r"\bv(?:add|mul|fn?m(?:add|sub)\d*)([ps][sd])\s.*([xyz])mm", code)
    assert ("ps", "y") in loop_arithmetic or ("ps", "z") in loop_arithmetic
    # Constants may be computed in float64, once, as scalars; nothing in a loop is.
    assert not [kind for kind, _ in loop_arithmetic if kind == "pd"]
