"""Content of a report in reading order, before it is rendered.

A report has two pages. The first page, the story, answers the question and shows the main figures.
The second page, the evidence, contains all other figures and texts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import pandas as pd

from harness.reporting.figures import DrawnFigure
from harness.schema.findings import Claim, Section, Source, Table, Verdict

TITLE = "Where does the memory of training a multilayer perceptron go?"
"""Title of a report if none of its sections has a question."""

LITERATURE = "Claims of the literature about the memory of training, tested to the byte"
"""Title of the report on the claims of the literature."""

MOST_ANSWERS = 3
"""Largest number of sentences in the answer to the report's question."""

MOST_STORY = 5
"""Largest number of figures on the first page, if no experiment selects figures for it."""


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
    source: Source | None = None
    """Claim of the literature that the experiment tests."""
    doubts: tuple[str, ...] = ()
    """Contradictions in the evidence of the experiment."""
    data: str = ""
    """Date and commit of the experiment's records."""


@dataclass(frozen=True, kw_only=True)
class Numbered:
    """A figure with its number, its chapter and its page."""

    number: int
    chapter: Chapter
    picture: DrawnFigure
    in_story: bool

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

    @cached_property
    def lead(self) -> Chapter | None:
        """First chapter with a claim or an answer; the report answers this chapter's question."""
        settled = [part for part in self.chapters if part.section.claims or part.section.answer]
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
        return (self.lead.question or self.lead.title) if self.lead else TITLE

    @property
    def device_note(self) -> str:
        """Sentence on the pretended GPU that made the records; empty for a real device."""
        facts = dict(self.environment.frame.itertuples(index=False, name=None))
        _, is_dry_run, gpu = str(facts.get("device", "")).rpartition("dry run, ")
        if not is_dry_run:
            return ""
        return (
            f"This is a dry run: PyTorch's own allocator ran on a pretended {gpu}, without a GPU. "
            "Bytes are those of PyTorch's allocator, and times are null."
        )

    @property
    def answer(self) -> tuple[tuple[str, str], ...]:
        """Sentences of the answer, each split after its first colon."""
        doubtful = [text for part in self.chapters if part.doubts for text in part.section.answer]
        if self.of_literature:
            return (*map(_split, doubtful[:1]), ("Verdicts: ", self.tally))
        written = [text for part in self.chapters for text in part.section.answer]
        written.sort(key=lambda text: text not in doubtful)
        if self.lead and not self.lead.section.answer:
            claims = self.lead.section.claims
            written = [f"{headline(one)}: {one.words}, {one.number}" for one in claims]
        return tuple(map(_split, written[:MOST_ANSWERS]))

    @property
    def claims(self) -> tuple[tuple[Chapter, Claim], ...]:
        """All claims with their chapters, in reading order."""
        return tuple((part, claim) for part in self.chapters for claim in part.section.claims)

    @property
    def topics(self) -> dict[str, list[tuple[Chapter, Claim]]]:
        """Claims with their chapters, grouped by the title of the chapter."""
        topics: dict[str, list[tuple[Chapter, Claim]]] = {}
        for part, claim in self.claims:
            topics.setdefault(part.title, []).append((part, claim))
        return topics

    @property
    def tally(self) -> str:
        """Number of claims with each verdict, in words."""
        return tally([claim.verdict for _, claim in self.claims])

    @cached_property
    def figures(self) -> tuple[Numbered, ...]:
        """All figures, numbered; the figures of the first page come first."""
        every = [(part, one) for part in self.chapters for one in part.pictures]
        chosen = [(part, one) for part, one in every if one.story]
        if not chosen:
            first = [(part, part.pictures[0]) for part in self.chapters if part.pictures]
            chosen = first[:MOST_STORY]
        known = {id(one) for _, one in chosen}
        rest = [(part, one) for part, one in every if id(one) not in known]
        return tuple(
            Numbered(number=number, chapter=part, picture=one, in_story=number <= len(chosen))
            for number, (part, one) in enumerate([*chosen, *rest], 1)
        )

    def figures_of(self, part: Chapter, *, in_story: bool) -> tuple[Numbered, ...]:
        """Return the figures of ``part`` on the first page (``in_story``) or on the second page."""
        return tuple(
            one for one in self.figures if one.chapter is part and one.in_story == in_story
        )


def _split(text: str) -> tuple[str, str]:
    """Split a sentence after its first colon."""
    first, colon, rest = text.partition(": ")
    return first + colon, rest


def headline(claim: Claim) -> str:
    """Return the claim in a few words, without a full stop."""
    return (claim.headline or claim.sentence).rstrip(".")


def rule_words(claim: Claim) -> str:
    """Describe the rule and the control of a claim, and the second source of its numbers."""
    rule, second = claim.rule, claim.second
    words = f"Rule: the claim holds if {rule.holds}. The claim fails if {rule.fails}."
    words += f" The claim stays open if {rule.open}."
    if claim.matters:
        words += f" The smallest difference that matters is {claim.matters}."
    if claim.control:
        words += f" As a control, the claim must fail for {claim.control}."
    if second.startswith("none, "):
        words += f" There is no second source of the numbers, {second.removeprefix('none, ')}."
    elif second:
        words += f" The numbers have a second source: {second}."
    return words


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
