import html.parser
import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from harness.reporting.report import experiment_folders, sections, write_report
from harness.schema.experiment import Evidence, Experiment, find
from harness.schema.findings import Figure, Ruling, Section
from harness.schema.record import Outcome, RecordError
from harness.schema.threshold import THRESHOLDS
from harness.schema.workload import Workload
from tests.analysis import planted

EVIL = "</td><script>alert('x')</script>|`*"

SMALL = ((1, 2, 4), (16, 64, 256))


class _Page(html.parser.HTMLParser):
    """Collects what the tests ask a page about."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]

    @property
    def ids(self) -> list[str]:
        return [attrs["id"] or "" for _, attrs in self.tags if "id" in attrs]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    planted.write(folder / "depth_batch", planted.grid(noise=0.002))
    planted.write_events(folder / "depth_batch", Workload(depth=8, batch=512))
    assert write_report(folder) == folder / "report.html"
    return folder


@pytest.fixture(scope="module")
def page(run: Path) -> str:
    return (run / "report.html").read_text(encoding="utf-8")


def _all_files(folder: Path) -> dict[str, bytes]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_the_page_opens_with_every_verdict(run: Path, page: str) -> None:
    ((_, section),) = sections(run)
    assert len(section.verdicts) == 6
    head = page[: page.index('class="contents"')]
    for verdict in section.verdicts:
        assert verdict.sentence in head
        assert verdict.ruling in head
        assert verdict.number.replace(" %", "\u00a0%") in head
    assert {verdict.ruling for verdict in section.verdicts} == {Ruling.SUPPORTED, Ruling.LIMITED}
    assert "63 of 63 cells are equal to it to the byte" in page


def test_the_page_stands_alone_and_is_small(page: str) -> None:
    assert len(page.encode()) < 3_000_000
    found = _Page(page)
    assert not found.of("script")
    assert not found.of("img")
    assert [attrs["href"] for attrs in found.of("link")] == ["data:,"]
    for tag, attrs in found.tags:
        for name in ("src", "href", "xlink:href"):
            target = attrs.get(name) or "#"
            assert target.startswith(("#", "data:,")), (tag, target)
    assert not re.search(r"url\((?!#)", page)
    assert "default-src 'none'" in page


def test_every_anchor_exists_once(page: str) -> None:
    found = _Page(page)
    assert len(found.ids) == len(set(found.ids))
    links = [attrs["href"] or "" for attrs in found.of("a")]
    targets = {link.removeprefix("#") for link in links if link.startswith("#")}
    labels = {attrs["aria-labelledby"] for _, attrs in found.tags if attrs.get("aria-labelledby")}
    assert targets <= set(found.ids)
    assert labels <= set(found.ids)
    inside = set(re.findall(r'(?:href="#|url\(#)([^")]+)', page))
    assert inside <= set(found.ids)


def test_the_page_has_landmarks_and_scoped_headings(page: str) -> None:
    found = _Page(page)
    for tag in ("main", "nav", "header", "footer", "h1"):
        assert len(found.of(tag)) == 1, tag
    assert all(attrs.get("scope") in ("col", "row") for attrs in found.of("th"))
    assert len(found.of("figure")) == len(found.of("figcaption")) > 3
    pictures = [attrs for attrs in found.of("svg") if attrs.get("role") == "img"]
    assert len(pictures) == len(found.of("figure"))


def test_each_figure_has_svg_png_and_its_data(run: Path) -> None:
    stems: dict[str, set[str]] = {}
    for path in (run / "figures").iterdir():
        stems.setdefault(path.stem, set()).add(path.suffix)
    assert len(stems) > 3
    assert set(map(frozenset, stems.values())) == {frozenset({".svg", ".png", ".csv"})}


def test_markdown_links_lead_to_files(run: Path) -> None:
    text = (run / "report.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert len(links) > 12
    assert all((run / link).is_file() for link in links)


def test_tables_keep_every_byte(run: Path) -> None:
    text = (run / "tables" / "depth_batch-cells.csv").read_text(encoding="utf-8")
    assert f",{planted.peak_bytes(64, 4096)}," in text


def test_the_same_records_give_the_same_bytes(run: Path, tmp_path: Path) -> None:
    again = tmp_path / "another name"
    shutil.copytree(run / "depth_batch", again / "depth_batch")
    write_report(again)
    assert _all_files(again) == _all_files(run)


def test_text_from_records_stays_text(tmp_path: Path) -> None:
    records = planted.grid(*SMALL, modes=("train",))
    evil = [planted.record(item.workload, environment={"cpu": EVIL, EVIL: "1"}) for item in records]
    planted.write(tmp_path / "depth_batch", evil)
    planted.write(tmp_path / "<script>alert(1)<script>", evil[:1])
    write_report(tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not _Page(page).of("script")
    assert "&lt;script&gt;alert(&#39;x&#39;)" in page
    markdown = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "<script" not in markdown


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ([], "none of its 0 records ended well"),
        (planted.grid(depths=(1, 2), modes=("train",)), "a trial needs 6 training cells"),
        (
            [planted.record(Workload(), outcome=Outcome.OOM, saved_bytes=None)],
            "none of its 1 records ended well",
        ),
    ],
)
def test_too_few_records_are_said_plainly(tmp_path: Path, records: list, said: str) -> None:  # type: ignore[type-arg]
    planted.write(tmp_path / "depth_batch", records)
    text = write_report(tmp_path).read_text(encoding="utf-8")
    assert "Not settled here" in text
    assert said in text
    assert sections(tmp_path) == []


def test_failed_cells_are_counted_and_left_out(tmp_path: Path) -> None:
    records = planted.grid(modes=("train",))
    records[-1] = planted.record(
        records[-1].workload, outcome=Outcome.OOM, peak_live_bytes=None, saved_bytes=None
    )
    planted.write(tmp_path / "depth_batch", records)
    ((_, section),) = sections(tmp_path)
    assert "1 of 63 cells ended otherwise (1 oom) and are left out." in section.text
    assert "bytes in 62 of 62 cells" in section.verdicts[0].measured


def test_an_unknown_experiment_is_said_plainly(tmp_path: Path) -> None:
    planted.write(tmp_path / "mine", planted.grid(depths=(1,), batches=(16,)))
    text = write_report(tmp_path).read_text(encoding="utf-8")
    assert "No experiment of this name is known here; its 2 records are kept." in text


def test_a_torn_line_is_noted_and_an_earlier_report_leaves_nothing(tmp_path: Path) -> None:
    planted.write(tmp_path / "depth_batch", planted.grid(*SMALL), tail=b'{"sch')
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "old.svg").write_text("old", encoding="utf-8")
    assert "the last, is torn; skipped" in write_report(tmp_path).read_text(encoding="utf-8")
    assert not (tmp_path / "figures" / "old.svg").exists()


def test_a_broken_timeline_costs_its_figure_alone(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "depth_batch", tmp_path / "depth_batch")
    (events,) = (tmp_path / "depth_batch" / "events").iterdir()
    events.write_text("order,step\n", encoding="utf-8")
    ((_, section),) = sections(tmp_path)
    assert any(text.startswith("No timeline of depth 8, batch 512") for text in section.text)
    assert not [figure for figure in section.figures if "timeline" in figure.name]


def test_no_records_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"no records\.jsonl here"):
        write_report(tmp_path)


def test_chapters_come_in_reading_order_with_the_claim_first(tmp_path: Path) -> None:
    for name in ("accumulation", "zebra", "depth_batch", "activations"):
        planted.write(tmp_path / name, planted.grid((1,), (16,), ("train",)))
    found = [path.name for path in experiment_folders(tmp_path)]
    assert found == ["depth_batch", "activations", "accumulation", "zebra"]


def test_an_experiment_without_records_is_analysed_for_its_thresholds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def analyse(evidence: Evidence) -> Section:
        assert "peak_live_bytes" in evidence.frame
        return Section(text=((evidence.folder / THRESHOLDS).read_text(encoding="utf-8"),))

    own = Experiment(name="depth_batch", title="Own", question="?", analyse=analyse)
    monkeypatch.setattr("harness.reporting.report.find", lambda _: own)
    (tmp_path / "depth_batch").mkdir()
    (tmp_path / "depth_batch" / THRESHOLDS).write_text("what it kept", encoding="utf-8")
    assert "what it kept" in write_report(tmp_path).read_text(encoding="utf-8")


@pytest.mark.parametrize("place", ["analysis", "drawing"])
def test_an_experiment_that_fails_costs_its_own_section_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def fail(*_: object) -> Any:
        raise ZeroDivisionError("by the number of cells")

    bad = Figure(name="bad", caption="Never drawn.", data=pd.DataFrame(), draw=fail)
    analyse = fail if place == "analysis" else lambda _: Section(figures=(bad,))
    broken = Experiment(name="activations", title="Broken", question="?", analyse=analyse)
    for name in ("depth_batch", "activations"):
        planted.write(tmp_path / name, planted.grid(*SMALL))
    monkeypatch.setattr(
        "harness.reporting.report.find",
        lambda name: broken if name == "activations" else find(name),
    )
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "internal error (ZeroDivisionError: by the number of cells; test_report.py" in page
    assert "36 of 36" in page or "9 of 9 cells are equal to it to the byte" in page
