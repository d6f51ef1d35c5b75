"""The tests mirror the package, and nothing imports from a test module; one module of the package knows numba-cuda."""

import ast
import re
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent
PACKAGE = TESTS.parent / "nagd_numba"


def test_nothing_imports_from_a_test_module():
    for file in TESTS.rglob("*.py"):
        imported = re.findall(r"^\s*(?:from|import)\s+(\S+)(?:\s+import\s+(.+))?", file.read_text(), flags=re.MULTILINE)
        for module, names in imported:
            parts = [*module.split("."), *re.split(r"[\s,()]+", names)]
            assert not [part for part in parts if part.startswith("test_")], file


def test_every_folder_of_tests_is_one_of_the_project():
    root = TESTS.parent
    apart = {"helpers", "reliability", "emulator", "ptx", "cuda", "cuda_driver"}
    for folder in TESTS.rglob("*"):
        inside = folder.relative_to(TESTS)
        if list(folder.glob("test_*.py")) and inside.parts[0] not in apart:
            assert (root / "nagd_numba" / inside).is_dir() or (root / inside).is_dir(), folder


def imported(file):
    """The full names that a file imports, wherever in it; relative ones without their dots."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", None) == "import_module":
            yield from (text.value for text in node.args if isinstance(text, ast.Constant))


def test_one_module_knows_numba_cuda():
    users = {
        file.relative_to(PACKAGE).as_posix()
        for file in PACKAGE.rglob("*.py")
        if any(re.match(r"numba[._]cuda\b", name) for name in imported(file))
    }
    assert users == {"gpu/target.py"}


def test_kernels_of_the_device_register_what_they_call_with_its_target():
    for folder in (PACKAGE / "gpu", PACKAGE / "mlp" / "gpu"):
        for file in set(folder.rglob("*.py")) - {PACKAGE / "gpu" / "target.py"}:
            assert not [name for name in imported(file) if name.startswith("numba.extending")], file


def test_numba_cuda_is_imported_when_it_is_needed():
    program = """
import sys
import nagd_numba, nagd_numba.mlp, nagd_numba.gpu.launch, nagd_numba.mlp.gpu.backend
assert not [name for name in sys.modules if name.startswith(("numba.cuda", "numba_cuda"))]
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=PACKAGE.parent)
