import html
import html.parser
import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from harness.analysis.evidence import section_of as analysed_section
from harness.reporting.claims import read_claims
from harness.reporting.document import Document, environment_table
from harness.reporting.pages import render
from harness.reporting.report import experiment_folders, write_report
from harness.schema.experiment import Experiment
from harness.schema.findings import Figure, Section, Verdict
from harness.schema.record import Outcome
from harness.schema.workload import Workload
from harness.sweeps.experiment_files import find
from tests.analysis import planted
from tests.known import known

EVIL = "</td><script>alert('x')</script>|`*"

SMALL = ((1, 2, 4), (16, 64, 256))


class Page(html.parser.HTMLParser):
    """Collects what the tests ask a page about."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]

    def values(self, *names: str) -> list[str]:
        return [value for _, attrs in self.tags for name in names if (value := attrs.get(name))]


def section_of(folder: Path) -> Section:
    """Return the section of the depth x batch experiment in ``folder``."""
    return analysed_section(find("depth_batch"), folder / "depth_batch")[0]


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


@pytest.fixture(scope="module")
def evidence(run: Path) -> str:
    return (run / "evidence.html").read_text(encoding="utf-8")


def words_of(page: str) -> list[str]:
    """Return the words that a reader sees before anything is unfolded."""
    body = page[page.index("<body") :]
    for hidden in (r"<svg.*?</svg>", r"(?<=</summary>).*?(?=</details>)", r"<[^>]*>"):
        body = re.sub(hidden, " ", body, flags=re.DOTALL)
    return body.split()


def test_the_summary_has_the_answer_the_lesson_the_frame_and_one_figure(
    run: Path, page: str
) -> None:
    section = section_of(run)
    assert len(section.summary) == 2
    opening = html.unescape(page[page.index('class="opening"') : page.index("<figure")])
    for sentence in section.summary:
        lead, colon, rest = sentence.partition(": ")
        assert f"<strong>{lead}{colon}</strong> {rest}" in opening
    assert "the bytes in 48 of 48 squares" in opening
    assert "for the peak only for depths from 32 with batches from 2,048." in opening
    for fact in (
        "MLP, width 256, 784 inputs, 10 classes",
        "depth 1 to 64",
        "All 63 cells",
        "no GPU",
    ):
        assert fact in opening
    assert "exact numbers of" in opening, "compared with the reference run"
    assert page.count("<figure") == 1
    assert 'id="depth_batch-product"' in page


def test_every_claim_is_one_line_of_the_summary_and_leads_to_its_evidence(
    run: Path, page: str, evidence: str
) -> None:
    section = section_of(run)
    assert len(section.claims) == 5
    claims, text = page[page.index('class="claims"') :], html.unescape(evidence)
    for number, claim in enumerate(section.claims, 1):
        head = (claim.headline or claim.sentence).rstrip(".")
        link = f"evidence.html#depth_batch-claim-{number}"
        assert claims.count(f'<a href="{link}">{head}</a>') == 1
        assert f'id="depth_batch-claim-{number}"' in evidence
        assert claim.number.replace(" %", "\u00a0%") in claims
        first, _, rest = claim.measured.replace(" %", "\u00a0%").partition(". ")
        assert first in text
        assert rest in text
        assert rest not in page
    assert {claim.verdict for claim in section.claims} == set(Verdict) - {Verdict.LIMITED}
    assert "5 claims: 2 hold, 2 fail, 1 open" in page
    assert "fails; holds only for depths from 32 with batches from 2,048" in evidence


def test_each_rule_and_each_change_of_it_stands_once(run: Path, evidence: str) -> None:
    section, text = section_of(run), html.unescape(evidence)
    rules = {known(claim.rule).holds for claim in section.claims}
    assert len(rules) < len(section.claims)
    histories = [known(claim.history) for claim in section.claims]
    changes = {change for one in histories for change in one.changes}
    for words in (*rules, *(change.words for change in changes)):
        assert text.count(words) == 1, words
    assert evidence.count('href="#rule-1">growth</a>') == 4
    assert 'href="#change-smooth">30 Nov 2026 (smooth)</a>' in evidence
    markdown = (run / "report.md").read_text(encoding="utf-8")
    assert markdown.count("2026-11-30 (6c68d6f4)") == len(rules), "each rule changed then"
    assert all(markdown.count(words) == 1 for words in rules)


def test_pages_are_short(run: Path, page: str, evidence: str) -> None:
    assert 200 < len(words_of(page)) < 450
    assert 500 < len(words_of(evidence)) < 1500
    assert len((run / "report.md").read_text(encoding="utf-8").split()) < 1000


def test_each_figure_stands_once_with_a_number_a_permalink_and_its_data(
    run: Path, page: str, evidence: str
) -> None:
    both = page + evidence
    stems = {path.stem for path in (run / "figures").glob("*.csv")}
    ids = {attrs["id"] or "" for attrs in Page(both).of("figure")}
    assert ids == stems
    assert "depth_batch-map-3" in ids, "the map of the peak's squares"
    for name in ids:
        number = re.findall(rf'href="#{name}">Figure (\d+)\.</a>', both)
        assert len(number) == 1
        assert f'href="figures/{name}.csv">Data of figure {number[0]} (CSV)</a>' in both
    assert sorted(map(int, re.findall(r">Figure (\d+)\.<", both))) == [*range(1, len(ids) + 1)]


@pytest.mark.parametrize("name", ["report.html", "evidence.html"])
def test_a_page_stands_alone_and_is_small(run: Path, name: str) -> None:
    text = (run / name).read_text(encoding="utf-8")
    assert len(text.encode()) < 3_000_000
    result = Page(text)
    assert not result.of("img")
    assert [attrs["href"] for attrs in result.of("link")] == ["data:,"]
    for tag, attrs in result.tags:
        for place in ("src", "href", "xlink:href"):
            target = attrs.get(place) or "#"
            if not target.startswith(("#", "data:,")):
                assert tag == "a", target
                assert (run / target.partition("#")[0]).is_file(), target
    assert not re.search(r"url\((?!#)", text)
    assert "default-src 'none'" in text
    assert "script-src" not in text
    assert not result.of("script")
    pictures = [attrs for attrs in result.of("svg") if attrs.get("role") == "img"]
    assert len(pictures) == 2 * len(result.of("figure"))  # a wide and a narrow one


def test_the_files_next_to_the_pages_are_complete_and_the_same_from_the_same_records(
    run: Path, tmp_path: Path
) -> None:
    kinds: dict[str, set[str]] = {}
    for path in (run / "figures").iterdir():
        kinds.setdefault(path.stem, set()).add(path.suffix)
    assert len(kinds) > 3
    assert all(suffixes == {".svg", ".png", ".csv"} for suffixes in kinds.values())
    links = re.findall(r"\]\(([^)#]+)\)", (run / "report.md").read_text(encoding="utf-8"))
    assert len(links) > 8
    assert all((run / link).is_file() for link in links)
    table = (run / "tables" / "depth_batch-cells.csv").read_text(encoding="utf-8")
    assert f",{planted.peak_bytes(64, 4096)}," in table
    again = tmp_path / "another name"
    shutil.copytree(run / "depth_batch", again / "depth_batch")
    write_report(again)
    for path in run.rglob("*.*"):
        assert (again / path.relative_to(run)).read_bytes() == path.read_bytes()


def test_every_anchor_exists_once(page: str, evidence: str) -> None:
    for text, other in ((page, evidence), (evidence, page)):
        result = Page(text)
        ids = result.values("id")
        assert len(ids) == len(set(ids))
        outer = {link.partition("#")[2] for link in result.values("href") if ".html#" in link}
        assert outer <= set(Page(other).values("id"))
        inside = set(re.findall(r'(?:href="#|url\(#)([^")]+)', text))
        assert inside | set(result.values("aria-labelledby")) <= set(ids)


def test_text_from_records_stays_text(tmp_path: Path) -> None:
    records = planted.grid(*SMALL, modes=("train",))
    evil = [planted.record(item.workload, environment={"cpu": EVIL, EVIL: "1"}) for item in records]
    planted.write(tmp_path / "depth_batch", evil)
    planted.write(tmp_path / "<script>alert(1)<script>", evil[:1])
    write_report(tmp_path)
    names = ("report.html", "report.md", "evidence.html")
    texts = [(tmp_path / name).read_text(encoding="utf-8") for name in names]
    assert not any("<script" in text for text in texts)
    assert "&lt;script&gt;alert(&#39;x&#39;)" in texts[-1]


def test_too_few_records_are_said_plainly(tmp_path: Path) -> None:
    failed = planted.record(Workload(), outcome=Outcome.OOM, saved_bytes=None)
    planted.write(tmp_path / "depth_batch", [failed])
    text = write_report(tmp_path).read_text(encoding="utf-8")
    assert "The claims have no verdict" in text
    assert "its 1 records ende" in text


def test_failed_cells_are_counted_and_left_out(tmp_path: Path) -> None:
    records = planted.grid(modes=("train",))
    records[-1] = planted.record(
        records[-1].workload, outcome=Outcome.OOM, peak_live_bytes=None, saved_bytes=None
    )
    planted.write(tmp_path / "depth_batch", records)
    section = section_of(tmp_path)
    assert "109 of 171 cells have no numbers (108 missing, 1 oom) and are left out." in section.text
    assert "bytes in 62 of 62 cells" in section.claims[0].measured


def test_a_broken_timeline_costs_its_figure_alone(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "depth_batch", tmp_path / "depth_batch")
    (events,) = (tmp_path / "depth_batch" / "events").iterdir()
    events.write_text("order,step\n", encoding="utf-8")
    section = section_of(tmp_path)
    assert any(text.startswith("No timeline of depth 8, batch 512") for text in section.text)
    assert not [figure for figure in section.figures if "timeline" in figure.name]


def test_what_was_left_out_is_said_plainly_in_chapters_of_a_fixed_order(tmp_path: Path) -> None:
    small = planted.grid(depths=(1,), batches=(16,))
    planted.write(tmp_path / "mine", small)
    planted.write(tmp_path / "accumulation", small)
    planted.write(tmp_path / "depth_batch", planted.grid(*SMALL), tail=b'{"sch')
    names = [path.name for path in experiment_folders(tmp_path)]
    assert names == ["depth_batch", "accumulation", "mine"]
    text = write_report(tmp_path).read_text(encoding="utf-8")
    assert "No experiment of this name is known here; its 2 records are kept." in text
    assert "the last, is torn; skipped" in text


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
        "harness.reporting.report.experiment_of",
        lambda folder, *_: broken if folder.name == "activations" else find(folder.name),
    )
    missing: list[str] = []
    write_report(tmp_path, missing=missing.append)
    where = "This section" if place == "analysis" else "Figure bad could not be drawn"
    assert [f"Broken: {where}" in line for line in missing] == [True]
    assert "test_report.py" in missing[0]
    assert "in fail: ZeroDivisionError: by the number of cells" in missing[0], "the user's line"
    page = (tmp_path / "evidence.html").read_text(encoding="utf-8")
    assert "ZeroDivisionError" in html.unescape(page)
    assert "36 of 36" in page or "exact in 9 of 9 cells" in page


def test_the_file_of_claims_has_the_verdicts_of_the_analysis(run: Path) -> None:
    result = {entry.sentence: entry.verdict for entry in read_claims(run).claims}
    assert result == {claim.sentence: claim.verdict for claim in section_of(run).claims}
    assert len(set(result.values())) > 1, "else one verdict for all would do"


@pytest.mark.parametrize(("device", "words"), [("dry run, l4", 2), ("cpu", 0)])
def test_a_report_of_a_dry_run_says_so_on_its_first_screen(device: str, words: int) -> None:
    facts = environment_table(pd.DataFrame({"environment.device": [device]}))
    report = Document(chapters=(), environment=facts)
    said = "This is a dry run: PyTorch's own allocator ran on a pretended l4, without a GPU."
    pages = render(report)
    texts = [html.unescape(pages["report.html"]), pages["report.md"]]
    assert sum(said in text for text in texts) == words
    assert all(text.index(said) < 20_000 for text in texts if words)
