"""Every public name is in the reference once, and its docstring has what the reference promises of each."""

import importlib
import inspect
import re
from pathlib import Path

import pytest

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
MODULES = ("nagd_numba", "nagd_numba.schedules", "nagd_numba.distributed")

pytestmark = pytest.mark.skipif(not REFERENCE.exists(), reason="needs the source tree")


def listed():
    """The names of the reference by module, as the pages list them."""
    found = {}
    for page in sorted(REFERENCE.glob("*.md")):
        for module, names in re.findall(
            r"currentmodule:: ([\w.]+)\n\n.. autosummary::\n(?:   :.*\n)+\n((?:   \w+\n)+)", page.read_text("utf-8")
        ):
            found.setdefault(module, []).extend(names.split())
    return found


def public(module):
    made = importlib.import_module(module)
    if hasattr(made, "__all__"):
        return {name for name in made.__all__ if name != "__version__" and not inspect.ismodule(getattr(made, name))}
    # The adapter for JAX makes its functions from the registry.
    return {name for name, x in vars(made).items() if name[0] != "_" and getattr(x, "__module__", "") == module}


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_is_in_the_reference_once(module):
    names = listed()[module]
    assert sorted(names) == sorted(set(names))
    assert set(names) == public(module)


@pytest.mark.parametrize("adapter", ["torch", "optax", "keras", "sklearn"])
def test_every_name_of_an_adapter_is_in_the_reference(adapter):
    pytest.importorskip(adapter, reason=f"{adapter}, or what it stands on, is not installed")
    module = f"nagd_numba.adapters.{adapter}"
    assert set(listed()[module]) == public(module) - {"Fused"}


OURS = [
    pytest.param(module, name, id=f"{module.removeprefix('nagd_numba').lstrip('.')}.{name}".lstrip("."))
    for module in MODULES
    for name in sorted(public(module))
]


@pytest.mark.parametrize(("module", "name"), OURS)
def test_a_docstring_has_what_the_reference_promises(module, name):
    made = getattr(importlib.import_module(module), name)
    text = inspect.getdoc(made)
    first, _, rest = text.partition("\n")
    assert first.strip().endswith((".", ":", ";")) or rest.startswith("\n"), "one line says what it is"
    assert ">>> " in text, "a running example"
    given = [x for x in inspect.signature(getattr(made, "py_func", made)).parameters if x not in ("self",)]
    for parameter in given:
        assert re.search(rf"^\**{parameter}\b|, \**{parameter}\b.*:|^[\w, *]*\b{parameter}\b[\w, ]*$|`{parameter}[`=]",
                         text, flags=re.MULTILINE), f"{parameter} is not described"  # fmt: skip
    if given:
        assert re.search(r"Raises\n---|[Rr]aise|errors", text), "what it raises"
