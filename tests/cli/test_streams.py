"""Standard output and standard error as they are found: with few characters, closed, full, cut off by their reader."""

import io
import os
import sys

import pytest

from nagd_numba.cli import streams
from nagd_numba.cli.main import main
from nagd_numba.cli.output import console, tell
from nagd_numba.cli.tables import paragraphs

SWEEP = ["sweep", "--lr", "0.1,0.3", "--momentum", "0.9", "--seeds", "2", "--epochs", "1", "--hidden", "4"]


def stream(encoding="ascii"):
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True)


def text(of):
    return of.buffer.getvalue().decode(of.encoding)


def test_what_an_encoding_lacks_is_spelt_out(monkeypatch):
    monkeypatch.setattr(sys, "stdout", out := stream())
    with streams.usable():
        print("37.8 ± 7.3 … größe 数 \udcff")
        assert streams.spelt("± ü") == "+- \\xfc"
    assert text(out) == "37.8 +- 7.3 ... gr\\xf6\\xdfe \\u6570 \\udcff\n"
    assert out.errors == "strict"  # as it was
    with pytest.raises(UnicodeEncodeError):
        print("±")


@pytest.mark.parametrize(("encoding", "sign"), [("ascii", "+-"), ("latin-1", "±"), ("utf-8", "±")])
def test_a_sweep_in_any_encoding_is_a_table_whose_lines_are_as_long_as_each_other(monkeypatch, encoding, sign):
    monkeypatch.setattr(sys, "stdout", made := stream(encoding))
    assert main(SWEEP) == 0
    said = text(made)
    assert f"{sign}: standard deviation over the seeds." in said
    drawn = [line for line in said.splitlines() if line.startswith(("|", "+-----", "│", "┃"))]
    assert len(drawn) >= 3
    assert len({len(line) for line in drawn}) == 1


@pytest.mark.parametrize("words", [[], ["--help"], ["info", "--support"], SWEEP])
def test_closed_streams_take_everything(monkeypatch, words):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert main(words) == 0
    assert sys.stdout is sys.stderr is None


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no full disk to write to")
@pytest.mark.parametrize("words", [[], ["--help"], ["info", "--support"], SWEEP])
def test_a_full_disk_is_told_in_a_line(monkeypatch, capsys, words):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main(words) == 1
    assert capsys.readouterr().err == "nagd-numba: error: standard output: no space left on device\n"


@pytest.mark.parametrize("words", [[], ["--help"], ["info", "--support"], SWEEP])
def test_a_reader_that_goes_ends_a_command_without_a_word(monkeypatch, capsys, words):
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as gone:
        monkeypatch.setattr(sys, "stdout", gone)
        assert main(words) == 1
    assert capsys.readouterr().err == ""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no full disk to write to")
def test_a_message_that_cannot_be_written_keeps_its_exit_code(monkeypatch):
    with open("/dev/full", "w", buffering=1) as full:
        monkeypatch.setattr(sys, "stderr", full)
        assert tell("an error", 2) == 2


def table():
    from rich.table import Table

    made = Table(title="two rows", caption="a note")
    for heading in ("method", "train\nloss", "accuracy"):
        made.add_column(heading)
    made.add_row("nag", "0.1", "97.8 %")
    made.add_row("gd", "0.25", "diverged,\nepoch 3")
    return made


@pytest.mark.parametrize("columns", [10, 23, 80])
def test_a_table_is_whole_or_paragraphs(monkeypatch, columns):
    monkeypatch.setattr(sys, "stdout", out := stream())
    monkeypatch.setenv("COLUMNS", str(columns))
    with streams.usable():
        console().print(table())
    said = text(out)
    assert "..." not in said
    assert ("+----" in said) == (columns == 80)
    assert all(word in said for word in ("nag", "0.25", "97.8", "epoch"))


def test_the_paragraphs_of_a_table():
    assert paragraphs(table()).splitlines() == [
        "two rows",
        "method nag",
        "  train loss: 0.1",
        "  accuracy: 97.8 %",
        "method gd",
        "  train loss: 0.25",
        "  accuracy: diverged, epoch 3",
        "a note",
    ]
