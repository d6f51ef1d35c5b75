"""The documentation's sources: every block of code runs, links lead somewhere, pictures have their commands."""

import re
from pathlib import Path

import pytest

from nagd_numba.kernels.jit import SIMULATOR
from tests.helpers import code_blocks
from tests.helpers.backends import JIT_OFF

ROOT = Path(__file__).parents[2]
PAGES = [
    page
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    if page.exists() and "_build" not in page.parts
]
ALWAYS = ("README", "first_step")
SLOWEST = ("command_line", "composition", "distributed_training", "from_c", "minimize")  # the other pages run in CI
WITH_CODE = [page for page in PAGES if code_blocks.blocks(page)]
ON_CUDA = [page for page in WITH_CODE if any("# needs CUDA" in block.text for block in code_blocks.blocks(page))]

pytestmark = pytest.mark.skipif(not PAGES, reason="needs the source tree")


def name(page):
    return page.relative_to(ROOT).as_posix() + "-cuda" * (page in ON_CUDA)


@pytest.mark.skipif(JIT_OFF, reason="the pages show compiled code")
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(
            page,
            id=name(page),
            marks=() if page.stem in ALWAYS else pytest.mark.slow if page.stem in SLOWEST else pytest.mark.ci,
        )
        for page in WITH_CODE
    ],
)
def test_code_runs(page, tmp_path):
    first = next((x for x in code_blocks.blocks(page) if not x.mark.startswith(("not run", "run", "test"))), None)
    lacking = code_blocks.missing(first) if first is not None else []
    if lacking:
        pytest.skip(f"{' and '.join(lacking)}: not here")
    if SIMULATOR and page not in ON_CUDA:
        pytest.skip("runs without the simulator")
    done = code_blocks.run(page, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def anchors(page):
    """The anchors that its headings have."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```$|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"\w+:", target):
            file, _, anchor = target.partition("#")
            there = (page.parent / file).resolve() if file else page
            assert there.exists(), target
            assert not anchor or anchor in anchors(there), target


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_pictures_are_made_by_commands_beside_them(page):
    text = page.read_text(encoding="utf-8")
    for path in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text):
        beside = text.replace(f"]({path})", "")
        assert Path(path).stem in " ".join(re.findall(r"```\w+\n.*?```|`[^`]+`", beside, flags=re.DOTALL)), path


def test_nothing_is_left_to_fill_in():
    for page in PAGES:
        assert not re.search(r"\b[A-Z]+_TABLE\b|TODO|XXX", page.read_text(encoding="utf-8")), page


def test_a_block_that_nobody_would_run_is_refused(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```c\nint x;\n```\n")
    with pytest.raises(ValueError, match="line 2: what is a block of 'c' without a mark"):
        code_blocks.program(page)
    page.write_text("<!-- not run: -->\n```sh\nfalse\n```\n")
    assert "false" in code_blocks.program(page)
    page.write_text("<!-- not run: it would fail -->\n```sh\nfalse\n```\n")
    assert "false" not in code_blocks.program(page)


def test_blocks_run_in_order_and_the_first_that_fails_is_told(tmp_path):
    page = tmp_path / "page.md"
    text = (
        "<!-- file: a.txt -->\n```text\none\n```\n```sh\necho two >> a.txt\n```\n"
        '```python\nassert open("a.txt").read() == "one\\ntwo\\n"\n```\n'
        "```python\n# needs a_module_that_is_not_there\nassert False\n```\n"
    )
    page.write_text(text)
    (tmp_path / "good").mkdir()
    assert code_blocks.run(page, tmp_path / "good").returncode == 0
    page.write_text(text + "```sh\nnagd-numba no-such-command\n```\n")
    (tmp_path / "bad").mkdir()
    failed = code_blocks.run(page, tmp_path / "bad")
    assert failed.returncode != 0
    assert "no-such-command" in failed.stderr
