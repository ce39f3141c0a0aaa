"""Both pages in a real browser; skipped, saying why, where there is none."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.reporting.conftest import visited

VIEWS = [
    (name, width, scheme)
    for name in ("report.html", "evidence.html")
    for width in (390, 1280)
    for scheme in ("light", "dark")
]


@pytest.fixture(params=VIEWS, ids=lambda view: "-".join(map(str, view)))
def tab(small_run: Path, browser: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    name, width, scheme = request.param
    size = {"width": width, "height": 800}
    view = {"viewport": size, "color_scheme": scheme, "bypass_csp": True}
    with visited(browser, small_run / name, **view) as page:
        yield page


FIGURES = {"report.html": 1, "evidence.html": 6}
"""Figures that are seen with everything folded; on the evidence, a map for each claim in part."""


def test_each_figure_and_its_legend_are_on_the_page_and_nothing_sticks_out(tab: Any) -> None:
    width = tab.viewport_size["width"]
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    seen = tab.evaluate("""() => [...document.querySelectorAll("figure")].map(figure => {
      const shown = [...figure.querySelectorAll("svg[role=img]")].filter(e => e.clientWidth);
      const box = e => e.getBoundingClientRect();
      return {
        pictures: shown.map(e => [box(e).left, box(e).right]),
        texts: shown.flatMap(e => [...e.querySelectorAll("text")]).map(
          e => [e.textContent.trim(), box(e).left, box(e).right, box(e).height]),
      };
    })""")
    unfolded = [figure for figure in seen if figure["pictures"]]
    assert len(unfolded) == FIGURES[tab.url.rpartition("/")[2]]
    for figure in unfolded:
        ((left, right),) = figure["pictures"]
        assert 0 <= left < left + 300 < right <= width
        assert figure["texts"]
        for words, start, stop, height in figure["texts"]:
            assert 0 <= start <= stop <= width, words
            assert height > 8, words
    outside = tab.evaluate("""() => [...document.querySelectorAll("main *")]
      .filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest(".scroll"))
      .map(e => e.outerHTML.slice(0, 80))""")
    assert outside == []
    squeezed = tab.evaluate("""() => [...document.querySelectorAll(".claims td:nth-child(3)")]
      .filter(e => e.getBoundingClientRect().width < 150).map(e => e.textContent)""")
    assert squeezed == [], "next to a long verdict the number goes to a line of its own"


def test_a_timeline_tells_the_bytes_under_the_pointer(small_run: Path, wide: Any) -> None:
    wide.goto((small_run / "evidence.html").as_uri())
    first, last = wide.evaluate("""() => {
      document.querySelectorAll("details").forEach(one => { one.open = true; });
      const svg = document.querySelector("figure .wide svg:has(rect title)");
      svg.scrollIntoView({block: "center"});
      const [first, ...rest] = svg.querySelectorAll("rect:has(title)");
      return [first, rest.at(-1)].map(rect => {
        const box = rect.getBoundingClientRect();
        const x = box.x + box.width / 2, y = box.y + box.height / 2;
        return document.elementFromPoint(x, y).querySelector("title").textContent;
      });
    }""")
    assert first.startswith("event 0, ")
    for words in (first, last):
        live, *parts = (
            int(size.replace(",", "")) for size in re.findall(r"[\d,]+(?= bytes|$)", words, re.M)
        )
        assert live == sum(parts)
