"""Tables drawn at random: those that programs write come back to the bit, and any others end in one line."""

import csv
import io

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from nagd_numba.cli.data import DataError
from tests.helpers.tables import load

LABELS = st.lists(
    st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=5), min_size=2, max_size=4, unique=True
)


@given(
    X=st.lists(st.lists(st.floats(-1e300, 1e300), min_size=3, max_size=3), min_size=12, max_size=20),
    labels=LABELS,
    delimiter=st.sampled_from(",;\t|"),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    decimal=st.sampled_from([".", ","]),
    header=st.sampled_from([None, ["a", "b, c", "d;e", "the label"]]),
)
@settings(max_examples=60)
def test_what_is_written_comes_back(tmp_path, X, labels, delimiter, quoting, end, encoding, decimal, header):
    y = [f"_{labels[i % len(labels)]}_" for i in range(len(X))]  # no number and no missing value
    file = io.StringIO()
    writer = csv.writer(file, delimiter=delimiter, quoting=quoting, lineterminator=end)
    if header:
        writer.writerow(header)
    for row, label in zip(X, y, strict=True):
        writer.writerow([*(repr(x).replace(".", decimal) for x in row), label])
    given_form = {"delimiter": delimiter, "header": header is not None, "decimal": decimal}
    data = load(tmp_path, file.getvalue().encode(encoding), **given_form)
    np.testing.assert_array_equal(data.X, X)
    assert [str(label) for label in data.classes[data.y]] == y


@given(
    X=st.lists(st.lists(st.floats(0.5, 1e6), min_size=2, max_size=2), min_size=12, max_size=20),
    delimiter=st.sampled_from(",;\t|"),
    decimal=st.sampled_from([".", ","]),
    header=st.booleans(),
    index=st.booleans(),
)
@settings(max_examples=60)
def test_what_is_written_is_understood_without_options(tmp_path, X, delimiter, decimal, header, index):
    X = [[0.5, 0.25], *X]  # no thousands
    names = [["", "width", "height", "kind"]] if header else []
    lines = [[str(i), *(repr(x).replace(".", decimal) for x in row), f"k{i % 3}"] for i, row in enumerate(X)]
    file = io.StringIO()
    rows = names + lines
    csv.writer(file, delimiter=delimiter).writerows(rows if index else [row[1:] for row in rows])
    data = load(tmp_path, file.getvalue())
    np.testing.assert_array_equal(data.X[:, -2:], X)
    assert data.X.shape[1] == (3 if index and not header else 2)
    assert len(data.classes) == 3


@given(
    st.one_of(
        st.binary(max_size=80),
        st.text('01,;.|"\n\r\t ab-_=sep\0é\ud800', max_size=120).map(lambda x: x.encode("utf-8", "surrogatepass")),
        st.lists(st.text('12,."\n;a', min_size=3, max_size=8), min_size=10, max_size=30).map(
            lambda lines: "\n".join(lines).encode()
        ),
    ),
    st.sampled_from([None, True, False]),
    st.sampled_from([None, "0", "-1", "a", "7"]),
)
@settings(max_examples=300)
def test_any_file_is_read_or_refused_in_one_line(tmp_path, content, header, label):
    try:
        data = load(tmp_path, content, header=header, label=label)
    except DataError as error:
        message = str(error)
        assert message.startswith(f"{tmp_path / 'table.csv'}: ")
        assert message.isprintable()
        assert len(message) < 1000
    else:
        assert np.isfinite(data.X).all()
        assert data.understood.isprintable()


def test_an_index_before_tabs(tmp_path):
    data = load(tmp_path, "\ta\ty\n" + "".join(f"{i}\t{i}.5\t{i % 2}\n" for i in range(12)), name="x.tsv")
    np.testing.assert_array_equal(data.X[:, 0], np.arange(12) + 0.5)
