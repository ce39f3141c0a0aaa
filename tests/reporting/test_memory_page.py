"""The page of a step as a tool: what it draws adds up, and a mouse and keys can use it."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.plots.memory_page import sheet_page
from harness.plots.sheet import Sheet
from harness.plots.step_sheets import prediction_sheet
from harness.plots.timeline import Timeline
from harness.plots.traced_timeline import traced_timeline
from harness.schema.events import Event, Trace
from harness.schema.memory_fit import GpuFit
from harness.schema.metrics import Layer
from harness.schema.step_report import StepReport
from tests.reporting.conftest import NO_AXE, serious, visited

MIB = 1 << 20
HOSTILE = "</script><script>document.title='owned'</script>"


def step_page(report: StepReport, commands: Sequence[str] = ()) -> str:
    return sheet_page(prediction_sheet(report, commands))


def planted(blocks: int) -> Trace:
    """Return two steps of a network of ``blocks``, each block of which keeps 2 MiB for backward."""
    build = [Event(0, "build", "empty", f"blocks.{n}", "parameter", MIB, n) for n in range(blocks)]
    events = build
    for step in (1, 2):
        kept = [
            Event(step, "forward", "aten::mm", f"blocks.{n}.up", "activation", 2 * MIB, n + MIB)
            for n in range(blocks)
        ]
        events = [*events, *kept]
        for event in reversed(kept):
            work = event._replace(
                phase="backward", operator="MmBackward0/aten::mm", category="temporary",
                size_bytes=3 * MIB, address=90_000,
            )  # fmt: skip
            freed = (work._replace(size_bytes=-3 * MIB), event._replace(size_bytes=-2 * MIB))
            events += [work, *(each._replace(phase="backward") for each in freed)]
    return Trace(events)


@pytest.mark.parametrize(("blocks", "moments", "backward"), [(6, 25, 6), (20_000, 5_000, 1_250)])
def test_a_timeline_keeps_its_peak_and_its_sums_and_stays_below_a_megabyte(
    blocks: int, moments: int, backward: int
) -> None:
    trace = planted(blocks)
    assert len(step_page(StepReport(method="dry run", trace=trace))) < 1_000_000
    line = traced_timeline(trace)
    totals = line.total_bytes()
    assert len(line.blocks) <= 10_000
    assert max(totals) == trace.peak_live_bytes
    start = next(n for n, event in enumerate(trace.events) if event.step == 2)
    assert totals == [trace.live_bytes[start - 1 + at] for at in line.events]
    assert len(line.events) == moments
    assert line.phases == [("forward", 0), ("backward", backward)]


def test_the_page_lists_layers_in_forward_order_and_the_largest_blocks() -> None:
    trace = planted(6)
    sizes = {"parameter_bytes": 8, "output_bytes": 8, "saved_bytes": 8, "peak_bytes": 8}
    layers = tuple(Layer(name=name, kind="Linear", **sizes) for name in ("up", "", "down"))
    report = StepReport(
        method="dry run", target="Mine <Net>", trace=trace, layers=layers,
        peak_live_bytes=trace.peak_live_bytes,
    )  # fmt: skip
    text = step_page(report)
    assert "<title>Mine &lt;Net&gt;</title>" in text
    assert "peak 21 MiB" in text
    listed, _, blocks = text[text.index("Layers, in forward order") :].partition("Largest blocks")
    assert re.findall(r'<td class="name">(.*?) \(Linear', listed) == ["up", "(network)", "down"]
    largest = [int(size.replace(",", "")) for size in re.findall(r">([\d,]+)</td><td", blocks)]
    assert largest[:10] == [block.event.size_bytes for block in trace.alive_at_peak()[:10]]


def test_only_the_script_of_the_page_may_run(tmp_path: Path) -> None:
    trace = Trace([Event(1, "forward", HOSTILE, HOSTILE, "activation", MIB, 1)])
    page = step_page(StepReport(method="dry run", target=HOSTILE, trace=trace, notes=(HOSTILE,)))
    assert page.count("<script") == 2
    assert "script-src 'sha256-" in page
    (data,) = re.findall(r'id="data">(.*?)</script>', page, re.S)
    assert HOSTILE in json.loads(data)["timeline"]["layers"]


FIT = GpuFit(
    gpu="l4", capability="8.9", total_bytes=200 * MIB, outside_bytes=(10 * MIB, 20 * MIB),
    allocator_settings="", allocated_peak_bytes=(150 * MIB, 150 * MIB),
    reserved_peak_bytes=(160 * MIB, 160 * MIB), verdict="fits", is_searched=True, largest_batch=9,
    tried=((4, 80 * MIB), (8, 160 * MIB), (16, 320 * MIB)),
)  # fmt: skip


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    report = StepReport(method="dry run", trace=planted(48), fit=FIT, batch=8)
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(step_page(report, ["harness plan net.py:Net"]), encoding="utf-8")
    return path


def test_keys_walk_zoom_and_choose_a_block(browser: Any, page: Path) -> None:
    with visited(browser, page) as tab:
        moment, block = tab.locator("#moment"), tab.locator("#block")
        peak = "147 MiB alive after event 49 of 192, backward"
        assert moment.inner_text() == peak
        tab.locator("#timeline").focus()
        whole = tab.locator("#timeline svg").inner_html()
        tab.keyboard.press("ArrowRight")
        assert moment.inner_text() == "144 MiB alive after event 50 of 192, backward"
        tab.keyboard.press("[")
        tab.keyboard.press("[")
        assert moment.inner_text().endswith("before the first event, forward")
        tab.keyboard.press("p")
        tab.keyboard.press("ArrowDown")  # the topmost block
        assert "Block: 3 MiB (3,145,728 B), temporary; blocks.47.up; " in block.inner_text()
        assert "1 events later" in block.inner_text()
        tab.keyboard.press("Escape")
        tab.keyboard.press("+")
        assert tab.locator("#timeline svg").inner_html() != whole
        tab.keyboard.press("0")
        assert tab.locator("#timeline svg").inner_html() == whole
        tab.keyboard.press("Tab")
        assert tab.evaluate("document.activeElement.id") == "treemap"
        tab.keyboard.press("ArrowRight")
        assert tab.locator("#layer").inner_text() == "blocks.47.up: 5 MiB (3.4%)"
        assert tab.locator("path.match").count() == 1


def test_a_mouse_zooms_pans_and_picks_the_block_under_it(browser: Any, page: Path) -> None:
    with visited(browser, page) as tab:
        place = tab.locator("#timeline")
        box = place.bounding_box()
        tab.mouse.click(box["x"] + 80, box["y"] + 349)  # the lowest block, at the beginning
        assert "parameter; blocks.0; empty; there before, not freed" in tab.inner_text("#block")
        labels = tab.locator("text.phase")
        assert labels.all_text_contents()[:2] == ["forward", "backward"]
        tab.mouse.move(box["x"] + 80, box["y"] + 200)
        for _ in range(12):
            tab.mouse.wheel(0, -100)
        assert labels.all_text_contents()[0] == "forward"
        assert "backward" not in labels.all_text_contents()
        before = place.inner_html()
        tab.mouse.down()
        tab.mouse.move(box["x"] + 20, box["y"] + 200, steps=3)
        tab.mouse.up()
        assert place.inner_html() != before
        tab.get_by_role("button", name="Whole").click()
        tab.get_by_label("Width by").select_option("bytes")
        tab.get_by_label("Find").fill("blocks.3.up")
        assert tab.locator("path.match").count() == 1
        assert tab.locator("circle").count() == 3
        assert tab.get_by_text("safe up to 9", exact=True).count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_and_paper(browser: Any, page: Path, scheme: str) -> None:
    small = {"width": 390, "height": 800}
    with visited(browser, page, viewport=small, color_scheme=scheme) as tab:
        assert tab.evaluate("document.documentElement.scrollWidth") == 390
        assert tab.locator("#timeline svg text.phase").count() == 2
        limits = tab.locator("#timeline text.limit").all_text_contents()
        assert limits == ["room for PyTorch on l4: 180 MiB"]
        tab.emulate_media(media="print")
        assert not tab.locator(".tools").is_visible()
        assert tab.locator("#timeline svg").is_visible()
        paper = "getComputedStyle(document.body).backgroundColor"
        assert tab.evaluate(paper) == "rgb(255, 255, 255)"


@pytest.mark.skipif(bool(NO_AXE), reason=NO_AXE)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: Any, page: Path, scheme: str) -> None:
    with visited(browser, page, bypass_csp=True, color_scheme=scheme) as tab:
        assert serious(tab) == []


def test_sums_of_layers_have_a_treemap_without_a_timeline(browser: Any, tmp_path: Path) -> None:
    line = traced_timeline(planted(2))
    alive = [each for each in line.blocks if each[0].begin == 0]
    still = Timeline(
        blocks=[(b._replace(end=1), 1) for b, _ in alive], events=range(1), colours=line.colours
    )
    path = tmp_path / "page.html"
    path.write_text(sheet_page(Sheet(title="sums", verdict=["fits"], timeline=lambda: still)))
    with visited(browser, path) as tab:
        assert tab.locator("#timeline").count() == 0
        assert tab.locator(".cell").count() >= 2


def test_find_counts_walks_and_is_left_by_escape(browser: Any, page: Path) -> None:
    with visited(browser, page) as tab:
        found, search = tab.locator("#found"), tab.get_by_label("Find")
        search.fill("no such layer")
        assert found.inner_text() == "none found"
        search.fill("blocks.3.up")
        assert re.match(r"\d+ found, ", found.inner_text())
        search.press("Enter")
        first = tab.inner_text("#block")
        assert "; blocks.3.up; " in first
        search.press("Enter")
        assert tab.inner_text("#block") != first
        assert "; blocks.3.up; " in tab.inner_text("#block")
        search.press("Escape")
        assert (search.input_value(), found.inner_text(), tab.inner_text("#block")) == ("", "", "")
        tab.locator("#treemap").focus()
        words = tab.inner_text("#layer")
        tab.keyboard.press("ArrowRight")
        assert tab.locator("path.match").count() == 1
        tab.keyboard.press("Escape")
        assert tab.locator("path.match").count() == 0
        assert tab.inner_text("#layer") == words


PINCH = """place => {
  const put = (name, id, x) => place.dispatchEvent(new PointerEvent(name, {
    pointerId: id, clientX: x, clientY: 300, bubbles: true, pointerType: "touch" }));
  put("pointerdown", 1, 300); put("pointerdown", 2, 400);
  for (const wide of [60, 100, 150]) {
    put("pointermove", 1, 350 - wide); put("pointermove", 2, 350 + wide);
  }
  put("pointerup", 1, 200); put("pointerup", 2, 500);
}"""


def test_two_fingers_zoom(browser: Any, page: Path) -> None:
    with visited(browser, page) as tab:
        place = tab.locator("#timeline")
        whole = place.inner_html()
        place.evaluate(PINCH)
        assert place.inner_html() != whole
        tab.get_by_role("button", name="Whole").click()
        assert tab.locator("text.phase").all_text_contents()[:2] == ["forward", "backward"]
