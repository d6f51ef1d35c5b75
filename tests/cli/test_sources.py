"""The options that say how a table is written: in `train` and `sweep`, in what is told, and when a training goes on."""

import os
import subprocess
import sys

import pytest

from nagd_numba.cli.main import main
from tests.helpers.checkpoints import arrays, run, without_times
from tests.helpers.tables import rows

SHORT = {
    "train": ["train", "--device", "cpu", "--methods", "nag", "--hidden", "4", "--epochs", "2"],
    "sweep": ["sweep", "--lr", "0.1", "--momentum", "0.9", "--seeds", "1", "--hidden", "4", "--epochs", "2"],
}
# Every option is needed for the rows that are meant: the first holds names that are a class, commas are decimals.
TABLE = "width#size#cat\n" + rows("{0},50{1}#{1}#{2}", n=40)
FORM = ["--delimiter", "#", "--header", "--decimal", ","]


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(TABLE, encoding="utf-8")
    return path


@pytest.mark.parametrize("command", SHORT)
def test_what_was_understood_is_the_first_line(table, capsys, command):
    assert run(*SHORT[command], "--data", table, *FORM) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == (
        f"{table}: 40 rows, 2 feature columns, label column 'cat', 2 classes (text), a header line, separated by '#', "
        "decimal commas"
    )
    assert lines[1].startswith(f"{table}: 36 training and 4 validation rows, 2 classes; network 2-4-2, cpu")


@pytest.mark.parametrize("command", SHORT)
@pytest.mark.parametrize(
    ("form", "message"),
    [
        (["--delimiter", "##"], "--delimiter is '##'; one character such as , or ; or | is needed, or the word tab"),
        (["--decimal", "x"], "--decimal is 'x'; one of '.', ',' is needed"),
        (["--no-header", *FORM[:2]], "text 'width' in line 1, column 0; features are numbers"),
        ([*FORM[:3], "--decimal", "."], "text '0,500' in line 2, column 'width'"),
        (["--header"], "one column only"),
    ],
)
def test_forms_that_do_not_fit(table, capsys, command, form, message):
    assert run(*SHORT[command], "--data", table, *form) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith(f"nagd-numba {command}: error: ")
    assert message in line


@pytest.mark.parametrize("command", SHORT)
@pytest.mark.parametrize(
    "form", [["--label", "a"], ["--delimiter", ";"], ["--header"], ["--no-header"], ["--decimal", ","]]
)
def test_forms_are_of_tables(clusters, capsys, command, form):
    option = form[0].replace("no-", "")
    assert main([command, *form]) == 2
    assert f"error: {option} is for a csv file given with --data" in capsys.readouterr().err
    assert run(command, "--data", clusters, *form) == 2
    assert f"{clusters}: {option} is for .csv files" in capsys.readouterr().err


@pytest.mark.parametrize("header", ["--header", "--no-header"])
def test_a_training_goes_on_with_the_form_that_was_given(tmp_path, capsys, header):
    path = tmp_path / "table.csv"
    path.write_text("0.5#0.5#fish\n" + rows("{0}.5#{1}#{2}", n=40), encoding="utf-8")
    words = [*SHORT["train"], "--data", path, "--delimiter", "#", header]
    assert run(*words, "--save", tmp_path / "model.npz") == 0
    assert run(*words, "--save", tmp_path / "direct.npz", "--epochs", 4) == 0
    told = capsys.readouterr().out.splitlines()[0]
    assert run("train", "--resume", tmp_path / "model.npz", "--epochs", 4) == 0
    assert capsys.readouterr().out.splitlines()[0] == told
    assert without_times(arrays(tmp_path / "model.npz")) == without_times(arrays(tmp_path / "direct.npz"))


@pytest.mark.skipif(sys.platform != "linux", reason="names of files that are no text")
@pytest.mark.parametrize("command", SHORT)
def test_names_that_cannot_be_written_are_spelt_out(tmp_path, command):
    name = os.fsdecode(b"\xff.csv")
    try:
        (tmp_path / name).write_text("größe,art\n" + rows("{0}.5,{2}", n=40), encoding="utf-8")
    except OSError:
        pytest.skip("file names are UTF-8 here")
    done = subprocess.run(
        [sys.executable, "-m", "nagd_numba", *SHORT[command], "--data", name],
        **{"cwd": tmp_path, "capture_output": True, "check": True, "timeout": 120},
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
    )
    assert done.stdout.startswith(b"\\udcff.csv: 40 rows, 1 feature column, label column 'art', 2 classes (text), ")


def test_help_tells_the_forms(capsys):
    for command in SHORT:
        assert main([command, "--help"]) == 0
        out = capsys.readouterr().out
        for option in ("--label", "--delimiter", "--header, --no-header", "--decimal"):
            assert option in out
