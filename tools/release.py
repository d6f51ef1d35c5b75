"""The steps of a release, each checked: `python -m tools.release --dry-run`, and without the option to make the tag.

The version is in `nagd_numba/_version.py` and nowhere else but where this looks: the changes, the citation, the recipe.
Uploading is left to whoever has the right to: the last lines say how.  Needs git and the extra `release`.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]


class NotReady(Exception):
    """What keeps the release back."""


def version_of(root: Path) -> str:
    """The version, by `nagd_numba/_version.py`."""
    found = re.search(r'__version__ = "([^"]+)"', (root / "nagd_numba" / "_version.py").read_text(encoding="utf-8"))
    if found is None:
        raise NotReady("nagd_numba/_version.py has no __version__")
    if not re.fullmatch(r"\d+\.\d+\.\d+(rc\d+)?", found[1]):
        raise NotReady(f"the version is {found[1]!r}; one such as 1.2.3 or 1.2.3rc1 is needed")
    return found[1]


def check_version(root: Path, version: str) -> None:
    """The citation and the recipe name it."""
    for name, pattern in (("CITATION.cff", r"^version: (\S+)$"), ("conda/recipe.yaml", r'^  version: "(\S+)"$')):
        found = re.search(pattern, (root / name).read_text(encoding="utf-8"), flags=re.MULTILINE)
        if found is None or found[1] != version:
            raise NotReady(f"{name} has version {found[1] if found else None}; {version} is needed")


def check_changes(root: Path, version: str) -> None:
    """The changes begin with this version and the date of its release, and say something."""
    text = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    found = re.search(r"^## (\S+) \(([^)]*)\)\n(.*?)(?=^## |\Z)", text, flags=re.MULTILINE | re.DOTALL)
    if found is None or found[1] != version:
        raise NotReady(f"CHANGELOG.md begins with {found[1] if found else 'no version'}; {version} is needed")
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", found[2]):
        raise NotReady(f"CHANGELOG.md: {version} is ({found[2]}); the date, such as (2026-01-31), is needed")
    if not found[3].strip():
        raise NotReady(f"CHANGELOG.md says nothing about {version}")


def check_tree(root: Path, version: str) -> None:
    """All is committed, and the tag is not there yet."""
    if git(root, "status", "--porcelain"):
        raise NotReady("git status is not clean; commit first")
    if git(root, "tag", "--list", f"v{version}"):
        raise NotReady(f"there is a tag v{version}")


def check_files(root: Path, version: str, out: Path) -> list[Path]:
    """Build sdist and wheel, check their metadata and what is in them, and try the wheel in an empty environment."""
    run(sys.executable, "-m", "build", "--quiet", "--outdir", str(out), str(root))
    sdist, wheel = out / f"nagd_numba-{version}.tar.gz", out / f"nagd_numba-{version}-py3-none-any.whl"
    run(sys.executable, "-m", "twine", "check", "--strict", str(sdist), str(wheel))
    with zipfile.ZipFile(wheel) as file:
        inside = set(file.namelist())
    sources = {f"nagd_numba/{x.relative_to(root / 'nagd_numba').as_posix()}" for x in of_package(root)}
    if inside - {x for x in inside if ".dist-info/" in x} != sources:
        raise NotReady(f"{wheel.name} differs from nagd_numba/: {sorted(inside ^ sources)[:5]}")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for needed in ("LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml", "tests/conftest.py"):
        if needed not in names:
            raise NotReady(f"{sdist.name} lacks {needed}")
    return [sdist, wheel]


def of_package(root: Path) -> list[Path]:
    """The files of the package that git knows, or all where there is no git."""
    if shutil.which("git") is None or not (root / ".git").exists():
        made = ("__pycache__", ".mypy_cache")
        return [x for x in (root / "nagd_numba").rglob("*") if x.is_file() and not set(made) & set(x.parts)]
    listed = git(root, "ls-files", "-z", "nagd_numba")
    return [root / name for name in listed.split("\0") if name]


def try_wheel(wheel: Path, out: Path, python: str = sys.executable) -> None:
    """Install the wheel into an empty environment, take a step, and train an epoch."""
    place = out / f"empty-{Path(python).name}"
    if python == sys.executable:
        venv.create(place, with_pip=True)
    else:
        run(python, "-m", "venv", str(place))
    run(str(place / "bin" / "python"), "-m", "pip", "install", "-q", str(wheel))
    program = (
        "import numpy as np, nagd_numba; p, g, v = np.ones(3), np.ones(3), np.zeros(3); "
        "nagd_numba.step(p, g, v, lr=0.5, momentum=0.0); assert p.tolist() == [0.5, 0.5, 0.5]"
    )
    # Not from the source tree, which would be imported in its place.
    run(str(place / "bin" / "python"), "-c", program, cwd=out)
    run(str(place / "bin" / "nagd-numba"), "train", "--epochs", "1", cwd=out)


def git(root: Path, *arguments: str) -> str:
    """What git prints."""
    return subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True, text=True).stdout.strip()


def run(*command: str, cwd: Path | None = None) -> None:
    """Run a command; raises `NotReady` with its last lines where it fails."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise NotReady(f"{' '.join(command)} ended with {done.returncode}:\n{said}")


def release(
    root: Path,
    dry: bool,
    files_only: bool = False,
    python: str = sys.executable,
    say: Callable[[str], None] = print,
) -> int:
    """Go through the list; returns the number of steps that failed.  A dry run goes on after a failure."""
    failed = 0

    def step(what: str, check: Callable[[], object]) -> None:
        nonlocal failed
        try:
            check()
            say(f"ok      {what}")
        except NotReady as error:
            failed += 1
            say(f"failed  {what}: {error}")
            if not dry:
                raise SystemExit(1) from error

    version = version_of(root)
    say(f"nagd_numba {version}{', a dry run: nothing is changed' if dry else ''}")
    if not files_only:
        step("citation and recipe have the version", lambda: check_version(root, version))
        step("the changes have the version and its date", lambda: check_changes(root, version))
        step("all is committed, and there is no such tag", lambda: check_tree(root, version))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) if dry else root / "dist"
        files: list[Path] = []
        step("sdist and wheel", lambda: files.extend(check_files(root, version, out)))
        if files:
            step(f"the wheel in an empty environment of {python}", lambda: try_wheel(files[1], Path(folder), python))
        for file in files:
            say(f"        {file.name}  sha256 {hashlib.sha256(file.read_bytes()).hexdigest()}")
    if not dry:
        git(root, "tag", "--annotate", f"v{version}", "--message", f"nagd_numba {version}")
        say(f"done    git tag v{version}; dist/ has the files")
    if not files_only:
        tag = f"git tag -a v{version}, " if dry else ""
        say(f"left    {tag}git push --follow-tags, twine upload dist/*,")
        say("        address and sum of the sdist in conda/recipe.yaml")
    return failed


def main() -> int:
    """The command; its exit code is 0 where nothing keeps the release back."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dry-run", action="store_true", help="check everything, change nothing")
    parser.add_argument("--files", action="store_true", help="a dry run of what is built, alone")
    parser.add_argument("--python", default=sys.executable, help="the Python that tries the wheel")
    args = parser.parse_args()
    return min(1, release(ROOT, args.dry_run or args.files, args.files, args.python))


if __name__ == "__main__":
    sys.exit(main())
