"""The README's code runs, in its order and one namespace; what it says of files and commands is so."""

import configparser
import re
from pathlib import Path

import numpy as np
import pytest

from nagd_numba.gpu.driver import why_no_cuda
from nagd_numba.kernels.jit import SIMULATOR
from tests.helpers.backends import JIT_OFF

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"

pytestmark = [
    pytest.mark.skipif(not README.exists(), reason="needs the source tree"),
    pytest.mark.skipif(JIT_OFF, reason="the README shows compiled code"),
]

BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL) if README.exists() else []


def why_not(block):
    if "# needs torch" in block:
        try:
            import torch  # noqa: F401
        except ImportError:
            return "torch is not installed"
    if "# needs sklearn" in block:
        try:
            import sklearn  # noqa: F401
        except ImportError:
            return "scikit-learn is not installed"
    if "# needs CUDA" in block:
        return why_no_cuda()
    if SIMULATOR:
        return "runs without the simulator"
    return None


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_code_block(number):
    reason = why_not(BLOCKS[number])
    if reason is not None:
        pytest.skip(reason)
    import nagd_numba

    names = {"np": np, "nagd_numba": nagd_numba}
    if "the data above" in BLOCKS[number]:
        exec(next(block for block in BLOCKS if "net = nagd_numba.MLP" in block), names)
    exec(compile(BLOCKS[number], f"README.md, block {number}", "exec"), names)


def test_nothing_is_left_to_fill_in():
    assert not re.search(r"\b[A-Z]+_TABLE\b|TODO|XXX", README.read_text())


def test_commands_are_marked_for_ci():
    text = README.read_text()
    for marker in ("run", "test"):
        assert len(re.findall(rf"<!-- {marker} -->\n```sh\n.+\n```", text)) == 1


def test_folder_map_names_what_exists():
    listing = re.search(r"```\nnagd_numba/\n(.*?)```", README.read_text(), flags=re.DOTALL).group(1)
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
    listing = re.search(r"```\nnagd_numba/\n(.*?)```", README.read_text(), flags=re.DOTALL).group(1)
    lines = re.findall(r"^  ((?:\w+(?:\.py|/) *)+)", listing, flags=re.MULTILINE)
    assert [set(re.findall(r"(\w+)(?:\.py|/)", line)) for line in lines] == wanted


def test_no_source_file_is_two_ideas_long():
    for file in (ROOT / "nagd_numba").rglob("*.py"):
        assert len(file.read_text().splitlines()) <= 400, file
