"""`python -m benchmarks.dashboard`: the published results of asv, as pages that open with no network.

`asv publish` writes data, and pages that load jQuery, flot and Bootstrap from hosts of the internet.  asv-tachyon's
pages, which bring along what they need, take their place.  They take figures that are tracked for better where they
are larger, and ask for what asv does not write, so three things are told to them first: that smaller is better, which
benchmarks have results, and what each commit is about.

`asv-tachyon serve .asv/html` serves the pages, and so does any web server.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path


def prepare(html: Path, repository: Path) -> None:
    """Tell the pages what they ask for."""
    index = json.loads((html / "index.json").read_text(encoding="utf-8"))
    measured = {file.stem for file in (html / "graphs").rglob("*.json")}
    index["benchmarks"] = {
        name: benchmark | {"less_is_better": True}
        for name, benchmark in index["benchmarks"].items()
        if name in measured
    }
    command = ["git", "show", "--no-patch", "--format=%H %s", *index["revision_to_hash"].values(), "--"]
    shown = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=True).stdout
    for name, content in {
        "index": index,
        "commits": dict(line.split(" ", 1) for line in shown.splitlines()),
        "profiles": {},
        "regressions-ignore": [],
    }.items():
        (html / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dashboard", description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="asv.conf.json", metavar="FILE", help="asv's configuration (%(default)s)")
    config = Path(parser.parse_args().config).resolve()
    html = config.parent / json.loads(config.read_text(encoding="utf-8"))["html_dir"]
    if subprocess.run([sys.executable, "-m", "asv", "publish", "--config", str(config)], cwd=config.parent).returncode:
        raise SystemExit("error: asv publish failed")
    prepare(html, config.parent)
    if subprocess.run([sys.executable, "-m", "asv_tachyon", "install", "--no-backup", str(html)]).returncode:
        raise SystemExit("error: asv-tachyon could not write its pages; pip install 'nagd-numba[bench]' brings it")
    print(f"see them with: asv-tachyon serve {html}")


if __name__ == "__main__":
    main()
