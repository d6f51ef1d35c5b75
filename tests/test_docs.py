"""The code of the pages in `docs/` runs: the blocks of a page one after another, in a process and a folder of its own."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import nagd_numba
from nagd_numba.gpu.driver import why_no_cuda
from nagd_numba.kernels.jit import SIMULATOR
from tests.helpers.backends import JIT_OFF

DOCS = Path(__file__).parent.parent / "docs"
BLOCK = re.compile(r"```python\n(.*?)```", flags=re.DOTALL)
PAGES = [page for page in sorted(DOCS.glob("*.md")) if BLOCK.search(page.read_text())]

pytestmark = [
    pytest.mark.skipif(not DOCS.exists(), reason="needs the source tree"),
    pytest.mark.skipif(JIT_OFF or SIMULATOR, reason="the pages show compiled code"),
]


def why_not(text):
    """Why a page cannot run here; None where it can."""
    needed = sorted(set(re.findall(r"^# needs (\w+)", text, flags=re.MULTILINE)))
    if "CUDA" in needed:
        return why_no_cuda()
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    return f"{' and '.join(missing)}: not installed" if missing else None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page(page, tmp_path):
    code = "\n".join(BLOCK.findall(page.read_text()))
    reason = why_not(code)
    if reason is not None:
        pytest.skip(reason)
    script = tmp_path / f"{page.stem}_page.py"
    script.write_text(code)
    paths = [str(Path(nagd_numba.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    made = subprocess.run(
        [sys.executable, script.name], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=250,
        check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
