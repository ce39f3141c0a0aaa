"""Findings of an experiment's analysis for the report: claims, tables, figures, words.

Nothing here computes or formats; an analysis fills these in, the renderers read them.
"""

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure as Canvas

    from harness.schema.literature import Judgement


class Verdict(enum.StrEnum):
    """Judgement of the evidence on a sentence."""

    SUPPORTED = "holds"
    LIMITED = "holds within limits"
    REFUTED = "fails"
    OPEN = "open"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A sentence with its verdict: what was measured, and the number that decides."""

    sentence: str
    """The claim, in the note's words or as a quantity of its own."""
    verdict: Verdict
    measured: str
    """Plain words with their numbers."""
    number: str
    """The number that decides, with its unit and interval, such as ``R2 = 0.9991``."""
    topic: str = ""
    """Claims of one topic stand together in the report; the experiment's title by default."""
    headline: str = ""
    """The claim in at most about ten words, for lists; the sentence by default."""
    open_reason: str = ""
    """Why an open claim is open, in a few words, such as ``about 40 blocks would decide``."""


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
    """From ``data``: stretches of the first axes' x with the words that show there on hovering."""
    alt: str = ""
    """What a reader who cannot see the picture should know; the caption by default."""
    story: bool = False
    """Whether the figure belongs on the report's first page."""
    heading: str = ""
    """What stands above it there; the experiment's title by default."""


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
    judgement: "Judgement | None" = None
    """Of a claim of the literature: what its section of the page shows next to the claim."""
