"""The explorer: its tables against ``predict``, and its page in a real browser."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.cli.app import main
from harness.prediction.gpu.catalogue import GPUS
from harness.prediction.mlp.cpu_trace import predict_trace
from harness.prediction.mlp.largest_fit import solve
from harness.prediction.mlp.polynomials import moments
from harness.prediction.predict_workload import predict
from harness.reporting.explorer import ALIKE
from harness.schema.events import CATEGORIES, Trace
from harness.schema.units import format_bytes
from harness.schema.workload import ACTIVATIONS, DTYPES, OPTIMIZERS, Workload
from tests.reporting.browser import AXE, NO_AXE
from tests.reporting.conftest import visited

START = Workload(depth=8, optimizer="sgd", batch=512)
BUDGET = 256 * 2**20


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("explorer") / "page.html"
    assert main(["explore", "--out", str(path)]) == 0
    return path


def test_the_page_is_one_small_file(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert len(text.encode()) < 200_000
    assert "<script src" not in text
    assert '<link rel="stylesheet"' not in text


@pytest.mark.parametrize("name", list(ALIKE))
def test_values_in_one_group_need_the_same_bytes_at_every_moment(name: str) -> None:
    for group in ALIKE[name]:
        found = [moments(Workload(**{name: value})) for value in group]  # type: ignore[arg-type]
        assert all(one == found[0] for one in found)


def test_every_value_can_be_chosen() -> None:
    values = {
        name: [value for group in groups for value in group] for name, groups in ALIKE.items()
    }
    assert sorted(values["dtype"]) == sorted(DTYPES)
    assert sorted(values["optimizer"]) == sorted(OPTIMIZERS)
    assert sorted(values["activation"]) == sorted(ACTIVATIONS)


def test_the_categories_of_a_moment_add_up_to_its_total() -> None:
    for moment in moments(Workload(optimizer="adam")):
        parts = (part.coefficients for part in moment.parts.values())
        sums = [sum(column) for column in zip(*parts, strict=True)]
        assert tuple(sums) == moment.total.coefficients


@pytest.fixture
def opened(page: Path, browser: Any) -> Iterator[Any]:
    with visited(browser, page, viewport={"width": 1280, "height": 900}) as tab:
        tab.wait_for_selector("#explorer-frontier svg")
        yield tab


def choose(tab: Any, workload: Workload) -> None:
    """Set every control as a user's hand does."""
    sizes = {"depth": workload.depth, "width": workload.width, "batch": workload.batch}
    for name, value in sizes.items():
        tab.locator(f"input[name={name}]").fill(str(value))
    for name in ("dtype", "optimizer", "activation"):
        tab.locator(f"select[name={name}]").select_option(getattr(workload, name))


def bars(tab: Any) -> dict[str, int]:
    """Return the bytes of each bar."""
    script = "rows => rows.map(row => [row.dataset.category, Number(row.dataset.bytes)])"
    return dict(tab.eval_on_selector_all("#explorer-bars tbody tr", script))


def compare(tab: Any, workload: Workload, budget: int) -> None:
    """Compare what the page says with ``predict``, to the byte."""
    prediction = predict(workload, budget_bytes=budget)
    assert prediction.budget is not None
    answer = tab.locator("#explorer-answer")
    needed = int(answer.get_attribute("data-bytes"))
    assert needed == prediction.budget.needed_bytes
    assert int(answer.get_attribute("data-largest")) == (prediction.budget.largest_batch or 0)
    found = bars(tab)
    assert found.pop("total") == needed == sum(found.values())
    assert format_bytes(needed) in answer.inner_text()
    trace = predict_trace(workload)
    peaks = [at for at, live in enumerate(trace.live_bytes) if live == needed]
    assert found in [categories_after(trace, at) for at in peaks]


def categories_after(trace: Trace, order: int) -> dict[str, int]:
    live = dict.fromkeys(CATEGORIES, 0)
    for event in trace.events[: order + 1]:
        live[event.category] += event.size_bytes
    return live


def test_the_page_opens_silently_and_says_what_predict_says(opened: Any) -> None:
    compare(opened, START, BUDGET)


@pytest.mark.parametrize(
    "workload",
    [
        Workload(depth=1, width=8, batch=8, activation="identity", optimizer="none"),
        Workload(depth=2, width=1024, batch=4096, dtype="float64", optimizer="momentum"),
        Workload(depth=64, width=512, batch=8192, activation="gelu"),
        Workload(depth=13, width=4096, batch=24, activation="silu", optimizer="adamw"),
    ],
    ids=str,
)
def test_moved_sliders_say_what_predict_says(opened: Any, workload: Workload) -> None:
    choose(opened, workload)
    compare(opened, workload, BUDGET)


def test_a_key_moves_a_slider_by_one_step(opened: Any) -> None:
    opened.locator("input[name=depth]").press("ArrowRight")
    compare(opened, START.replace(depth=9), BUDGET)


def test_a_gpus_memory_is_a_budget(opened: Any) -> None:
    total = GPUS["l4"].total_bytes
    assert total is not None
    opened.locator("select[name=budget]").select_option(str(total))
    compare(opened, START, total)
    assert "l4, 21.96 GiB" in opened.locator("#explorer-answer").inner_text()


def test_the_frontier_is_the_largest_batch_at_each_depth(opened: Any) -> None:
    budget = 64 * 2**20
    opened.locator("select[name=budget]").select_option(str(budget))
    points = opened.locator("#explorer-frontier polyline").get_attribute("points").split()
    assert len(points) == 64
    for depth in (1, 2, 3, 20, 64):
        opened.locator("input[name=depth]").fill(str(depth))
        found = int(opened.locator("#explorer-answer").get_attribute("data-largest"))
        largest = solve(START.replace(depth=depth), budget, "batch") or 0
        assert found == largest
        height = float(points[depth - 1].split(",")[1])
        assert height == pytest.approx(190 - 180 * math.log2(max(1, largest)) / 20, abs=0.06)


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_sticks_out(opened: Any, width: int) -> None:
    opened.set_viewport_size({"width": width, "height": 900})
    opened.wait_for_timeout(200)
    assert opened.evaluate("document.documentElement.scrollWidth") == width
    drawn = opened.locator("#explorer-frontier svg").bounding_box()
    assert drawn["x"] >= 0
    assert drawn["x"] + drawn["width"] <= width
    # Drawn at its own size: scaled down, its words could not be read.
    natural = float(opened.locator("#explorer-frontier svg").get_attribute("width"))
    assert drawn["width"] > 0.97 * natural


@pytest.mark.skipif(bool(NO_AXE), reason=NO_AXE)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(page: Path, browser: Any, scheme: str) -> None:
    context = browser.new_context(color_scheme=scheme, bypass_csp=True)
    tab = context.new_page()
    tab.goto(page.as_uri())
    tab.wait_for_selector("#explorer-frontier svg")
    tab.add_script_tag(content=AXE.read_text(encoding="utf-8"))
    result = tab.evaluate("axe.run(document)")
    context.close()
    grave = [v for v in result["violations"] if v["impact"] in ("serious", "critical")]
    assert json.dumps([(v["help"], v["nodes"][0]["html"][:200]) for v in grave]) == "[]"
    assert len(result["passes"]) > 15
