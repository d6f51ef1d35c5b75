"""`rng=` takes what `numpy.random.default_rng` does, in every public function that has a seed."""

import numpy as np
import pytest

import nagd_numba
from nagd_numba.kernels.jit import SIMULATOR
from tests.helpers.backends import JIT_OFF

KINDS = [
    5,
    [1, 2],
    np.random.SeedSequence(5),
    np.random.PCG64(5),
    np.random.default_rng(5),
]


def net():
    return nagd_numba.MLP([2, 3, 1], loss="mse", dtype="float64")


@pytest.mark.parametrize("rng", KINDS, ids=lambda kind: type(kind).__name__)
def test_init_has_the_generators_of_numpy(rng):
    kinds = {"int": 5, "list": [1, 2]}
    expected = net().init(kinds.get(type(rng).__name__, 5))
    fresh = {"PCG64": lambda: np.random.PCG64(5), "Generator": lambda: np.random.default_rng(5)}
    rng = fresh.get(type(rng).__name__, lambda: rng)()
    assert np.array_equal(net().init(rng=rng), expected)


def test_a_generator_goes_on():
    rng = np.random.default_rng(5)
    first, second = net().init(rng=rng), net().init(rng=rng)
    assert not np.array_equal(first, second)
    assert np.array_equal(first, net().init(5))
    assert not np.array_equal(net().init(), net().init())


def test_rounding_has_a_seed_that_is_drawn():
    drawn = int(np.random.default_rng(5).integers(0, 1 << 64, dtype=np.uint64))
    for rng in (5, np.random.default_rng(5)):
        assert nagd_numba.StochasticRounding(rng=rng).seed == drawn
    assert nagd_numba.StochasticRounding(5).seed == 5
    with pytest.raises(TypeError, match="StochasticRounding: seed is None"):
        nagd_numba.StochasticRounding()


def fitted(**more):
    random = np.random.default_rng(0)
    X, y = random.normal(size=(20, 2)), random.normal(size=(20, 1))
    params = net().init(0)
    net().fit(params, X, y, epochs=2, batch_size=5, **more)
    return params


@pytest.mark.skipif(JIT_OFF or SIMULATOR, reason="trains compiled networks")
def test_fit_and_fit_many():
    drawn = int(np.random.default_rng(5).integers(0, 1 << 64, dtype=np.uint64))
    expected = fitted(seed=drawn)
    assert not np.array_equal(fitted(seed=0), expected)
    assert np.array_equal(fitted(rng=5), expected)
    assert np.array_equal(fitted(rng=np.random.default_rng(5)), expected)

    random = np.random.default_rng(0)
    X, y = random.normal(size=(20, 2)), random.normal(size=(20, 1))
    params = np.stack([net().init(0)] * 2)
    nagd_numba.fit_many(net(), params, X, y, epochs=2, batch_size=5, rng=5)
    assert np.array_equal(params[0], expected)
    assert np.array_equal(params[1], fitted(seed=(drawn + 1) % 2**64))
    params = np.stack([net().init(0)] * 2)
    nagd_numba.fit_many(net(), params, X, y, epochs=1, batch_size=5, rng=5, validation=0.2)
    assert np.array_equal(params[0], params[1])


@pytest.mark.parametrize(
    "use",
    [
        lambda **more: net().init(**more),
        lambda **more: nagd_numba.StochasticRounding(**more),
        fitted,
    ],
)
def test_what_is_refused(use):
    with pytest.raises(ValueError, match="seed is 3, and rng is given as well"):
        use(seed=3, rng=4)
    with pytest.raises((TypeError, ValueError), match=r"rng is 'x'; what numpy\.random\.default_rng takes is needed"):
        use(rng="x")
    with pytest.raises((TypeError, ValueError), match="rng is -1; what numpy"):
        use(rng=-1)
