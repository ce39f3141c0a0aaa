"""Findings of an experiment's analysis for the report: claims, tables, figures, words.

A claim of the literature has its source, and a judgement with checks and published numbers.
Nothing here computes or formats; an analysis fills these in, the renderers read them.
"""

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure as Canvas


Item = TypeVar("Item")


class Verdict(enum.StrEnum):
    """Judgement of the evidence on a sentence."""

    SUPPORTED = "holds"
    LIMITED = "holds in part"
    REFUTED = "fails"
    OPEN = "open"


def verdict_words(verdict: Verdict, holds_for: str = "", fails_for: str = "") -> str:
    """Return a verdict with the parts that it names, as every page shows it.

    >>> verdict_words(Verdict.LIMITED, "Adam", "momentum")
    'holds for Adam, fails for momentum'
    >>> verdict_words(Verdict.REFUTED, "batch 1,024 and more")
    'fails; holds only for batch 1,024 and more'
    """
    if verdict is Verdict.LIMITED and holds_for:
        return f"holds for {holds_for}, fails for {fails_for}"
    if verdict is Verdict.REFUTED and holds_for:
        return f"fails; holds only for {holds_for}"
    return str(verdict)


@dataclass(frozen=True, kw_only=True)
class Rule:
    """The rule that decides a claim; its history shows how much older than the data it is."""

    holds: str
    """The claim holds if this is so."""
    fails: str
    """The claim fails if this is so."""
    open: str
    """The claim stays open if this is so."""

    def __post_init__(self) -> None:
        if not (self.holds and self.fails and self.open):
            raise ValueError("a rule says what holds, what fails and what is open")


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A verdict, and the parts of the data on which its sentence holds and fails."""

    verdict: Verdict
    holds_for: str = ""
    """The part on which the claim holds, if it holds on one but not on all."""
    fails_for: str = ""
    """The part on which the claim fails."""

    def __post_init__(self) -> None:
        if self.verdict is Verdict.LIMITED and not (self.holds_for and self.fails_for):
            raise ValueError("a claim that holds in part names where it holds and where it fails")
        if self.verdict is Verdict.SUPPORTED and (self.holds_for or self.fails_for):
            raise ValueError("a claim that holds has no part where it fails")

    @property
    def words(self) -> str:
        """The verdict with the parts that it names."""
        return verdict_words(self.verdict, self.holds_for, self.fails_for)


@dataclass(frozen=True, kw_only=True)
class Claim(Judged):
    """A sentence with its verdict: what was measured, and the number that decides."""

    sentence: str
    """The claim, in the note's words or as a quantity of its own."""
    rule: Rule
    """The rule that decides, stated before the data are known."""
    second: str
    """Second derivation of the number that decides, or why it has none."""
    measured: str
    """Plain words with their numbers."""
    number: str
    """The number that decides, with its unit and interval, such as ``R2 = 0.9991``."""
    headline: str = ""
    """The claim in at most about ten words, for lists; the sentence by default."""
    open_reason: str = ""
    """Why an open claim is open, in a few words, such as ``about 40 blocks would decide``."""
    matters: str = ""
    """From which size on a difference matters, and why."""
    control: str = ""
    """A network for which the claim must fail, and its verdict there."""
    history: str = ""
    """Source of the limit, and the commits in which the rule was written and changed."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table: written as CSV with full digits, shown in the report."""

    name: str
    caption: str
    frame: "pd.DataFrame"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure with the very data it shows; ``draw`` paints ``data`` on an empty canvas."""

    name: str
    caption: str
    """What to see, in a sentence or two; also the picture's text alternative."""
    data: "pd.DataFrame"
    draw: "Callable[[Canvas, pd.DataFrame], None]"
    size: tuple[float, float] = (7.0, 4.2)
    """Inches, width by height."""
    tips: "Callable[[pd.DataFrame], Iterable[tuple[float, float, str]]] | None" = None
    """Ranges of the first axes' x, from ``data``, with the words that hovering shows there."""
    alt: str = ""
    """What a reader who cannot see the picture should know; the caption by default."""
    story: bool = False
    """Whether the figure belongs on the report's first page."""
    heading: str = ""
    """Its title, drawn above it, so that it can be copied into slides."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A sentence of the literature, and the sentence that the harness tests in its place."""

    citation: str
    """Authors and year, and the arXiv number or the address without a scheme."""
    quote: str
    """The sentence as its source has it, or as ``secondary`` repeats it."""
    secondary: str = ""
    """Place where the quote was read, if not in the source itself."""
    sentence: str
    """The harness's version of it: what exactly is tested."""
    headline: str
    """The claim in at most about eight words, for the table."""
    rule: Rule
    """The rule that decides, stated before the data are known."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """A number that decides, derived a second way."""

    name: str
    value: int | float
    second: int | float
    second_from: str
    """Source of ``second``: closed form, the other instrument, the real GPU of a witness."""
    allowed: int | float = 0
    """Largest difference at which the two numbers count as equal."""
    gates: bool = False
    """True if both numbers measure one quantity; if they then disagree, the claim is open. A law
    that the data do not follow leaves the verdict to the data, and is shown as a failed check."""

    @property
    def difference(self) -> int | float:
        """The number minus the second number."""
        return self.value - self.second

    @property
    def holds(self) -> bool:
        """True if the two agree as well as they have to."""
        return abs(self.difference) <= self.allowed

    @property
    def words(self) -> str:
        """Distance of the two, in words."""
        return f"{self.name} differs from the {self.second_from} by {self.difference:,}"


@dataclass(frozen=True, kw_only=True)
class Witness:
    """A published measurement of a real GPU next to the harness's number for the same step."""

    name: str
    published_bytes: int
    ours_bytes: int
    why: str
    """Reason for the difference, or "equal"."""
    source: str
    """Repository and file, and the GPU."""

    @property
    def difference_bytes(self) -> int:
        """The harness's number minus the published number."""
        return self.ours_bytes - self.published_bytes


@dataclass(frozen=True, kw_only=True)
class Judgement(Judged):
    """Judgement of the steps on a source's sentence."""

    number: str
    """The number that decides, in a few words, for the table."""
    measured: str
    """A sentence or two with the numbers."""
    closed_form: str = ""
    """The rule behind the numbers, as a formula in words or symbols."""
    limits: str = ""
    """Limits beyond which the verdict is not true."""
    checks: tuple[Check, ...]
    """At least one, because each number that decides is derived a second way."""
    witnesses: tuple[Witness, ...] = ()
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()


def present(*items: Item | None) -> tuple[Item, ...]:
    """Return the parts of a section that the records gave."""
    return tuple(item for item in items if item is not None)


@dataclass(frozen=True, kw_only=True)
class Section:
    """One experiment's part of the report."""

    claims: tuple[Claim, ...] = ()
    answer: tuple[str, ...] = ()
    """The answer to the experiment's question in at most three sentences, with their numbers."""
    text: tuple[str, ...] = ()
    """Paragraphs: findings, limits, negative results."""
    tables: tuple[Table, ...] = field(default=())
    figures: tuple[Figure, ...] = field(default=())
    judgement: Judgement | None = None
    """The section of a claim of the literature shows it next to the claim."""
