"""The explorer: its tables against ``predict``, and its page in a real browser."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.cli.app import main
from harness.prediction.mlp.largest_fit import solve
from harness.prediction.predict_workload import predict
from harness.schema.workload import Workload
from tests.reporting.browser import AXE, FLAGS, NO_AXE, NO_BROWSER, executable

START = Workload(depth=8, optimizer="adam", batch=512)
BUDGET = 256 * 2**20


def test_without_the_extra_one_line_names_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    assert main(["explore", "--out", str(tmp_path / "page.html")]) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert "mlp-memory-harness[explorer]" in printed
    assert not (tmp_path / "page.html").exists()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("altair", reason="no altair (extra: explorer)")
    pytest.importorskip("vl_convert", reason="no vl-convert (extra: explorer)")
    path = tmp_path_factory.mktemp("explorer") / "page.html"
    assert main(["explore", "--out", str(path)]) == 0
    return path


def test_the_page_is_one_file_under_three_megabytes(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert len(text.encode()) < 3 * 10**6
    assert "<script src" not in text
    assert '<link rel="stylesheet"' not in text


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if NO_BROWSER:
        pytest.skip(NO_BROWSER)
    driver = pytest.importorskip("playwright.sync_api", reason="no playwright (extra: browser)")
    with driver.sync_playwright() as tool:
        shown = tool.chromium.launch(executable_path=executable(), args=list(FLAGS))
        yield shown
        shown.close()


@pytest.fixture
def opened(page: Path, browser: Any) -> Iterator[Any]:
    """Give the page, loaded; afterwards it must have logged and asked for nothing."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    tab = context.new_page()
    heard: list[str] = []
    tab.on("console", lambda message: heard.append(message.text))
    tab.on("pageerror", lambda error: heard.append(str(error)))
    tab.on("request", lambda request: heard.append(request.url))
    tab.goto(page.as_uri())
    tab.wait_for_selector("#explorer svg")
    yield tab
    context.close()
    assert heard == [page.as_uri()]


def spoken(tab: Any) -> dict[str, str]:
    """Return what a screen reader is told: by mark, the text after its name."""
    labels = tab.eval_on_selector_all(
        "#explorer svg [aria-label]", "marks => marks.map(mark => mark.ariaLabel)"
    )
    return dict(label.split(": ", 1) for label in labels if ": " in label)


def number(text: str) -> int:
    return int(text.removesuffix(" bytes").replace(",", ""))


def choose(tab: Any, workload: Workload) -> None:
    """Set every control as a user's hand does, and let the page draw."""
    sizes = {"depth": workload.depth, "units": workload.width, "batch": workload.batch}
    for name, value in sizes.items():
        tab.locator(f"input[name={name}]").fill(str(value))
    for name in ("dtype", "optimizer", "activation"):
        tab.locator(f"select[name={name}]").select_option(getattr(workload, name))
    tab.wait_for_timeout(300)


def compare(tab: Any, workload: Workload, budget: int) -> None:
    """Compare what the page says with ``predict``, to the byte."""
    forecast = predict(workload, budget_bytes=budget)
    assert forecast.budget is not None
    said = spoken(tab)
    parts = {name: number(said[name]) for name in said if said[name].endswith(" bytes")}
    assert parts["input"] == forecast.saved_input_bytes
    assert parts["activations saved"] == forecast.saved_activation_bytes
    assert forecast.categories_at_peak is not None
    assert parts["parameter"] == forecast.categories_at_peak.parameter
    held = ("parameter", "gradient", "optimizer state", "input")
    assert sum(parts[name] for name in held) == forecast.live_at_start_bytes
    needed, largest = said["needed"].split(" bytes; largest batch: ")
    assert number(needed) == forecast.budget.needed_bytes
    assert number(largest) == (forecast.budget.largest_batch or 0)


def test_the_page_opens_silently_and_says_what_predict_says(opened: Any) -> None:
    compare(opened, START, BUDGET)


@pytest.mark.parametrize(
    "workload",
    [
        Workload(depth=1, width=8, batch=8, activation="identity", optimizer="none"),
        Workload(depth=2, width=1024, batch=4096, dtype="float64", optimizer="momentum"),
        Workload(depth=64, width=512, batch=8192, activation="gelu", dtype="float16"),
        Workload(depth=13, width=4096, batch=24, activation="silu", optimizer="adamw"),
    ],
    ids=str,
)
def test_moved_sliders_say_what_predict_says(opened: Any, workload: Workload) -> None:
    choose(opened, workload)
    compare(opened, workload, BUDGET)


def test_a_key_moves_a_slider_by_one_step(opened: Any) -> None:
    opened.locator("input[name=depth]").press("ArrowRight")
    opened.wait_for_timeout(300)
    compare(opened, START.replace(depth=9), BUDGET)


def test_bfloat16_saves_what_predict_says(opened: Any) -> None:
    workload = START.replace(dtype="bfloat16")
    choose(opened, workload)
    said, forecast = spoken(opened), predict(workload)
    saved = number(said["input"]) + number(said["activations saved"])
    assert saved == forecast.saved_bytes


def test_the_frontier_is_the_largest_batch_at_each_depth(opened: Any) -> None:
    opened.locator("select[name=budget]").select_option("64 MiB")
    opened.wait_for_timeout(300)
    said = spoken(opened)
    for depth in (1, 2, 3, 20, 64):
        found = number(said[f"depth {depth}"].removeprefix("largest batch "))
        assert found == (solve(START.replace(depth=depth), 64 * 2**20, "batch") or 0)


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_sticks_out(opened: Any, width: int) -> None:
    opened.set_viewport_size({"width": width, "height": 900})
    opened.wait_for_timeout(300)
    assert opened.evaluate("document.documentElement.scrollWidth") == width
    canvas = opened.locator(".canvas").bounding_box()
    drawn = opened.locator("#explorer svg").bounding_box()
    assert drawn["x"] >= canvas["x"]
    assert drawn["x"] + drawn["width"] <= canvas["x"] + canvas["width"]
    assert drawn["width"] > 0.7 * canvas["width"]
    # Drawn at its own size: scaled down, its words could not be read.
    natural = float(opened.locator("#explorer svg").get_attribute("width"))
    assert drawn["width"] > 0.97 * natural


@pytest.mark.skipif(bool(NO_AXE), reason=NO_AXE)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(page: Path, browser: Any, scheme: str) -> None:
    context = browser.new_context(color_scheme=scheme, bypass_csp=True)
    tab = context.new_page()
    tab.goto(page.as_uri())
    tab.wait_for_selector("#explorer svg")
    tab.add_script_tag(content=AXE.read_text(encoding="utf-8"))
    result = tab.evaluate("axe.run(document)")
    context.close()
    grave = [v for v in result["violations"] if v["impact"] in ("serious", "critical")]
    assert json.dumps([(v["help"], v["nodes"][0]["html"][:200]) for v in grave]) == "[]"
    assert len(result["passes"]) > 15
