"""Rows and cells: quotes, delimiters, line ends, and the numbers of the lines."""

import pytest

from nagd_numba.cli.data import DataError
from tests.helpers.tables import load, rows, understood

HEADER = "a,b,y\n"


def with_quotes(*places):
    """25 lines, with a quote at the beginning of the label of the first place and at its end in others."""
    lines = [f"{i}.5,{i % 5},{'cat' if i % 2 else 'dog'}" for i in range(25)]
    for k, i in enumerate(places):
        before, _, label = lines[i].rpartition(",")
        lines[i] = f'{before},"{label}' if k == 0 else f'{lines[i]}"'
    return "\n".join(lines) + "\n"


def test_a_quote_that_is_not_closed_is_told_with_its_line(tmp_path):
    with pytest.raises(DataError, match=r"line 6 cannot be read as csv \(.*\): a quote is not closed"):
        load(tmp_path, with_quotes(5))
    with pytest.raises(DataError, match="line 7 cannot be read as csv"):
        load(tmp_path, "\n" + with_quotes(5))
    with pytest.raises(DataError, match="line 1 cannot be read as csv"):
        load(tmp_path, '"a,b,y\n' + rows("{0}.5,{1},{2}"))


def test_two_stray_quotes_swallow_no_rows(tmp_path):
    with pytest.raises(DataError, match="a quote is opened in line 6 and closed 4 lines later"):
        load(tmp_path, with_quotes(5, 9))
    with pytest.raises(DataError, match="a quote is opened in line 1 and closed 1 line later"):
        load(tmp_path, 'a,b,"y\n1,2,cat"\n' + rows("{0}.5,{1},{2}"))


def test_text_after_a_quote(tmp_path):
    with pytest.raises(DataError, match=r"line 3 cannot be read as csv \(',' expected after '\"'\)"):
        load(tmp_path, HEADER + '1,2,cat\n1,2,"c"at\n' + rows("{0}.5,{1},{2}"))


def test_quotes_that_are_right(tmp_path):
    data = load(tmp_path, HEADER + rows('"{0}.5", "{1}","{2}"', labels=('a ""b""', "c, d")))
    assert list(data.classes) == ['a "b"', "c, d"]
    assert load(tmp_path, HEADER + rows("{0}.5,{1},{2}", labels=('5" pipe', '6" pipe'))).classes[0] == '5" pipe'
    assert load(tmp_path, '"a\n(m)","b\r\n(s)",y\n' + rows("{0}.5,{1},{2}")).X.shape == (12, 2)


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ('"a, in m, cm";"b, in s, ms";y\n' + rows("{0}.5;{1};{2}"), "semicolons"),
        ('"a; b; c; d",b,y\n' + rows("{0}.5,{1},{2}"), "commas"),
        ("a|b|y\n" + rows("{0}.5|{1}|{2}"), "vertical bars"),
        ("a\tb\ty\n" + rows("{0}.5\t{1}\t{2}"), "tabs"),
        (rows("{0},5;{1},25;{2}"), "semicolons"),
        (rows("{0}.5|{1}|{2}", labels=("a, b", "c, d")), "vertical bars"),
        ("\n \n\r\n" + rows("{0}.5;{1};{2}"), "semicolons"),
        ("sep=;\n" + rows("{0}.5;{1};{2}"), "semicolons"),
        ('"sep=;"\r\n' + rows("{0},5;{1};{2}"), "semicolons"),
        ("SEP=#\n" + rows("{0}.5#{1}#{2}"), "'#'"),
        ("\ufeffsep=,\n" + rows("{0}.5,{1},{2}"), "commas"),
        ("a,b,y\r" + rows("{0}.5,{1},{2}").replace("\n", "\r"), "commas"),
        ("a,b,y\r\n" + rows("{0}.5,{1},{2}").replace("\n", "\r\n"), "commas"),
    ],
)
def test_delimiters_are_found_outside_quotes(tmp_path, table, told):
    data = load(tmp_path, table)
    assert data.X.shape == (12, 2)
    assert f"separated by {told}" in data.understood


def test_a_row_that_is_too_short_does_not_change_the_delimiter(tmp_path):
    with pytest.raises(DataError, match="line 7 has 2 columns, the first line has 3"):
        load(tmp_path, rows("{0},5;{1};{2}").replace("6,5;1;", "6,5;"))


def test_delimiters_that_are_given(tmp_path):
    assert load(tmp_path, rows("{0}.5  {1}    {2}"), delimiter=" ").X.shape == (12, 2)
    assert load(tmp_path, rows("{0}.5\t{1}\t{2}"), delimiter="tab").X.shape == (12, 2)
    assert load(tmp_path, rows("{0}.5;{1};{2}"), name="x.tsv", delimiter=";").X.shape == (12, 2)
    assert load(tmp_path, "sep=,\n" + rows("{0}.5;{1};{2}"), delimiter=";").X.shape == (12, 2)
    assert "separated by tabs" in understood(tmp_path, rows("{0},5\t{1}\t{2}"), name="x.tsv")
    with pytest.raises(DataError, match=r"one column only; .* \(--delimiter says what parts them\)"):
        load(tmp_path, rows("{0}.5 {1} {2}"))


@pytest.mark.parametrize("delimiter", ["", "ab", "\n", '"', "a", "7", ".", "-", "\0", "\N{ARABIC-INDIC DIGIT ONE}"])
def test_delimiters_that_cannot_be(tmp_path, delimiter):
    with pytest.raises(DataError, match=r"--delimiter is .*; one character such as"):
        load(tmp_path, rows("{0}.5,{1},{2}"), delimiter=delimiter)


@pytest.mark.parametrize("mark", ["a", "7", ".", "'", "\r", ";;", ""])
def test_first_lines_that_name_no_delimiter(tmp_path, mark):
    with pytest.raises(
        DataError, match=r"line 2 has 3 columns, the first line has 1|one column only|line 3 has 3 columns"
    ):
        load(tmp_path, f"sep={mark}\n" + rows("{0}.5,{1},{2}"))


def test_lines_are_those_of_the_file(tmp_path):
    with pytest.raises(DataError, match="text 'x' in line 7, column 'b'"):
        load(tmp_path, "\r\nsep=,\r\na,b,y\r\n\r\n1,2,cat\r\n,,\r\n1,x,cat\r\n" + rows("{0}.5,{1},{2}"))
    with pytest.raises(DataError, match="line 4 has 2 columns, the first line has 3"):
        load(tmp_path, "a,b,y\n\n1,2,cat\n1,2\n" + rows("{0}.5,{1},{2}"))


def test_a_cell_that_is_too_long(tmp_path):
    with pytest.raises(DataError, match=r"line 13 cannot be read as csv \(field larger than field limit"):
        load(tmp_path, rows("{0}.5,{1},{2}") + f"1,2,{'x' * 200_000}\n")
    with pytest.raises(DataError, match="the file is empty"):
        load(tmp_path, "sep=;\n")
