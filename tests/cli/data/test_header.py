"""Is the first line of a table a header?  Every kind of evidence, and what is asked where there is not enough."""

import pytest

from nagd_numba.cli.data import DataError
from tests.helpers.tables import load, rows

TEXT = rows("{0}.5,{1},{2}")
NUMBERS = rows("{0}.5,{1},{2}", labels=(0, 1, 2))
FRACTIONS = rows("{0}.5,{0}.25,{2}", labels=(0, 1, 2))
INTEGERS = rows("{0},{1},{2}", labels=(0, 1))

HEADERS = {
    "numbers over text labels": ("0,1,label", TEXT),
    "the issue's": ("0,1,2,label", rows("{0}.0,0,{0}.0,{2}")),
    "years": ("2019,2020,kind", TEXT),
    "years and a name of its own": ("2019,2020,fruit", TEXT),
    "decimals": ("0.1,0.2,class", TEXT),
    "capitals": ("0.1,0.2,Species", TEXT),
    "names": ("a,b,c", TEXT),
    "names, numeric labels": ("a,b,c", NUMBERS),
    "names, one of which is a class": ("a,b,cat", TEXT),
    "some names": ("a,2020,c", TEXT),
    "numbers over numeric labels": ("0,1,target", NUMBERS),
    "pandas, all unnamed": ("0,1,2", rows("{0}.5,{0}.25,{2}", labels=(0, 1))),
    "pandas, with its index": (",0,1,2", rows("{0},{0}.5,{0}.25,{2}", labels=(0, 1))),
    "in quotes": ('"0","1","label"', TEXT),
}
ROWS = {
    "a class that comes again": ("9.5,1,cat", TEXT),
    "a number that comes again": ("9.5,1,1", NUMBERS),
    "a rare number": ("9.5,1,7", NUMBERS),
    "0 and 1": ("0,1", rows("{1},{2}", labels=(0, 1))),
}
ASKED = {
    "a class of its own": ("5.1,3.5,fish", TEXT, "no other row has the label 'fish'"),
    "increasing, of its own": ("5.1,7.5,fish", TEXT, "no other row has the label 'fish'"),
    "counts over fractions, a class": ("0,1,2", FRACTIONS, "it counts"),
    "counts over integers": ("0,1,2", INTEGERS, "it counts"),
    "counts over integers, a class": ("0,1,2", rows("{0},{1},{2}", labels=(0, 1, 2)), "it counts"),
    "the only feature": ("size,cat", rows("{0},{2}"), "'cat' is a label further down"),
}


@pytest.mark.parametrize("case", HEADERS)
def test_headers(tmp_path, case):
    header, below = HEADERS[case]
    data = load(tmp_path, f"{header}\n{below}")
    assert len(data.X) == 12
    assert ", a header line," in data.understood
    assert header.rpartition(",")[2].strip('"') not in set(map(str, data.classes)) - {"cat"}


@pytest.mark.parametrize("case", ROWS)
def test_rows(tmp_path, case):
    first, below = ROWS[case]
    data = load(tmp_path, f"{first}\n{below}")
    assert len(data.X) == 13
    assert ", no header line," in data.understood


@pytest.mark.parametrize("case", ASKED)
def test_what_cannot_be_told_is_asked_and_then_done(tmp_path, case):
    first, below, why = ASKED[case]
    with pytest.raises(DataError, match=r"the first line \(.*\) may hold names or be a row") as error:
        load(tmp_path, f"{first}\n{below}")
    assert why in str(error.value)
    assert str(error.value).endswith("say --header or --no-header")
    assert len(load(tmp_path, f"{first}\n{below}", header=True).X) == 12
    if case != "the only feature":
        assert len(load(tmp_path, f"{first}\n{below}", header=False).X) == 13


def test_bad_text_in_the_first_of_the_rows_is_told(tmp_path):
    with pytest.raises(DataError, match=r"text '1\.O' in line 1, column 1; .*--header says that the first line holds"):
        load(tmp_path, f"9.5,1.O,cat\n{TEXT}")
    with pytest.raises(DataError, match="text 'NA' in line 1, column 0"):
        load(tmp_path, f"NA,NA,cat\n{TEXT}")
    with pytest.raises(DataError, match=r"an empty cell \(a missing value\) in line 1, column 0"):
        load(tmp_path, f",1,cat\n{TEXT}")


def test_the_label_column_may_be_any(tmp_path):
    below = rows("{2},{0}.5,{1}")
    data = load(tmp_path, f"label,0,1\n{below}", label="-3")
    assert (len(data.X), list(data.classes)) == (12, ["cat", "dog"])
    data = load(tmp_path, f"kind,2019,2020\n{below}", label="kind")
    assert (len(data.X), list(data.classes)) == (12, ["cat", "dog"])
    data = load(tmp_path, "2019,2020,2021\n" + rows("{2},{0}.5,{1}", labels=("x", "y")), label="2019")
    assert (len(data.X), list(data.classes)) == (12, ["x", "y"])
