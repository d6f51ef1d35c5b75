"""`python -m benchmarks.dashboard`: the published results of asv, as pages that open with no network.

`asv publish` makes pages that load jQuery, flot, Bootstrap and others from hosts of the internet.  This runs it,
installs those libraries with npm at the versions and checksums of `benchmarks/vendor/package-lock.json` (once; later
runs need no network), puts them beside the pages, and points the pages at them.  `asv preview` then serves the pages,
and so does any web server.
"""

from __future__ import annotations

import argparse
import filecmp
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOCKED = ROOT / "benchmarks" / "vendor"
FILES = {  # what the pages ask for: where it is in npm's packages
    "jquery-3.3.1.min.js": "jquery/dist/jquery.min.js",
    "jquery.flot.min.js": "jquery-flot/jquery.flot.js",
    "jquery.flot.time.min.js": "jquery-flot/jquery.flot.time.js",
    "jquery.flot.selection.min.js": "jquery-flot/jquery.flot.selection.js",
    "jquery.flot.categories.min.js": "jquery-flot/jquery.flot.categories.js",
    "jquery.flot.orderBars.js": "flot-orderbars/js/jquery.flot.orderBars.js",
    "stupidtable.min.js": "stupid-table-plugin/stupidtable.min.js",
    "md5.min.js": "blueimp-md5/js/md5.min.js",
    "bootstrap.min.js": "bootstrap/dist/js/bootstrap.min.js",
    "bootstrap.min.css": "bootstrap/dist/css/bootstrap.min.css",
}
BESIDE = ("bootstrap/dist/fonts",)  # what those files load themselves
LOADED = re.compile(r"<(script|link rel=\"stylesheet\")([^>]*?)(src|href)=\"https?://[^\"]*/([^\"/]+)\"([^>]*)>")
ELSEWHERE = re.compile(r"<(?:script|link)\b[^>]*(?:src|href)=\"(?:https?:)?//[^\"]*\"")


def libraries(folder: Path) -> Path:
    """The folder of npm's packages, installed there if they are not yet."""
    locked = folder / "package-lock.json"
    if not locked.exists() or not filecmp.cmp(locked, LOCKED / "package-lock.json", shallow=False):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        shutil.copy(LOCKED / "package.json", folder)
        npm = shutil.which("npm")
        if npm is None:
            raise SystemExit("error: npm is needed once, to install the libraries of the dashboard: install Node.js")
        shutil.copy(LOCKED / "package-lock.json", folder / "package-lock.json")
        done = subprocess.run([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=folder)
        if done.returncode:
            locked.unlink()  # so that it is tried again
            raise SystemExit("error: npm could not install the libraries of the dashboard")
    return folder / "node_modules"


def make_local(html: Path, packages: Path) -> None:
    """Put the libraries into the folder of the pages, and let the pages load them from there."""
    vendor = html / "vendor"
    for file in (*FILES.values(), *BESIDE):
        target = vendor / file
        target.parent.mkdir(parents=True, exist_ok=True)
        if (packages / file).is_dir():
            shutil.copytree(packages / file, target, dirs_exist_ok=True)
        else:
            shutil.copy(packages / file, target)
    for page in html.glob("*.html"):
        text = LOADED.sub(_local, page.read_text(encoding="utf-8"))
        left = ELSEWHERE.search(text)
        if left:
            raise SystemExit(f"error: {page.name} loads what this does not know: {left[0]}; add it to FILES")
        page.write_text(text, encoding="utf-8")


def _local(found: re.Match) -> str:
    tag, before, attribute, name, after = found.groups()
    if name not in FILES:
        return found[0]
    # The checksums of the pages are of files as other hosts serve them; npm has checked those of the packages.
    kept = re.sub(r"\s(?:integrity|crossorigin|referrerpolicy)=\"[^\"]*\"", "", before + "\0" + after)
    before, after = kept.split("\0")
    return f'<{tag}{before}{attribute}="vendor/{FILES[name]}"{after}>'


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dashboard", description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="asv.conf.json", metavar="FILE", help="asv's configuration (%(default)s)")
    options = parser.parse_args()
    config = Path(options.config).resolve()
    settings = json.loads(config.read_text(encoding="utf-8"))
    html = config.parent / settings["html_dir"]
    packages = libraries(config.parent / ".asv" / "vendor")
    command = [sys.executable, "-m", "asv", "publish", "--config", str(config)]
    if subprocess.run(command, cwd=config.parent).returncode:
        raise SystemExit("error: asv publish failed")
    make_local(html, packages)
    print(f"{html / 'index.html'}: see it with `asv preview`")


if __name__ == "__main__":
    main()
