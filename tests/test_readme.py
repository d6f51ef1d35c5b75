"""What the README and the page on the design say of files and commands is so."""

import configparser
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
DESIGN = ROOT / "docs" / "explanation" / "design.md"

pytestmark = pytest.mark.skipif(not README.exists(), reason="needs the source tree")


def test_commands_are_marked_for_ci():
    text = README.read_text()
    for marker in ("run", "test"):
        assert len(re.findall(rf"<!-- {marker} -->\n```sh\n.+\n```", text)) == 1


def test_folder_map_names_what_exists():
    listing = re.search(r"```text\nnagd_numba/\n(.*?)```", DESIGN.read_text(), flags=re.DOTALL).group(1)
    for name in re.findall(r"\b[\w/]+(?:\.py\b|/)", listing):
        assert (ROOT / name).exists() or (ROOT / "nagd_numba" / name).exists(), name
    there = {x.name for x in (ROOT / "nagd_numba").iterdir() if x.name[0] not in "_." and x.suffix != ".typed"}
    assert there == {name.removesuffix("/") for name in re.findall(r"[\w/]+\.py\b|\b\w+/", listing)} & there


def test_folder_map_has_the_order_of_imports():
    """The folder map and the contracts name the same rows; `_version` is the last row of the last contract."""
    contracts = configparser.ConfigParser()
    contracts.read(ROOT / ".importlinter")
    rows = [
        contracts[name]["layers"].split("\n")[1:]
        for name in contracts.sections()
        if contracts[name].get("containers") == "nagd_numba"
    ]
    ordered = [*(row[0] for row in rows), rows[-1][-1]]
    wanted = [set(re.findall(r"\w+", row)) - {"__main__"} for row in reversed(ordered)]
    listing = re.search(r"```text\nnagd_numba/\n(.*?)```", DESIGN.read_text(), flags=re.DOTALL).group(1)
    lines = re.findall(r"^  ((?:\w+(?:\.py|/) *)+)", listing, flags=re.MULTILINE)
    assert [set(re.findall(r"(\w+)(?:\.py|/)", line)) for line in lines] == wanted


def test_no_source_file_is_two_ideas_long():
    for file in (ROOT / "nagd_numba").rglob("*.py"):
        assert len(file.read_text().splitlines()) <= 400, file
