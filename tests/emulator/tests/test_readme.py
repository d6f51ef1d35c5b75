"""The program in the README runs, and ends as it says."""

import importlib
import re
from pathlib import Path

import pytest

from .. import BadAccess

README = Path(__file__).parents[1] / "README.md"


@pytest.mark.usefixtures("compiler")
def test_the_program_in_the_readme():
    code = re.search(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)[1]
    package = importlib.import_module("..", __package__)
    with pytest.raises(BadAccess, match="out of bounds: load of 4 bytes at byte 400 of array 0"):
        exec(code.replace("import emulator\n", ""), {"emulator": package})
