"""`python -m benchmarks.dashboard` on results of three commits, in a browser that reaches no network."""

import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers.browser import chromium, served

ROOT = Path(__file__).parents[2]
SECONDS = {"step.Step.track_seconds": (1.0, 1.0, 1.6), "step.Step.track_never": None}
MACHINE = {"machine": "one", "arch": "any", "cpu": "one", "num_cpu": "2", "os": "some", "ram": "1"}
CONFIG = {"version": 1, "project": "p", "repo": ".", "branches": ["HEAD"], "results_dir": "results", "html_dir": "html"}

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("asv") is None, reason="asv is not installed"),
    pytest.mark.skipif(importlib.util.find_spec("asv_tachyon") is None, reason="asv-tachyon is not installed"),
    pytest.mark.skipif(not (ROOT / "benchmarks").exists(), reason="the benchmarks are not beside the tests"),
]


def git(folder, *words):
    who = ("-c", "user.name=tests", "-c", "user.email=tests@example.org")
    return subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The folder of the pages, and the commits, oldest first."""
    folder = tmp_path_factory.mktemp("dashboard")
    git(folder, "init", "-q")
    commits = []
    for number in range(3):
        git(folder, "commit", "-q", "--allow-empty", "-m", f"Change {number}")
        commits.append(git(folder, "rev-parse", "HEAD").strip())
    results = folder / "results"
    (results / "one").mkdir(parents=True)
    (folder / "asv.conf.json").write_text(json.dumps(CONFIG))
    (results / "one" / "machine.json").write_text(json.dumps(MACHINE | {"version": 1}))
    told = {"code": "", "param_names": [], "params": [], "type": "track", "unit": "seconds", "version": "1"}
    benchmarks = {name: told | {"name": name} for name in SECONDS}
    (results / "benchmarks.json").write_text(json.dumps(benchmarks | {"version": 2}))
    for number, commit in enumerate(commits):
        made = {name: [[found[number]], [], "1"] for name, found in SECONDS.items() if found}
        result = {
            **{"commit_hash": commit, "env_name": "e", "date": 1_700_000_000_000 + number, "python": "3"},
            **{"params": MACHINE | {"python": "3"}, "requirements": {}, "env_vars": {}, "durations": {}, "version": 2},
            **{"result_columns": ["result", "params", "version"], "results": made},
        }
        (results / "one" / f"{commit[:8]}-e.json").write_text(json.dumps(result))
    command = [sys.executable, "-m", "benchmarks.dashboard", "--config", str(folder / "asv.conf.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "html", commits


def test_the_pages_are_told_what_they_ask_for(published):
    html, commits = published
    index = json.loads((html / "index.json").read_text())
    assert {name: x["less_is_better"] for name, x in index["benchmarks"].items()} == {"step.Step.track_seconds": True}
    assert json.loads((html / "commits.json").read_text()) == {x: f"Change {k}" for k, x in enumerate(commits)}


def test_the_pages_load_nothing_from_elsewhere_and_know_what_is_slower(published):
    html, commits = published
    with chromium() as browser, served(html) as address:
        browser.get(f"{address}/index.html#view=heatmap")
        cells = _when(lambda: [x for x in browser.find_elements("css selector", "td") if x.text == "1.60"])
        assert "var(--danger)" in cells[0].get_attribute("style")
        browser.get(f"{address}/index.html#view=explore&bench=step.Step.track_seconds")
        browser.refresh()
        _when(lambda: all(x[:8] in browser.find_element("tag name", "body").text for x in commits))
        said = [
            x["message"] for x in browser.get_log("browser") if "/samples/" not in x["message"]
        ]  # need not be there
        assert said == []
        loaded = browser.execute_script("return performance.getEntriesByType('resource').map(x => x.name)")
    assert len(loaded) > 3
    assert all(url.startswith(address) for url in loaded), loaded


def _when(found):
    for _ in range(150):
        result = found()
        if result:
            return result
        time.sleep(0.2)
    raise AssertionError("the page does not show it after half a minute")
