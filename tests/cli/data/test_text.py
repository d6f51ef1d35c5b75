"""Encodings and gzip."""

import gzip
import tracemalloc

import numpy as np
import pytest

from nagd_numba.cli.data import DataError, load_file
from tests.helpers.tables import load, rows, understood

TABLE = "größe,b,y\n" + rows("{0}.5,{1},{2}", labels=("Käse", "Öl"))


def test_a_bomb_is_refused_before_it_takes_memory(tmp_path):
    path = tmp_path / "x.csv.gz"
    path.write_bytes(gzip.compress(b"1,2,a\n1,3,b\n" * (1 << 20)))
    tracemalloc.start()
    with pytest.raises(DataError, match=r"it unpacks to more than 4194304 bytes, .* \(gunzip x\.csv\.gz\)"):
        load_file(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


@pytest.mark.parametrize(
    ("encoding", "told"),
    [
        ("utf-8", ""),
        ("utf-8-sig", ""),
        ("utf-16", "UTF-16"),
        ("utf-16-le", "UTF-16"),
        ("utf-16-be", "UTF-16"),
        ("utf-32", "UTF-32"),
    ],
)
def test_encodings(tmp_path, encoding, told):
    data = load(tmp_path, TABLE.encode(encoding))
    assert list(data.classes) == ["Käse", "Öl"]
    np.testing.assert_array_equal(data.X[:, 0], np.arange(12) + 0.5)
    assert data.understood.endswith(f", in {told}" if told else "separated by commas")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (TABLE.encode("latin-1"), r"not a text file in UTF-8 \(.* at byte 2, line 1\); save it as UTF-8"),
        (rows("{0}.5,{1},{2}").encode() + b"1,2,\xff\n", r"line 13\); save it as UTF-8"),
        (TABLE.encode("utf-16")[:-1], "not a text file in UTF-16"),
        (b"\xff\xfe\x00\xd8" + TABLE.encode("utf-16-le"), "not a text file in UTF-16"),
        (rows("{0}.5,{1},{2}").encode() + b"1,2,c\0at\n", "line 13 holds a NUL character"),
        (bytes(1000), "line 1 holds a NUL character"),
        (b"", "the file is empty"),
        (b"\xef\xbb\xbf", "the file is empty"),
        (b"\n \n\n", "the file is empty"),
        (gzip.compress(TABLE.encode(), mtime=0), r"it is compressed by gzip; name it table\.csv\.gz"),
    ],
)
def test_what_is_no_text(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        load(tmp_path, content)


@pytest.mark.parametrize("name", ["x.csv.gz", "X.CSV.GZ", "x.tsv.gz"])
def test_gzip(tmp_path, name):
    delimiter = "\t" if "tsv" in name else ","
    packed = gzip.compress(TABLE.replace(",", delimiter).encode())
    assert load(tmp_path, packed, name=name).X.shape == (12, 2)
    assert understood(tmp_path, packed, name=name).startswith("12 rows, 2 feature columns, ")


def test_damaged_gzip(tmp_path):
    whole = gzip.compress(TABLE.encode(), mtime=0)
    for content in (TABLE.encode(), whole[:-1], whole[:40], whole[:5], whole[:-8] + bytes(8), whole[:10] + bytes(50)):
        with pytest.raises(DataError, match=r"x\.csv\.gz: not a gzip file, or only a part of one \(") as error:
            load(tmp_path, content, name="x.csv.gz")
        assert str(error.value).isprintable()
    for place in range(len(whole)):  # one bit at each place
        flipped = bytearray(whole)
        flipped[place] ^= 16
        if place in (4, 5, 6, 7, 8, 9):  # the time, the effort, the system
            assert load(tmp_path, bytes(flipped), name="x.csv.gz").X.shape == (12, 2)
        else:
            with pytest.raises(DataError, match="not a gzip file"):
                load(tmp_path, bytes(flipped), name="x.csv.gz")
