"""The built site, page by page: as text, and in a browser on a phone and on a dark screen."""

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urlsplit

import pytest

from tests.child_process import run
from tests.reporting.conftest import NO_AXE, serious
from tests.reporting.test_report import Page

pytestmark = pytest.mark.slow

DOCS = Path(__file__).parents[2] / "docs"
VIEWS = [(390, "light"), (1280, "dark")]  # each width and each scheme once


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site as ``make docs`` does, unless $SITE names one that is built."""
    if "SITE" in os.environ:
        return Path(os.environ["SITE"])
    pytest.importorskip("sphinx_click", reason="needs the extra docs")
    built = tmp_path_factory.mktemp("site")
    command = (sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html")
    done = run(*command, DOCS, built)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return built


def test_no_directive_is_left_as_text_and_nothing_of_a_library_is_published(site: Path) -> None:
    for path in site.rglob("*.html"):
        page = path.read_text(encoding="utf-8")
        left = re.findall(r"\.\. [a-z-]+::|\{(?:eval-rst|code-cell|figure|term)\}", page)
        assert left == [], path
        assert "CPUAllocator" not in page, path
        assert "Copyright" not in page, path


def test_no_link_inside_the_site_is_dead(site: Path) -> None:
    texts = {path: path.read_text(encoding="utf-8") for path in sorted(site.rglob("*.html"))}
    pages = {path: Page(text) for path, text in texts.items()}
    ids = {path: set(page.values("id", "name")) for path, page in pages.items()}
    dead, looked_at = [], 0
    for path, page in pages.items():
        for address in {*page.values("href", "src")}:
            looked_at += 1
            if urlsplit(address).scheme or address.startswith("//"):
                continue
            file, fragment = urldefrag(unquote(address))
            target = (path.parent / file.partition("?")[0]).resolve() if file else path
            if not target.exists() or (fragment and fragment not in ids.get(target, {fragment})):
                dead.append(f"{path.relative_to(site)}: {address}")
    assert dead == []
    assert looked_at > 500


def test_the_command_line_page_names_options_as_they_are_typed(site: Path) -> None:
    page = (site / "cli.html").read_text(encoding="utf-8")
    options = re.findall(r'id="cmdoption-harness-predict-([a-z-]+)"', page)
    assert {"gpu", "budget", "answer", "html"} <= set(options)
    assert "\N{EN DASH}gpu" not in page


@pytest.fixture(params=VIEWS, ids=lambda view: "-".join(map(str, view)))
def tab(browser: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    width, scheme = request.param
    context = browser.new_context(
        viewport={"width": width, "height": 800}, color_scheme=scheme, bypass_csp=True
    )
    yield context.new_page()
    context.close()


def test_no_page_scrolls_sideways(site: Path, tab: Any) -> None:
    for path in site.rglob("*.html"):
        tab.goto(path.as_uri())
        wide = tab.evaluate("document.documentElement.scrollWidth")
        assert wide <= tab.viewport_size["width"], path


@pytest.mark.skipif(bool(NO_AXE), reason=NO_AXE)
def test_axe_finds_nothing_serious(site: Path, tab: Any) -> None:
    """Half of the pages in each view: widths and colours are those of one style."""
    grave = []
    for path in sorted(site.rglob("*.html"))[tab.viewport_size["width"] == VIEWS[0][0] :: 2]:
        tab.goto(path.as_uri())
        grave += [f"{path.name}: {each}" for each in serious(tab)]
    assert grave == []


def test_a_copied_command_has_no_prompt(site: Path, wide: Any) -> None:
    wide.goto((site / "getting-started.html").as_uri())
    block = wide.locator(".highlight-console").first
    wide.evaluate("""() => document.addEventListener("copy", () => {
      window.copied = document.activeElement.value || String(getSelection());
    })""")
    block.hover()
    block.locator("button.copybtn").click()
    assert wide.evaluate("window.copied").startswith("harness predict")


def test_a_search_for_out_of_memory_finds_the_guide_first(site: Path, wide: Any) -> None:
    wide.goto((site / "search.html").as_uri() + "?q=out+of+memory")
    first = wide.locator("#search-results li a").first
    first.wait_for(timeout=20_000)
    assert first.text_content() == "Out of memory"
