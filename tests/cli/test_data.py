"""Loading, checking, splitting and scaling samples."""

import csv
from pathlib import Path

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nagd_numba.cli.data import DataError, Samples, load_digits, load_file, split
from nagd_numba.cli.data.samples import checked
from nagd_numba.io import digits

ROWS = [[i / 2, -i, "even" if i % 2 == 0 else "odd"] for i in range(12)]


def write_csv(path, rows, delimiter=","):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    return path


def write_npz(path, **arrays):
    np.savez(path, **arrays)
    return path


def samples(n=40, classes=4):
    random = np.random.default_rng(0)
    return checked(random.normal(3, 5, (n, 3)), np.arange(n) % classes, "made up")


def test_digits_are_the_copy_of_scikit_learn():
    theirs = pytest.importorskip("sklearn.datasets").load_digits()
    ours = load_digits()
    np.testing.assert_array_equal(ours.X, theirs.data)
    np.testing.assert_array_equal(ours.classes[ours.y], theirs.target)


def test_digits_name_their_source():
    folder = Path(digits.__file__).parent
    with np.load(folder / "digits.npz", allow_pickle=False) as file:
        assert file["X"].dtype == file["y"].dtype == np.uint8
        source = str(file["source"])
    for text in (source, (folder / "DIGITS.md").read_text(encoding="utf-8")):
        for part in ("Alpaydin", "Kaynak", "10.24432/C50P49", "CC BY 4.0"):
            assert part in text


def test_a_header_of_numbers_over_numeric_labels(tmp_path):
    """What pandas writes for unnamed features and a named label."""
    rows = [[i / 2, -i, i % 2] for i in range(12)]
    named = load_file(write_csv(tmp_path / "named.csv", [["0", "1", "target"], *rows]))
    assert len(named.X) == 12
    assert list(named.classes) == [0, 1]
    assert len(load_file(write_csv(tmp_path / "bare.csv", rows)).X) == 12
    text = load_file(write_csv(tmp_path / "text.csv", ROWS))  # a text label in the first row is a label
    assert len(text.X) == 12


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("header", [None, ["a", "b", "kind"]])
def test_csv_with_and_without_a_header(tmp_path, header, delimiter):
    rows = ROWS if header is None else [header, *ROWS]
    data = load_file(write_csv(tmp_path / "x.csv", rows, delimiter))
    np.testing.assert_array_equal(data.X, [row[:2] for row in ROWS])
    assert list(data.classes[data.y]) == [row[2] for row in ROWS]


@pytest.mark.parametrize("label", ["kind", "0", "-3"])
def test_csv_label_column(tmp_path, label):
    rows = [["kind", "a", "b"], *([row[2], *row[:2]] for row in ROWS)]
    data = load_file(write_csv(tmp_path / "x.csv", rows), label)
    np.testing.assert_array_equal(data.X, [row[:2] for row in ROWS])
    assert list(data.classes) == ["even", "odd"]


def test_csv_with_byte_order_mark_blank_lines_and_integer_labels(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("\ufeff" + "".join(f"{i}.5, {i % 3}\n\n" for i in range(10)), encoding="utf-8")
    data = load_file(path)
    np.testing.assert_array_equal(data.X[:, 0], np.arange(10) + 0.5)
    np.testing.assert_array_equal(data.classes, [0, 1, 2])
    np.testing.assert_array_equal(data.y, np.arange(10) % 3)


def test_a_name_among_numbers_makes_the_first_row_a_header(tmp_path):
    data = load_file(write_csv(tmp_path / "x.csv", [["2019", "2020", "kind"], *ROWS]), "kind")
    assert len(data.X) == len(ROWS)


@pytest.mark.parametrize("dtype", ["int8", "uint64", "bool", "U3", "S3"])
def test_npz_label_types(tmp_path, dtype):
    y = (np.arange(12) % 2).astype(dtype)
    data = load_file(write_npz(tmp_path / "x.npz", X=np.arange(24).reshape(12, 2), y=y, more=np.zeros(3)))
    assert data.X.dtype == np.float64
    np.testing.assert_array_equal(data.y, np.arange(12) % 2)
    assert data.classes.dtype.kind == ("U" if dtype[0] in "US" else np.dtype(dtype).kind)


def changed(row, column, value):
    rows = [list(r) for r in ROWS]
    rows[row][column] = value
    return rows


CSV_ERRORS = {
    "text": (changed(4, 1, "abc"), None, "text 'abc' in line 5, column 1"),
    "text under a name": ([["a", "b", "y"], *changed(4, 1, "abc")], None, "text 'abc' in line 6, column 'b'"),
    "empty": (changed(2, 0, ""), None, "an empty cell (a missing value) in line 3, column 0"),
    "nan": (changed(3, 0, "nan"), None, "NaN (a missing value) in line 4, column 0"),
    "infinity": (changed(3, 1, "-inf"), None, "infinity in line 4, column 1"),
    "one class": ([[1, 2, "a"]] * 12, None, "one class only (a)"),
    "few rows": (ROWS[:9], None, "9 rows; at least 10"),
    "header only": ([["a", "b", "y"]], None, "0 rows; at least 10"),
    "empty file": ([], None, "the file is empty"),
    "ragged": ([*ROWS, [1, 2, 3, "odd"]], None, "line 13 has 4 columns, the first line has 3"),
    "regression": ([[i, i + 0.5] for i in range(12)], None, "label 0.5 in line 1, column 1 is not an integer"),
    "no label": (changed(6, 2, ""), None, "the label is empty in line 7, column 2"),
    "no such name": ([["a", "b", "y"], *ROWS], "z", "no column 'z'; there are a, b, y"),
    "name without header": (ROWS, "z", "no column 'z': there is no header line; give --label an index, 0 to 2"),
    "no such index": (ROWS, "3", "no column 3; there are 3"),
    "two of the name": ([["a", "a", "y"], *ROWS], "a", "2 columns are named 'a'"),
    "one column": ([[1]] * 12, None, "one column only"),
}


@pytest.mark.parametrize("case", CSV_ERRORS)
def test_csv_errors(tmp_path, case):
    rows, label, message = CSV_ERRORS[case]
    with pytest.raises(DataError) as error:
        load_file(write_csv(tmp_path / "x.csv", rows), label)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


X, Y = np.arange(24.0).reshape(12, 2), np.arange(12) % 2
NPZ_ERRORS = {
    "no y": ({"X": X, "labels": Y}, "no array named y; arrays X (n, d) and y (n,) are needed, the file has X, labels"),
    "neither": ({"a": X}, "no array named X and y"),
    "floats": ({"X": X, "y": Y + 0.5}, "y has dtype float64; labels are classes"),
    "objects": ({"X": X, "y": np.array([None] * 12)}, "y is an array of Python objects"),
    "objects in X": ({"X": X.astype(object), "y": Y}, "X is an array of Python objects"),
    "lengths": ({"X": X, "y": Y[:-1]}, "X has 12 rows and y 11"),
    "images": ({"X": X.reshape(12, 2, 1), "y": Y}, "X has shape (12, 2, 1); a matrix (n, d) is needed: X.reshape"),
    "column of labels": ({"X": X, "y": Y[:, None]}, "y has shape (12, 1)"),
    "bytes": (
        {"X": X, "y": np.array([b"\xff", b"\xfe"] * 6)},
        "y holds bytes that are no text in UTF-8; save it as str",
    ),
    "no columns": ({"X": X[:, :0], "y": Y}, "X has no columns"),
    "text": ({"X": X.astype(str), "y": Y}, "X has dtype <U"),
    "complex": ({"X": X + 1j, "y": Y}, "X has dtype complex128"),
    "dates": ({"X": X, "y": Y.astype("M8[D]")}, "y has dtype datetime64[D]"),
    "nan": ({"X": np.where(X == 7, np.nan, X), "y": Y}, "NaN (a missing value) in row 3, column 1"),
    "infinity": ({"X": np.where(X == 8, np.inf, X), "y": Y}, "infinity in row 4, column 0"),
    "one class": ({"X": X, "y": Y * 0}, "one class only (0)"),
    "few rows": ({"X": X[:1], "y": Y[:1]}, "1 row; at least 10"),
}


@pytest.mark.parametrize("case", NPZ_ERRORS)
def test_npz_errors(tmp_path, case):
    arrays, message = NPZ_ERRORS[case]
    with pytest.raises(DataError) as error:
        load_file(write_npz(tmp_path / "x.npz", **arrays))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_files_that_are_something_else(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        load_file(tmp_path / "missing.npz")
    with pytest.raises(DataError, match="no such file"):
        load_file(tmp_path / "missing.csv")
    with pytest.raises(DataError, match=r"suffix '\.parquet' is not known"):
        load_file(tmp_path / "x.parquet")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataError, match="directory"):
        load_file(tmp_path / "folder.csv")
    (tmp_path / "binary.csv").write_bytes(b"1,\xff\x00\x01")
    with pytest.raises(DataError, match="UTF-8"):
        load_file(tmp_path / "binary.csv")
    whole = write_npz(tmp_path / "whole.npz", X=X, y=Y).read_bytes()
    np.save(tmp_path / "array.npy", X)
    for content in (b"", b"text", whole[: len(whole) // 2], (tmp_path / "array.npy").read_bytes()):
        (tmp_path / "bad.npz").write_bytes(content)
        with pytest.raises(DataError, match=r"not an \.npz archive"):
            load_file(tmp_path / "bad.npz")
    (tmp_path / "bad.npz").write_bytes(whole.replace(X[5].tobytes(), X[6].tobytes()))
    with pytest.raises(DataError, match="array X is damaged"):
        load_file(tmp_path / "bad.npz")
    with pytest.raises(DataError, match=r"--label is for \.csv"):
        load_file(tmp_path / "whole.npz", "y")


def test_split_parts_every_row_once_and_is_seeded():
    data = load_digits()
    one, same, other = (split(data, 0.1, seed) for seed in (0, 0, 1))
    assert len(one.y_validation) == 180
    both = np.concatenate([one.X, one.X_validation]) * 16
    np.testing.assert_array_equal(np.sort(both, axis=0), np.sort(data.X, axis=0))
    np.testing.assert_array_equal(one.X_validation, same.X_validation)
    assert not np.array_equal(one.X_validation, other.X_validation)
    assert one.X.min() == 0
    assert one.X.max() == 1
    assert one.X.dtype == np.float32


@given(
    y=hnp.arrays(np.int64, st.integers(10, 60), elements=st.integers(0, 5)),
    fraction=st.floats(0.01, 0.5),
    seed=st.integers(0, 2**63 - 1),
)
def test_split_keeps_the_shares_of_the_classes(y, fraction, seed):
    y[:3] = 0, 0, 1
    X = np.arange(len(y), dtype=np.float64)[:, None]
    data = checked(X, y, "drawn")
    parts = split(Samples(X, data.y, data.classes, "drawn", scale=1.0), fraction, seed, "float64")
    np.testing.assert_array_equal(np.sort(np.concatenate([parts.X, parts.X_validation]), axis=0), X)
    np.testing.assert_array_equal(data.y[parts.X_validation[:, 0].astype(int)], parts.y_validation)
    counts, held = (np.bincount(part, minlength=len(data.classes)) for part in (data.y, parts.y_validation))
    assert (held < counts).all()
    assert len(parts.y_validation) >= 1
    share = held.sum() / counts[counts > 1].sum()
    assert (abs(held - share * counts)[counts > 1] <= 1 + 1e-9).all()


def test_standardised_with_the_training_rows_alone():
    parts = split(samples(), 0.25, 0, "float64")
    np.testing.assert_allclose(parts.X.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(parts.X.std(axis=0), 1)
    assert abs(parts.X_validation.mean(axis=0)).max() > 1e-3


def test_constant_columns_and_large_numbers():
    data = samples()
    X = data.X.copy()
    X[:, 1] = 0.1
    parts = split(Samples(X, data.y, data.classes, "made up"), 0.25, 0)
    np.testing.assert_allclose(parts.X[:, 1], 0, atol=1e-6)
    X[:, 1] = np.where(np.arange(len(X)) % 2, 1e308, -1e308)
    with pytest.raises(DataError, match="too large"):
        split(Samples(X, data.y, data.classes, "made up"), 0.25, 0)


def test_rows_that_are_all_of_different_classes():
    data = samples(classes=40)
    with pytest.raises(DataError, match="label of its own"):
        split(data, 0.1, 0)
