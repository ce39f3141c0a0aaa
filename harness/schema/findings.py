"""Results of an experiment's analysis for the report: claims, tables, figures and text.

A published claim also has a source and a judgement. The analysis creates these objects; the report
formats them.
"""

import enum
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure as Canvas


Item = TypeVar("Item")


class Verdict(enum.StrEnum):
    """Result of testing a claim against the data."""

    SUPPORTED = "holds"
    LIMITED = "holds in part"
    REFUTED = "fails"
    OPEN = "open"


_AS_WRITTEN = {
    "sgd": "SGD", "adam": "Adam", "adamw": "AdamW", "relu": "ReLU", "gelu": "GELU", "mlp": "MLP",
    "cpu": "CPU", "cuda": "CUDA",
}  # fmt: skip


def verdict_words(verdict: Verdict, holds_for: str = "", fails_for: str = "") -> str:
    """Return a verdict as text, with the parts of the data for which the claim holds or fails.

    >>> verdict_words(Verdict.LIMITED, "Adam", "momentum")
    'holds for Adam, fails for momentum'
    >>> verdict_words(Verdict.REFUTED, "batch 1,024 and more")
    'fails; holds only for batch 1,024 and more'
    >>> verdict_words(Verdict.REFUTED, "49 of 104 cells")
    'fails; holds only in 49 of 104 cells'
    """
    if verdict is Verdict.LIMITED and holds_for:
        return f"holds {_where(holds_for)}, fails {_where(fails_for)}"
    if verdict is Verdict.REFUTED and holds_for:
        return f"fails; holds only {_where(holds_for)}"
    return str(verdict)


def as_written(name: str) -> str:
    """Return the name of a case as people write it.

    >>> as_written("adamw, foreach")
    'AdamW, foreach'
    """
    return re.sub(r"\w+", lambda word: _AS_WRITTEN.get(word[0], word[0]), name)


def _where(part: str) -> str:
    return f"{'in' if part[:1].isdigit() else 'for'} {part}"


MOST_FAIL = "at least half of the cases do not satisfy this condition"
NO_RESULT = "cases without a result could change the verdict"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Conditions that decide a claim; they are written before the data are measured."""

    holds: str
    """Condition under which the claim holds."""
    fails: str = MOST_FAIL
    """Condition under which the claim fails."""
    open: str = NO_RESULT
    """Condition under which the claim stays open."""
    name: str = ""
    """Name of a rule that several claims share; the headline of its claim by default."""

    def __post_init__(self) -> None:
        if not (self.holds and self.fails and self.open):
            raise ValueError("a rule says what holds, what fails and what is open")


@dataclass(frozen=True, kw_only=True)
class RuleChange:
    """A commit in the history of a rule."""

    name: str
    commit: str
    date: date
    words: str


@dataclass(frozen=True, kw_only=True)
class RuleHistory:
    """Source of a rule's limit, the commit that wrote the rule, and its later changes."""

    source: str
    """Reason for the rule's limit, such as "10%, by judgement"."""
    first_data: RuleChange
    written: RuleChange
    changes: tuple[RuleChange, ...] = ()
    """Changes of the rule after the first measurement, from oldest to newest."""

    def __str__(self) -> str:
        """Return the history as a line, with the names of its commits."""
        parts = [("first data", self.first_data), ("written", self.written)]
        parts += [("changed", one) for one in self.changes]
        said = [f"{what} {one.date:%-d %B %Y} ({one.name}, {one.commit})" for what, one in parts]
        return "; ".join([f"source of the limit: {self.source}", *said])


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A verdict on a claim, and the parts of the data for which the claim holds or fails."""

    verdict: Verdict
    holds_for: str = ""
    """Part of the data for which the claim holds, if the claim fails for other data."""
    fails_for: str = ""
    """Part of the data for which the claim fails."""
    cells: "pd.DataFrame | None" = field(default=None, compare=False)
    """Cases with a column ``holds``, if the claim holds for some cases and fails for others."""

    def __post_init__(self) -> None:
        if type(self.verdict) is not Verdict:
            allowed = ", ".join(f"Verdict.{one.name}" for one in Verdict)
            raise TypeError(f"verdict must be one of {allowed}, got {self.verdict!r}")
        if self.verdict is Verdict.LIMITED and not (self.holds_for and self.fails_for):
            raise ValueError("a claim that holds in part names where it holds and where it fails")
        if self.verdict is Verdict.SUPPORTED and (self.holds_for or self.fails_for):
            raise ValueError("a claim that holds has no part where it fails")

    @property
    def words(self) -> str:
        """The verdict as text, such as ``holds for Adam, fails for momentum``."""
        return verdict_words(self.verdict, self.holds_for, self.fails_for)


@dataclass(frozen=True, kw_only=True)
class Claim(Judged):
    """A claim with its verdict, its measurement and the number that decides the claim."""

    sentence: str
    """Sentence of the claim, quoted from the tested text or written for the experiment."""
    rule: Rule
    """Conditions that decide the claim, written before the data are measured."""
    second: str
    """Independent derivation of ``number``, or the reason why no derivation exists."""
    measured: str
    """Result of the measurement, in plain words with numbers."""
    number: str
    """Number that decides the claim, as text with unit and interval, such as ``R2 = 0.9991``."""
    headline: str = ""
    """Short form of the claim, about ten words, for lists; the sentence by default."""
    open_reason: str = ""
    """Short reason why the claim is open, such as ``about 40 blocks would decide``."""
    matters: str = ""
    """Smallest difference in ``number`` that matters in practice, and the reason."""
    control: str = ""
    """Negative control: a case for which the claim must fail, and the verdict on this case."""
    special: str = ""
    """Sentence on what is special in how a shared rule applies to this claim."""
    history: RuleHistory | None = None
    """Origin of the limit in ``rule``, and the git commits that wrote and changed the rule."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table that the report shows and writes to a CSV file without rounding."""

    name: str
    caption: str
    frame: "pd.DataFrame"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure and its data; the function ``draw`` draws ``data`` on an empty canvas."""

    name: str
    caption: str
    """Caption of one or two sentences."""
    data: "pd.DataFrame"
    draw: "Callable[[Canvas, pd.DataFrame], None]"
    size: tuple[float, float] = (7.0, 4.2)
    """Width and height in inches."""
    tips: "Callable[[pd.DataFrame], Iterable[tuple[float, float, str]]] | None" = None
    """Function that takes ``data`` and returns hover texts, each with the x range in which the
    first axes show the text."""
    alt: str = ""
    """Alternative text for readers who cannot see the figure; the caption by default."""
    heading: str = ""
    """Title above the figure, for use on slides."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A quoted sentence of a publication, and the exact sentence that the harness tests instead."""

    citation: str
    """Authors, year, and an arXiv number or a web address without ``https://``."""
    quote: str
    """Quoted sentence, copied from the publication or from ``secondary``."""
    secondary: str = ""
    """Publication from which ``quote`` was copied, if this is not the cited publication."""
    sentence: str
    """Exact sentence that the harness tests."""
    headline: str
    """Short form of the claim, about eight words, for tables."""
    rule: Rule
    """Conditions that decide the claim, written before the data are measured."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """A number that decides a claim, and a second value that was derived independently."""

    name: str
    value: int | float
    second: int | float
    second_from: str
    """Source of ``second``, e.g. a formula, another instrument or a published measurement."""
    allowed: int | float = 0
    """Largest difference between ``value`` and ``second`` that passes the check."""
    gates: bool = False
    """If True, a failed check leaves the claim open, because the two numbers measure the same
    quantity. If False, the report shows a failed check, but the verdict does not change."""

    @property
    def difference(self) -> int | float:
        """Difference ``value - second``."""
        return self.value - self.second

    @property
    def holds(self) -> bool:
        """True if the two numbers differ by at most ``allowed``."""
        return abs(self.difference) <= self.allowed

    @property
    def words(self) -> str:
        """Sentence that states the difference between the two numbers."""
        return f"{self.name} differs from the {self.second_from} by {self.difference:,}"


@dataclass(frozen=True, kw_only=True)
class Witness:
    """A published measurement on a real GPU, and the harness's number for the same step."""

    name: str
    published_bytes: int
    ours_bytes: int
    why: str
    """Reason for the difference, or "equal"."""
    source: str
    """Repository and file of the published number, and the name of the GPU."""

    @property
    def difference_bytes(self) -> int:
        """Difference ``ours_bytes - published_bytes``."""
        return self.ours_bytes - self.published_bytes


@dataclass(frozen=True, kw_only=True)
class Judgement(Judged):
    """Verdict on a published claim, with the numbers that decide the claim."""

    number: str
    """Number that decides the claim, as a short text for tables."""
    measured: str
    """Result of the measurement, in one or two sentences with numbers."""
    closed_form: str = ""
    """Formula for the number that decides the claim, in words or symbols."""
    limits: str = ""
    """Conditions under which the verdict is valid."""
    checks: tuple[Check, ...]
    """Checks that compare ``number`` with a second, independently derived value; at least one."""
    witnesses: tuple[Witness, ...] = ()
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()


def present(*items: Item | None) -> tuple[Item, ...]:
    """Return the items that are not None; an item is None if its records are missing."""
    return tuple(item for item in items if item is not None)


@dataclass(frozen=True, kw_only=True)
class Section:
    """One experiment's part of the report."""

    claims: tuple[Claim, ...] = ()
    summary: tuple[str, ...] = ()
    """Answer to the experiment's question for the first page, in at most three sentences."""
    lesson: str = ""
    """Sentence for the first page: the practical consequence of the answer."""
    coverage: str = ""
    """Sentence for the first page: the number of cells that were measured, and of the others."""
    limits: tuple[str, ...] = ()
    """Conditions under which the claims are valid."""
    text: tuple[str, ...] = ()
    """Paragraphs with findings, limits and negative results."""
    tables: tuple[Table, ...] = field(default=())
    figures: tuple[Figure, ...] = field(default=())
    """Figures; the first figure of a report is on its first page."""
    judgement: Judgement | None = None
    """Judgement of the published claim that the experiment tests."""
