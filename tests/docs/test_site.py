"""The built site, page by page: as text, and in a browser on a phone and on a dark screen."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urlsplit

import pytest

from tests.reporting.browser import AXE, NO_AXE

pytestmark = pytest.mark.slow

DOCS = Path(__file__).parents[2] / "docs"
PAGES = [
    *(
        f"{path.relative_to(DOCS).with_suffix('').as_posix()}.html"
        for kind in ("md", "ipynb")
        for path in sorted(DOCS.rglob(f"*.{kind}"))
        if "_build" not in path.parts
    ),
    "search.html",
    "genindex.html",
    "report.html",
    "evidence.html",
    "literature-report/report.html",
]
VIEWS = [(390, "light"), (1280, "dark")]  # each width and each scheme once


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site as ``make docs`` does, unless $SITE names one that is built."""
    if "SITE" in os.environ:
        return Path(os.environ["SITE"])
    pytest.importorskip("sphinx_click", reason="needs the extra docs")
    built = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    done = subprocess.run(
        [*command, str(DOCS), str(built)], capture_output=True, text=True, check=False, timeout=500
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return built


class Links(HTMLParser):
    """The ids of a page, and the addresses that it names."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.addresses: set[str] = set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.ids |= {value for name in ("id", "name") if (value := values.get(name))}
        answer = values.get("href") if tag in ("a", "link") else values.get("src")
        self.addresses |= {answer} if answer else set()


def test_every_page_is_among_those_looked_at(site: Path) -> None:
    built = {path.relative_to(site).as_posix() for path in site.rglob("*.html")}
    assert built - {"index.html"} == {*PAGES} - {"index.html"}


def test_no_directive_is_left_as_text_and_nothing_of_a_library_is_published(site: Path) -> None:
    for path in site.rglob("*.html"):
        page = path.read_text(encoding="utf-8")
        assert re.findall(r"\.\. [a-z-]+::|\{(?:eval-rst|code-cell|figure|term)\}", page) == [], (
            path
        )
        assert "CPUAllocator" not in page, path
        assert "Copyright" not in page, path


def test_no_link_inside_the_site_is_dead(site: Path) -> None:
    pages = {path: Links(path) for path in sorted(site.rglob("*.html"))}
    dead = []
    for path, answer in pages.items():
        for address in answer.addresses:
            if urlsplit(address).scheme or address.startswith("//"):
                continue
            file, fragment = urldefrag(unquote(address))
            target = (path.parent / file.partition("?")[0]).resolve() if file else path
            ids = pages[target].ids if target in pages else None
            if not target.exists() or (fragment and ids is not None and fragment not in ids):
                dead.append(f"{path.relative_to(site)}: {address}")
    assert dead == []
    assert sum(len(answer.addresses) for answer in pages.values()) > 500


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
    for name in PAGES:
        tab.goto((site / name).as_uri())
        wide = tab.evaluate("document.documentElement.scrollWidth")
        assert wide <= tab.viewport_size["width"], name


@pytest.mark.skipif(bool(NO_AXE), reason=NO_AXE)
def test_axe_finds_nothing_serious(site: Path, tab: Any) -> None:
    """Half of the pages in each view: widths and colours are those of one style."""
    grave = []
    for name in PAGES[tab.viewport_size["width"] == VIEWS[0][0] :: 2]:
        tab.goto((site / name).as_uri())
        tab.add_script_tag(content=AXE.read_text(encoding="utf-8"))
        result = tab.evaluate("axe.run(document)")
        grave += [
            f"{name}: {each['help']}: {each['nodes'][0]['html'][:120]}"
            for each in result["violations"]
            if each["impact"] in ("serious", "critical")
        ]
    assert grave == []


def test_a_copied_command_has_no_prompt(site: Path, browser: Any) -> None:
    page = browser.new_page()
    page.goto((site / "getting-started.html").as_uri())
    block = page.locator(".highlight-console").first
    page.evaluate("""() => document.addEventListener("copy", () => {
      window.copied = document.activeElement.value || String(getSelection());
    })""")
    block.hover()
    block.locator("button.copybtn").click()
    text = page.evaluate("window.copied")
    page.close()
    assert text.startswith("harness predict")


def test_a_search_for_out_of_memory_finds_the_guide_first(site: Path, browser: Any) -> None:
    page = browser.new_page()
    page.goto((site / "search.html").as_uri() + "?q=out+of+memory")
    first = page.locator("#search-results li a").first
    first.wait_for(timeout=20_000)
    title = first.text_content()
    page.close()
    assert title == "Out of memory"
