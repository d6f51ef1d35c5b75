"""Each claim of the README: in a process of its own, since a process chooses its libcuda once."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from .. import compiler, library
from ..pytest_plugin import ROOT, run

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed: pip install 'numba-cuda[cu13]'")

HERE = Path(__file__).parent
FOLDER = HERE.parent


def test_every_claim():
    run(*(HERE / "on_driver" / f"{name}.py" for name in ("streams", "allocations", "graphs", "contexts", "launches")))


def test_the_example_of_the_readme(tmp_path):
    if compiler() is None:
        pytest.skip("no C compiler")
    program = tmp_path / "example.py"
    code = re.search(r"```python\n(.*?)```", (FOLDER / "README.md").read_text(encoding="utf-8"), re.DOTALL)[1]
    package = __package__.rpartition(".")[0]
    program.write_text(f"import {package} as cuda_driver\n{code.replace('import cuda_driver', '')}")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, program], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_without_a_compiler_the_reason_is_said(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CC", "none")
    with pytest.raises(library.NoCompiler, match="no C compiler"):
        library.build(["cuInit"])
    with pytest.raises(pytest.skip.Exception, match="no C compiler"):
        run("nothing.py")
