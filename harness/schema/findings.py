"""Findings of an experiment's analysis for the report, i.e. claims, tables, figures and text.

A claim of the literature has its source, and a judgement with checks and published numbers. An
analysis makes these objects, and renderers read them; this file neither computes nor formats.
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
    """Judgement on a sentence by the evidence."""

    SUPPORTED = "holds"
    LIMITED = "holds in part"
    REFUTED = "fails"
    OPEN = "open"


def verdict_words(verdict: Verdict, holds_for: str = "", fails_for: str = "") -> str:
    """Return the words for a verdict and the parts that it names; every page uses these words.

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
    """The rule that decides a claim; its history shows that the rule is older than the data."""

    holds: str
    """Condition under which the claim holds."""
    fails: str
    """Condition under which the claim fails."""
    open: str
    """Condition under which the claim stays open."""

    def __post_init__(self) -> None:
        if not (self.holds and self.fails and self.open):
            raise ValueError("a rule says what holds, what fails and what is open")


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A verdict, and the parts of the data on which the sentence holds and fails."""

    verdict: Verdict
    holds_for: str = ""
    """Part on which the claim holds, if it does not hold on all parts."""
    fails_for: str = ""
    """Part on which the claim fails."""

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
    """A sentence with its verdict, its measurement and the deciding number."""

    sentence: str
    """Sentence of the claim; it has the note's words or states its own quantity."""
    rule: Rule
    """The rule that decides, stated before the data are known."""
    second: str
    """Second derivation of the deciding number, or the reason why there is none."""
    measured: str
    """Measurement in plain words with numbers."""
    number: str
    """Deciding number, with its unit and interval, such as ``R2 = 0.9991``."""
    headline: str = ""
    """Claim in at most about ten words, for lists; the sentence by default."""
    open_reason: str = ""
    """Reason why a claim is open, in a few words, such as ``about 40 blocks would decide``."""
    matters: str = ""
    """Smallest difference that matters, and why."""
    control: str = ""
    """Network for which the claim must fail, and the verdict there."""
    history: str = ""
    """Source of the limit, and the commits in which the rule was written and changed."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table that is written as CSV with full digits, and shown in the report."""

    name: str
    caption: str
    frame: "pd.DataFrame"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure with its data; ``draw`` paints ``data`` on an empty canvas."""

    name: str
    caption: str
    """Caption of one or two sentences; also the picture's text alternative."""
    data: "pd.DataFrame"
    draw: "Callable[[Canvas, pd.DataFrame], None]"
    size: tuple[float, float] = (7.0, 4.2)
    """Width and height in inches."""
    tips: "Callable[[pd.DataFrame], Iterable[tuple[float, float, str]]] | None" = None
    """Function that returns ranges of x on the first axes, from ``data``, with their hover text."""
    alt: str = ""
    """Text for a reader who cannot see the picture; the caption by default."""
    story: bool = False
    """True if the figure belongs on the report's first page."""
    heading: str = ""
    """Title drawn above the figure, so that slides can use the figure."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A sentence of the literature, and the sentence that the harness tests in its place."""

    citation: str
    """Authors, year, and arXiv number or address without a scheme."""
    quote: str
    """Sentence in the words of the source, or of ``secondary``."""
    secondary: str = ""
    """Place where the quote was read, if it is not the source."""
    sentence: str
    """Exact sentence that the harness tests."""
    headline: str
    """Claim in at most about eight words, for the table."""
    rule: Rule
    """The rule that decides, stated before the data are known."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """A deciding number with a second derivation."""

    name: str
    value: int | float
    second: int | float
    second_from: str
    """Source of ``second``: closed form, another instrument, or a published measurement."""
    allowed: int | float = 0
    """Largest difference at which the two numbers count as equal."""
    gates: bool = False
    """True if both numbers measure one quantity; if they then disagree, the claim is open. False
    for a law; a difference is then shown as a failed check and does not change the verdict."""

    @property
    def difference(self) -> int | float:
        """The number minus the second number."""
        return self.value - self.second

    @property
    def holds(self) -> bool:
        """True if the two numbers differ by at most ``allowed``."""
        return abs(self.difference) <= self.allowed

    @property
    def words(self) -> str:
        """Difference of the two numbers, in words."""
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
    """Deciding number, in a few words, for the table."""
    measured: str
    """Measurement in one or two sentences with numbers."""
    closed_form: str = ""
    """Formula behind the numbers, in words or symbols."""
    limits: str = ""
    """Limits of the verdict's validity."""
    checks: tuple[Check, ...]
    """At least one check, because each deciding number needs a second derivation."""
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
    """Answer to the experiment's question, in at most three sentences with numbers."""
    text: tuple[str, ...] = ()
    """Paragraphs with findings, limits and negative results."""
    tables: tuple[Table, ...] = field(default=())
    figures: tuple[Figure, ...] = field(default=())
    judgement: Judgement | None = None
    """Judgement to show next to a claim of the literature, in the claim's section."""
