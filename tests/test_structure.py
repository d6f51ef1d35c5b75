"""The tests themselves: they mirror the package, and nothing imports from a test module."""

import re
from pathlib import Path

TESTS = Path(__file__).parent


def test_nothing_imports_from_a_test_module():
    for file in TESTS.rglob("*.py"):
        imported = re.findall(r"^\s*(?:from|import)\s+(\S+)(?:\s+import\s+(.+))?", file.read_text(), flags=re.MULTILINE)
        for module, names in imported:
            parts = [*module.split("."), *re.split(r"[\s,()]+", names)]
            assert not [part for part in parts if part.startswith("test_")], file


def test_every_folder_of_tests_is_one_of_the_project():
    root = TESTS.parent
    apart = {"helpers", "emulator", "ptx", "cuda"}
    for folder in TESTS.rglob("*"):
        inside = folder.relative_to(TESTS)
        if list(folder.glob("test_*.py")) and inside.parts[0] not in apart:
            assert (root / "nagd_numba" / inside).is_dir() or (root / inside).is_dir(), folder
