"""Content of a report in reading order, before it is rendered.

A report has two pages. The first page, the summary, answers the question and shows one figure. The
second page, the evidence, contains all other figures and texts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import pandas as pd

from harness.reporting.figures import DrawnFigure
from harness.schema.findings import MOST_FAIL, Claim, Section, Source, Table, Verdict

TITLE = "Where does the memory of training a multilayer perceptron go?"
"""Title of a report if none of its sections has a question."""

LITERATURE = "Claims of the literature about the memory of training, tested to the byte"
"""Title of the report on the claims of the literature."""

MOST_SENTENCES = 3
"""Largest number of sentences in the summary that answer the report's question."""


@dataclass(frozen=True, kw_only=True)
class Chapter:
    """Chapter of one experiment; ``problem`` is the reason why the chapter has no content."""

    name: str
    """Name of the experiment, which is also its anchor in the page."""
    title: str
    question: str = ""
    problem: str | None = None
    is_failed: bool = False
    """True if ``problem`` is an error in the analysis or in a figure, not a lack of records."""
    section: Section = field(default_factory=Section)
    pictures: tuple[DrawnFigure, ...] = ()
    """Drawn figures of the section."""
    maps: tuple[DrawnFigure | None, ...] = ()
    """For each claim, the map of the cells in which the claim holds and fails, or None."""
    source: Source | None = None
    """Claim of the literature that the experiment tests."""
    doubts: tuple[str, ...] = ()
    """Contradictions in the evidence of the experiment."""
    data: str = ""
    """Date and commit of the experiment's records."""

    @property
    def figures(self) -> tuple[DrawnFigure, ...]:
        """Figures of the section, and the maps of its claims."""
        return (*self.pictures, *filter(None, self.maps))


@dataclass(frozen=True, kw_only=True)
class Numbered:
    """A figure with its number and its chapter."""

    number: int
    chapter: Chapter
    picture: DrawnFigure

    @property
    def anchor(self) -> str:
        """HTML id of the figure, which is also the stem of its file names."""
        return f"{self.chapter.name}-{self.picture.name}"


@dataclass(frozen=True, kw_only=True)
class Document:
    """Content of the whole report."""

    chapters: tuple[Chapter, ...]
    environment: Table
    notes: tuple[str, ...] = ()
    """Facts about the records that limit the report, such as skipped lines."""
    totals: dict[str, int] = field(default_factory=dict)
    """Number of configurations with each outcome."""
    facts: tuple[tuple[str, str], ...] = ()
    """Facts on the first page, such as the network and the grid, each with its name."""
    reference: str = ""
    """Sentence that compares the exact numbers of the run with those of the reference run."""

    @cached_property
    def main(self) -> Chapter | None:
        """First chapter with a claim or a summary; the report answers this chapter's question."""
        settled = [part for part in self.chapters if part.section.claims or part.section.summary]
        return next(iter([*settled, *self.chapters]), None)

    @property
    def of_literature(self) -> bool:
        """True if every chapter tests a claim of the literature; the report then has one page."""
        return bool(self.chapters) and all(part.source for part in self.chapters)

    @property
    def title(self) -> str:
        """Title of the report, which is usually the question that the report answers."""
        if self.of_literature:
            return LITERATURE
        return (self.main.question or self.main.title) if self.main else TITLE

    @property
    def device_note(self) -> str:
        """Sentence on the pretended GPU that made the records; empty for a real device."""
        facts = dict(self.environment.frame.itertuples(index=False, name=None))
        _, is_dry_run, gpu = str(facts.get("device", "")).rpartition("dry run, ")
        if not is_dry_run:
            return ""
        return (
            f"This is a dry run: PyTorch's own allocator ran on a pretended {gpu}, without a GPU. "
            "Times are null."
        )

    @property
    def summary(self) -> tuple[tuple[str, str], ...]:
        """Sentences of the summary, each split after its first colon."""
        doubtful = [text for part in self.chapters if part.doubts for text in part.section.summary]
        if self.of_literature:
            asked = f"Of {len(self.claims)} claims of the literature"
            return (*map(_split, doubtful[:1]), (f"{asked}, {self.tally}.", ""))
        written = [text for part in self.chapters for text in part.section.summary]
        written.sort(key=lambda text: text not in doubtful)
        if self.main and not self.main.section.summary:
            claims = self.main.section.claims
            written = [f"{headline(one)}: {one.words}, {one.number}." for one in claims]
        return tuple(map(_split, written[:MOST_SENTENCES]))

    @property
    def lessons(self) -> tuple[str, ...]:
        """Practical consequences of the answers."""
        return tuple(part.section.lesson for part in self.chapters if part.section.lesson)

    @property
    def claims(self) -> tuple[tuple[Chapter, Claim], ...]:
        """All claims with their chapters, in reading order."""
        return tuple((part, claim) for part in self.chapters for claim in part.section.claims)

    @property
    def shares_conditions(self) -> bool:
        """True if a claim fails by the condition that all rules share."""
        return any(claim.rule.fails == MOST_FAIL for _, claim in self.claims)

    @property
    def tally(self) -> str:
        """Number of claims with each verdict, in words."""
        return tally([claim.verdict for _, claim in self.claims])

    @cached_property
    def figures(self) -> tuple[Numbered, ...]:
        """All figures in reading order, numbered; the first one is on the first page."""
        every = [(part, one) for part in self.chapters for one in part.figures]
        return tuple(
            Numbered(number=number, chapter=part, picture=one)
            for number, (part, one) in enumerate(every, 1)
        )

    def numbered(self, picture: DrawnFigure) -> Numbered:
        """Return a figure of the report with its number."""
        return next(one for one in self.figures if one.picture is picture)


def _split(text: str) -> tuple[str, str]:
    """Split a sentence after its first colon."""
    first, colon, rest = text.partition(": ")
    return first + colon, rest


def headline(claim: Claim) -> str:
    """Return the claim in a few words, without a full stop."""
    return (claim.headline or claim.sentence).rstrip(".")


def second_words(claim: Claim) -> str:
    """Return a sentence on the second source of a claim's numbers; empty if none is named."""
    if claim.second.startswith("none, "):
        return f"There is no second source of the numbers, {claim.second.removeprefix('none, ')}."
    return f"Second source: {claim.second}." if claim.second not in ("", "none") else ""


def data_words(frame: pd.DataFrame | None) -> str:
    """Return a sentence with the date and the commit of a section's records.

    >>> data_words(pd.DataFrame({"environment.time": ["2026-11-29T12:52"]}))
    'The data are from 2026-11-29.'
    """
    if frame is None:
        return ""
    known = {
        name: sorted(set(frame.get(f"environment.{name}", pd.Series(dtype="string")).dropna()))
        for name in ("time", "git_commit")
    }
    if not known["time"]:
        return ""
    days = dict.fromkeys(str(day)[:10] for day in (known["time"][0], known["time"][-1]))
    commits = f" (commit {', '.join(map(str, known['git_commit']))})" if known["git_commit"] else ""
    return f"The data are from {' to '.join(days)}{commits}."


def decisive(claim: Claim) -> str:
    """Return the number that decides a claim and, for an open claim, the reason why it is open."""
    return "; ".join(filter(None, (claim.number, claim.open_reason)))


_SEVERAL = {
    Verdict.SUPPORTED: "hold",
    Verdict.LIMITED: "hold in part",
    Verdict.REFUTED: "fail",
    Verdict.OPEN: "stay open",
}


def tally(verdicts: Sequence[Verdict]) -> str:
    """Return the number of claims with each verdict, in words."""
    counts = {verdict: verdicts.count(verdict) for verdict in Verdict}
    return ", ".join(
        f"{count} {verdict if count == 1 else _SEVERAL[verdict]}"
        for verdict, count in counts.items()
        if count
    )


def environment_table(frame: pd.DataFrame, most: int = 6) -> Table:
    """Return a table with each fact of the environment and its values in the records."""
    rows = []
    for column in frame.columns:
        if str(column).startswith("environment."):
            name = str(column).removeprefix("environment.")
            values = sorted({str(value) for value in frame[column].dropna()})
            more = len(values) - most
            text = "; ".join(values[:most]) + (f"; and {more} more" if more > 0 else "")
            if name == "time" and more > 0:
                text = f"{values[0]} to {values[-1]}"
            rows.append((name, text))
    table = pd.DataFrame(rows, columns=["fact", "value"]).astype("string")
    return Table(name="environment", caption="The machine, as the records describe it", frame=table)
