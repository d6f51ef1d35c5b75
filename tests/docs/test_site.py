"""The site: built with warnings as errors, read in Chromium at two widths, with no network."""

import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlparse

import pytest

from tests.helpers.browser import chromium, served

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.ci, pytest.mark.skipif(not (ROOT / "docs" / "conf.py").exists(), reason="needs the sources")]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    for module in ("sphinx", "numpydoc", "myst_parser", "pydata_sphinx_theme", "sphinx_copybutton"):
        pytest.importorskip(module, reason=f"{module} is not installed: the extra docs")
    built = tmp_path_factory.mktemp("site")
    made = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", built / "doctrees", "docs", built / "html"],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stdout + made.stderr
    return built / "html"


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


def pages(site):
    return sorted(path.relative_to(site).as_posix() for path in site.rglob("*.html") if "_static" not in path.parts)


def test_no_link_is_broken_and_nothing_is_loaded_from_elsewhere(site):
    names = {}

    def anchors(path):
        if path not in names:
            names[path] = set(re.findall(r'\b(?:id|name)="([^"]+)"', path.read_text(encoding="utf-8")))
        return names[path]

    looked = 0
    for page in pages(site):
        text = (site / page).read_text(encoding="utf-8")
        loaded = re.findall(r'<(?:script|img|link|iframe)\b[^>]*?\b(?:src|href)="([^"]+)"', text)
        assert not [x for x in loaded if re.match(r"(\w+:)?//", x)], page
        for link in {*loaded, *re.findall(r'<a\b[^>]*?\bhref="([^"]+)"', text)}:
            if urlparse(link).scheme or link.startswith("//"):
                continue
            target, anchor = urldefrag(urljoin(f"/{page}", link))
            path = site / unquote(target).partition("?")[0].lstrip("/")
            assert path.is_file(), f"{page}: {link}"
            if anchor and path.suffix == ".html":
                assert unquote(anchor) in anchors(path), f"{page}: {link}"
            looked += 1
    assert looked > 1000
    styles = "".join(path.read_text(encoding="utf-8", errors="replace") for path in site.rglob("*.css"))
    assert not re.findall(r"(?:@import\s+|url\()[\"']?(?:https?:)?//[^)\"']+", styles)


WIDER = """
const wide = document.documentElement.scrollWidth - window.innerWidth;
const out = [...document.querySelectorAll('.bd-article *')].filter(e => {
    const box = e.getBoundingClientRect();
    if (box.width === 0 || box.right <= window.innerWidth + 1) return false;
    for (let x = e; x && !x.classList.contains('bd-article'); x = x.parentElement)
        if (getComputedStyle(x).overflowX !== 'visible') return false;
    return true;
});
const thin = [...document.querySelectorAll('.bd-article td, .bd-article p')].filter(e =>
    e.getBoundingClientRect().width < 60 && e.textContent.trim().length > 30);
return [wide, [...out, ...thin].slice(0, 3).map(e => e.tagName + ' ' + e.textContent.trim().slice(0, 60))];
"""


@pytest.mark.parametrize("width", [400, pytest.param(1600, marks=pytest.mark.slow)])
def test_every_page_is_readable_at_this_width(site, browser, width):
    """Nothing is wider than the window but what scrolls in itself, and the console has no error."""
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    )
    browser.get_log("browser")
    wrong = []
    with served(site) as address:
        for page in pages(site):
            browser.get(f"{address}/{page}")
            assert browser.execute_script("return window.innerWidth") == width
            wide, out = browser.execute_script(WIDER)
            if wide > 0 or out:
                wrong.append(f"{page} is {wide} pixels wider, or holds what is too wide or too thin: {out}")
            if browser.execute_script("return parseFloat(getComputedStyle(document.body).fontSize)") < 14:
                wrong.append(f"{page} has small letters")
            messages = [x["message"] for x in browser.get_log("browser") if x["level"] in ("SEVERE", "WARNING")]
            if messages:
                wrong.append(f"{page} says {messages}")
    assert not wrong, "\n".join(wrong)


def test_formulas_are_typeset_by_the_browser(site, browser):
    with served(site) as address:
        browser.get(f"{address}/reference/api/nagd_numba.adam_step.html")
        height = "return document.querySelector('div.math mfrac').getBoundingClientRect().height"
        line = "return parseFloat(getComputedStyle(document.querySelector('div.math')).fontSize)"
        assert browser.execute_script(height) > 1.5 * browser.execute_script(line)
        assert not browser.find_elements("css selector", ".merror, mtext[class*=error]")


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("random bits", "StochasticRounding"),
        ("adam_step", "adam_step"),
        ("leapfrog", "Your simulation in Numba"),
    ],
)
def test_search_finds_pages(site, browser, words, found):
    from selenium.webdriver.support.ui import WebDriverWait

    with served(site) as address:
        browser.get(f"{address}/search.html?q={words.replace(' ', '+')}")
        results = "return [...document.querySelectorAll('#search-results li a')].map(e => e.textContent)"
        shown = WebDriverWait(browser, 20).until(
            lambda page: [x for x in page.execute_script(results) if found in x] or None
        )
        assert shown
        browser.find_elements("css selector", "#search-results li a")[0].click()
        assert browser.find_elements("css selector", "article h1")
        assert not [x for x in browser.get_log("browser") if x["level"] == "SEVERE"]
