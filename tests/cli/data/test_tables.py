"""Tables of text: what is a number, a label, an index, and the line that tells how a table was understood."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nagd_numba.cli.data import DataError
from nagd_numba.cli.data.cells import is_integer, is_not_finite, is_number, to_number
from tests.helpers.tables import load, rows, understood


@pytest.mark.parametrize(
    ("labels", "classes", "told"),
    [
        ((0, 1, 2), [0, 1, 2], "integers"),
        ((-1, 1), [-1, 1], "integers"),
        (("2_1", "3_1"), ["2_1", "3_1"], "text, for 2_1 is no integer in its usual form"),
        (("2_1", "3"), ["2_1", "3"], "text, for 2_1 is no integer in its usual form"),
        (("7", "007"), ["007", "7"], "text, for 007 is no integer in its usual form"),
        (("02139", "10001"), ["02139", "10001"], "text, for 02139 is no integer in its usual form"),
        (("+1", "-1"), ["+1", "-1"], "text, for +1 is no integer in its usual form"),
        (("0", "-0"), ["-0", "0"], "text, for -0 is no integer in its usual form"),
        (("1", "9" * 19), ["1", "9" * 19], f"text, for {'9' * 19} is no integer in its usual form"),
        (("1", "x"), ["1", "x"], "text"),
        (("\u0661", "\u0662"), ["\u0661", "\u0662"], "text, for \u0661 is no integer in its usual form"),
        (("nan", "x"), ["nan", "x"], "text"),
    ],
)
def test_labels_are_text_unless_all_are_plain_integers(tmp_path, labels, classes, told):
    data = load(tmp_path, rows("{0}.5,{1},{2}", labels=labels))
    assert data.classes.tolist() == classes
    assert f", label column 2, {len(classes)} classes ({told})," in data.understood


@pytest.mark.parametrize(
    ("bad", "what"), [("1.0", "not an integer"), ("nan", "NaN or infinity"), ("1e3", "not an int")]
)
def test_labels_that_are_quantities(tmp_path, bad, what):
    with pytest.raises(DataError, match=f"label {bad} in line 2, column 2 is {what}"):
        load(tmp_path, rows("{0}.5,{1},{2}", labels=(7, bad, 8)))


@pytest.mark.parametrize("cell", ["1_0", "\u0661", "0x10", "1,5", "1.5.2", "--1", "+-nan", "1 000", "1e", ".", "e5"])
def test_what_is_no_number(tmp_path, cell):
    with pytest.raises(DataError, match=r"text '.*' in line 3, column 'b'; features are numbers"):
        load(tmp_path, f'a,b,y\n1,2,cat\n1,"{cell}",cat\n{rows("{0}.5,{1},{2}")}')


@given(st.one_of(st.text(max_size=6), st.text("0123456789+-._,eEnaif", max_size=8)))
def test_numbers_are_what_is_converted(cell):
    cell = cell.strip()
    for decimal in ".,":
        known = is_number(cell, decimal) or is_not_finite(cell)
        try:
            value = to_number(cell, decimal)
        except ValueError:
            assert not known
        else:
            assert known
            np.testing.assert_equal(value, float(cell.replace(decimal, ".")))
    if is_integer(cell):
        assert str(int(cell)) == cell


def test_decimal_commas_are_found(tmp_path):
    data = load(tmp_path, "a;b;y\n" + rows("{0},5;{1};{2}"))
    np.testing.assert_array_equal(data.X[:, 0], np.arange(12) + 0.5)
    assert data.understood.endswith("separated by semicolons, decimal commas")
    quoted = load(tmp_path, rows('"{0},5",{1},{2}'))
    np.testing.assert_array_equal(quoted.X, data.X)
    assert "decimal" not in understood(tmp_path, rows("{0}.5;{1};{2}"))


def test_commas_that_may_part_thousands(tmp_path):
    table = rows("{0};1,50{1};{2}")
    with pytest.raises(
        DataError, match=r"the comma of 1,500 may part decimals or thousands; say --decimal , or remove"
    ):
        load(tmp_path, table)
    data = load(tmp_path, table, decimal=",")
    np.testing.assert_array_equal(data.X[:2, 1], [1.5, 1.501])
    with pytest.raises(DataError, match=r"text '1,500' in line 1, .*--decimal , reads such numbers"):
        load(tmp_path, table, decimal=".")
    assert load(tmp_path, rows("{0};0,50{1};{2}")).X[1, 1] == 0.501  # no thousands begin with 0


def test_one_decimal_mark_for_the_file(tmp_path):
    with pytest.raises(DataError, match=r"text '3,5' in line 2, .*--decimal , reads such numbers, all of the file"):
        load(tmp_path, "1.5;2;cat\n3,5;2;dog\n" + rows("{0};{1};{2}"))
    with pytest.raises(DataError, match=r"text '0\.5' in line 1, .*--decimal \. reads"):
        load(tmp_path, rows("{0}.5;{1};{2}"), decimal=",")


@pytest.mark.parametrize("start", [0, 1])
@pytest.mark.parametrize("name", ["", '""'])
def test_the_index_of_pandas_is_no_feature(tmp_path, start, name):
    lines = "".join(f"{i + start},{i}.5,{i % 2}\n" for i in range(12))
    data = load(tmp_path, f"{name},a,y\n{lines}")
    np.testing.assert_array_equal(data.X, np.arange(12)[:, None] + 0.5)
    assert "the first column has no name, counts the rows and is dropped" in data.understood
    assert ", 1 feature column," in data.understood


def test_other_first_columns_without_a_name(tmp_path):
    shuffled = "".join(f"{7 * i % 12},{i}.5,{i % 2}\n" for i in range(12))
    assert "differs in every row and is dropped" in understood(tmp_path, f",a,y\n{shuffled}")
    names = "".join(f"row {i},{i}.5,{i % 2}\n" for i in range(12))
    assert load(tmp_path, f",a,y\n{names}").X.shape == (12, 1)
    with pytest.raises(DataError, match="the first column has no name and values that repeat; name it"):
        load(tmp_path, ",a,y\n" + rows("{1},{0}.5,{2}"))
    with pytest.raises(DataError, match="no column of features is left"):
        load(tmp_path, ",y\n" + rows("{0},{2}"))
    data = load(tmp_path, ",a,y\n" + rows("{2},{0}.5,{1}"), label="0")  # it is the label
    assert data.X.shape == (12, 2)


def test_a_column_that_counts_the_rows_is_told(tmp_path):
    assert "column 0 counts the rows and is a feature" in understood(tmp_path, rows("{0},{1},{2}"))
    assert "column 'id' counts the rows and is a feature" in understood(tmp_path, "id,a,y\n" + rows("{0},{1},{2}"))


def test_empty_columns_at_the_end_are_dropped(tmp_path):
    for header in ("", "a,b,y,,\n"):
        data = load(tmp_path, header + rows("{0}.5,{1},{2},,"))
        assert data.X.shape == (12, 2)
        assert data.understood.endswith(", 2 empty columns at the end dropped")


def test_one_column_and_delimiters(tmp_path):
    with pytest.raises(DataError, match="one column only"):
        load(tmp_path, rows("{0}.5,,"))


def test_the_whole_line(tmp_path):
    assert understood(tmp_path, "a,b,y\n" + rows("{0}.5,{1},{2}")) == (
        "12 rows, 2 feature columns, label column 'y', 2 classes (text), a header line, separated by commas"
    )


def test_messages_are_of_one_line_and_of_bounded_length(tmp_path):
    for content, message in (
        ('1,"a\x07b"\n' * 12, r"one class only \(a\\x07b\)"),
        ("1,2,cat\n" + "x" * 5000 + ",2,cat\n" + rows("{0}.5,{1},{2}"), r"text 'x{60}\.\.\.' in line 2"),
        ('"a\nb",c,y\n' + rows("x,{1},{2}"), r"text 'x' in line 3, column 'a b'"),
    ):
        with pytest.raises(DataError, match=message) as error:
            load(tmp_path, content)
        assert str(error.value).isprintable()
    with pytest.raises(DataError, match=r"no column 'z'; there are a b, c, y"):
        load(tmp_path, '"a\nb",c,y\n' + rows("{0},{1},{2}"), label="z")


@pytest.mark.parametrize("mark", ["", ";", "x"])
def test_the_decimal_mark_that_is_given_is_checked(tmp_path, mark):
    with pytest.raises(ValueError, match=f"--decimal is '{mark}'; one of"):
        load(tmp_path, rows("{0}.5,{1},{2}"), decimal=mark)
