"""The list of a release finds what keeps one back, and a dry run changes nothing."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tools import release
from tools.lowest import lowest

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")

FILES = {
    "nagd_numba/_version.py": '__version__ = "1.2.0"\n',
    "CHANGELOG.md": "# Changes\n\n## 1.2.0 (2026-01-31)\n\n- Something.\n\n## 1.1.0 (2025-01-31)\n\n- Less.\n",
    "CITATION.cff": "version: 1.2.0\n",
    "conda/recipe.yaml": 'context:\n  version: "1.2.0"\n',
}


@pytest.fixture
def project(tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    commit(tmp_path)
    return tmp_path


def commit(root):
    for command in ("init -q", "add -A", "-c user.name=a -c user.email=b commit -q --allow-empty -m c"):
        subprocess.run(["git", *command.split()], cwd=root, check=True)


def failures(root, monkeypatch, dry=True):
    """What a run says of the steps that failed; building is left out."""
    monkeypatch.setattr(release, "check_files", lambda *_: [])
    said = []
    count = release.release(root, dry, say=said.append)
    failed = [line for line in said if line.startswith("failed")]
    assert len(failed) == count
    return failed


def test_a_dry_run_of_what_is_ready(project, monkeypatch):
    assert failures(project, monkeypatch) == []
    assert release.git(project, "tag") == ""
    assert release.git(project, "status", "--porcelain") == ""


def test_a_release_makes_the_tag_once(project, monkeypatch):
    for name, value in (("AUTHOR_NAME", "a"), ("AUTHOR_EMAIL", "b"), ("COMMITTER_NAME", "a"), ("COMMITTER_EMAIL", "b")):
        monkeypatch.setenv(f"GIT_{name}", value)
    assert failures(project, monkeypatch, dry=False) == []
    assert release.git(project, "tag") == "v1.2.0"
    (found,) = failures(project, monkeypatch)
    assert "there is a tag v1.2.0" in found
    with pytest.raises(SystemExit):
        failures(project, monkeypatch, dry=False)


@pytest.mark.parametrize(
    ("name", "before", "after", "message"),
    [
        ("CHANGELOG.md", "1.2.0 (2026-01-31)", "1.2.0 (unreleased)", "1.2.0 is (unreleased); the date"),
        ("CHANGELOG.md", "## 1.2.0", "## 1.3.0", "begins with 1.3.0; 1.2.0 is needed"),
        ("CHANGELOG.md", "- Something.\n", "", "says nothing about 1.2.0"),
        ("CITATION.cff", "1.2.0", "1.1.0", "CITATION.cff has version 1.1.0; 1.2.0 is needed"),
        ("conda/recipe.yaml", "1.2.0", "1.1.0", "conda/recipe.yaml has version 1.1.0; 1.2.0 is needed"),
    ],
)
def test_what_does_not_fit_keeps_it_back(project, monkeypatch, name, before, after, message):
    path = project / name
    path.write_text(path.read_text(encoding="utf-8").replace(before, after), encoding="utf-8")
    commit(project)
    (found,) = failures(project, monkeypatch)
    assert message in found


def test_what_is_not_committed_keeps_it_back(project, monkeypatch):
    (project / "more").touch()
    (found,) = failures(project, monkeypatch)
    assert "git status is not clean" in found


def test_no_version(project):
    (project / "nagd_numba" / "_version.py").write_text('__version__ = "next"\n', encoding="utf-8")
    with pytest.raises(release.NotReady, match="'next'; one such as"):
        release.version_of(project)


def test_a_command_that_fails_is_told():
    with pytest.raises(release.NotReady, match="ended with 3:\nwhy"):
        release.run("sh", "-c", "echo why; exit 3")


def test_this_project_has_one_version():
    """But for the date in the changes, which a release brings."""
    root = Path(release.__file__).parents[1]
    release.check_version(root, release.version_of(root))


def test_lowest_dependencies(tmp_path):
    (tmp_path / "pyproject.toml").write_text(
        '[project]\ndependencies = ["numba>=0.67", "llvmlite", "a[b]>=1.0,<2"]\n'
        '[project.optional-dependencies]\ntest = ["pytest >= 8", "tbb; sys_platform == \'linux\'"]\n',
        encoding="utf-8",
    )
    assert lowest(root=tmp_path) == ["numba==0.67", "a==1.0"]
    assert lowest(["test"], tmp_path) == ["numba==0.67", "a==1.0", "pytest==8"]
    assert all("==" in line for line in lowest(["test", "plot", "sklearn"]))
