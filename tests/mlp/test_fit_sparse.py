"""Training on a sparse X: the bits of the dense one, from the stored values alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nagd_numba import MLP, fit_many
from nagd_numba.mlp.cpu import trainer
from tests.helpers.backends import JIT_OFF
from tests.helpers.training import assert_same, fitted, problem

sparse = pytest.importorskip("scipy.sparse")
compiled = pytest.mark.skipif(JIT_OFF, reason="takes long without compilation")


def samples(sizes, rows, density=0.2, dtype="float32", seed=0, **options):
    """A network and data of which most elements are 0, some columns and rows wholly."""
    net, params, X, y = problem(sizes, rows, seed, dtype=dtype, **options)
    random = np.random.default_rng(seed)
    X[random.random(X.shape) >= density] = 0
    X[:, random.random(sizes[0]) < 0.2] = 0
    return net, params, X, y


def check(net, params, X, y, form=sparse.csr_array, **options):
    assert_same(fitted(net, params, form(X), y, **options), fitted(net, params, X, y, **options))


@compiled
@given(
    inputs=st.integers(1, 300),
    hidden=st.lists(st.integers(1, 40), max_size=2),
    rows=st.integers(1, 60),
    batch=st.integers(1, 60),
    density=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    seed=st.integers(0, 1000),
)
def test_the_bits_of_dense_data(inputs, hidden, rows, batch, density, seed):
    net, params, X, y = samples([inputs, *hidden, 3], rows, density, seed=seed)
    check(net, params, X, y, epochs=2, batch_size=batch)


@compiled
@pytest.mark.parametrize(
    ("about", "options"),
    [
        ({}, {"validation": 0.3, "metrics": ["accuracy"], "sample_weight": np.linspace(0, 1, 300), "batch_size": 300}),
        ({"dropout": 0.3, "l2": 0.1}, {"clip": 0.2, "accumulate": 3}),
        ({"activation": "tanh", "loss": "mse"}, {"optimizer": "gd"}),
        pytest.param({"dtype": "float64"}, {}, marks=pytest.mark.ci),
    ],
)
def test_everything_that_fit_offers(about, options):
    """Batches and layers of more than 128 terms too, whose sums are made in blocks."""
    net, params, X, y = samples((270, 35, 3), 300, **about)
    check(net, params, X, y, **{"epochs": 2, "batch_size": 140, **options})
    if options:
        other = samples((270, 35, 3), 100, seed=5, **about)[2:]
        validation = (sparse.csc_matrix(other[0]), other[1])
        options = {k: x for k, x in options.items() if k != "validation"}
        assert_same(
            fitted(net, params, X, y, **options, validation=validation),
            fitted(net, params, X, y, **options, validation=other),
        )


@compiled
@pytest.mark.parametrize("form", [sparse.csr_matrix, sparse.csc_array, sparse.coo_array, sparse.lil_array])
@pytest.mark.parametrize("kind", ["float64", "uint8", "int16", "bool"])
def test_every_form_and_dtype(form, kind):
    net, params, X, y = samples((20, 5, 3), 30)
    X = (8 * abs(X)).astype(kind)
    check(net, params, X, y, form)


def test_columns_that_are_not_sorted_or_there_twice():
    net, params, X, y = samples((20, 5, 3), 30)
    there = sparse.csr_array(X)
    data, places, starts = [], [], [0]
    for i in range(30):
        columns, values = (x[there.indptr[i] : there.indptr[i + 1]] for x in (there.indices, there.data))
        places += [*columns[::-1], *columns]
        data += [*(values[::-1] / 2), *(values / 2)]
        starts.append(len(places))
    twice = sparse.csr_array((np.array(data, np.float32), np.array(places, np.int64), starts), shape=X.shape)
    before = twice.data.copy()
    assert_same(fitted(net, params, twice, y, 1), fitted(net, params, X, y, 1))
    assert (twice.data == before).all()


@compiled
def test_many_networks_share_it():
    net, params, X, y = samples((150, 9, 3), 60)
    expected, got = (np.stack([params, params / 2, params / 3]) for _ in range(2))
    options = {"epochs": 2, "batch_size": 25, "optimizer": "adam", "lr": [0.01, 0.02, 0.03], "seed": [1, 2, 3]}
    fit_many(net, expected, X, y, **options)
    fit_many(net, got, sparse.csr_array(X), y, **options)
    assert got.tobytes() == expected.tobytes()


@compiled
def test_threads_have_no_influence(monkeypatch):
    net, params, X, y = samples((270, 35, 3), 300)
    expected = fitted(net, params, X, y, 2, 140)
    monkeypatch.setattr(trainer, "PARALLEL_FLOP", 1)
    assert_same(fitted(net, params, sparse.csr_array(X), y, 2, 140), expected)


@compiled
def test_no_dense_copy_is_made():
    """A million columns: dense rows of the data would need 8 GB, a batch of them 128 MB."""
    columns = 1_000_000
    random = np.random.default_rng(0)
    X = sparse.random_array((2000, columns), density=3e-6, rng=random, format="csr", dtype=np.float32)
    net = MLP([columns, 2], dtype="float32")
    params = np.zeros(net.size, np.float32)
    history = net.fit(params, X, random.integers(0, 2, 2000), epochs=1, batch_size=1000, lr=0.1)
    assert history.last("loss") == pytest.approx(np.log(2), rel=1e-3)
    touched = np.unique(X.indices)
    assert params.reshape(-1)[: 2 * columns].reshape(columns, 2).any(axis=1).sum() <= len(touched)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda X: X[:, :5], ValueError, r"X has shape \(30, 5\); this network has 20 inputs"),
        (lambda X: X.astype(complex), TypeError, "X has dtype complex128; real numbers are needed"),
        (lambda X: X * np.float32(np.inf), ValueError, r"X is -?inf in row \d+, column \d+; finite numbers are needed"),
        (lambda X: X.astype(float) * 1e300, ValueError, r"X is .*e\+\d+ in row \d+, column \d+; .* \(in float32\)"),
    ],
)
def test_refused_before_any_write(change, error, message):
    net, params, X, y = samples((20, 5, 3), 30)
    before = params.copy()
    with pytest.raises(error, match=f"^MLP.fit: {message}"):
        net.fit(params, change(sparse.csr_array(X)), y)
    with pytest.raises(ValueError, match=r"X is sparse, and training with comm or reproducible is for a dense one"):
        net.fit(params, sparse.csr_array(X), y, reproducible=True)
    inside = sparse.csr_array((np.ones(30), np.zeros(30, int), np.arange(31)), shape=(30, 20))
    inside.data = params[:30]
    with pytest.raises(ValueError, match=r"params and X.data overlap"):
        net.fit(params, inside, y)
    assert params.tobytes() == before.tobytes()


BROKEN = {
    "a column beyond the last": ({"indices": [0, 1, 2_000_000]}, "columns from 0 to below 4"),
    "a column before the first": ({"indices": [0, -2_000_000, 1]}, "columns from 0 to below 4"),
    "a row that ends beyond the values": ({"indptr": [0, 1, 2, 3, 30_000_000]}, "up to the 3 values"),
    "a row that ends before it begins": ({"indptr": [0, 3, 1, 3, 3]}, "do not fall"),
    "a row that begins before the values": ({"indptr": [-1_000_000, 1, 2, 3, 3]}, "begin at 0"),
    "too few rows": ({"indptr": [0, 1, 3]}, "must have 5 numbers"),
    "fewer columns than values": ({"indices": [0, 1]}, "up to the 2 values"),
}


def lying_matrix(**changes):
    X = sparse.csr_matrix((4, 4), dtype=np.float32)
    arrays = {"data": [1.0, 2.0, 3.0], "indices": [0, 1, 2], "indptr": [0, 1, 2, 3, 3], **changes}
    for name, x in arrays.items():
        setattr(X, name, np.array(x, np.float32 if name == "data" else np.int32))
    return X


@pytest.mark.parametrize(("changes", "message"), BROKEN.values(), ids=BROKEN)
def test_a_matrix_whose_arrays_lead_elsewhere_is_refused(changes, message):
    net = MLP([4, 5, 3])
    params = net.init(0)
    with pytest.raises(ValueError, match=message):
        net.fit(params, lying_matrix(**changes), np.array([0, 1, 2, 0]), epochs=1)
    assert (params == net.init(0)).all()


@compiled
def test_columns_out_of_order_beside_a_flag_that_says_in_order():
    changes = {"data": [1.0, 2.0, 3.0, 4.0], "indices": [2, 1, 0, 0], "indptr": [0, 2, 4, 4, 4]}
    X, honest = lying_matrix(**changes), lying_matrix(**changes)
    X.has_canonical_format = True
    net, y = MLP([4, 5, 3]), np.array([0, 1, 2, 0])
    assert_same(fitted(net, net.init(0), X, y), fitted(net, net.init(0), honest.toarray(), y))
