"""The report before it is laid out: every text, picture and table, in reading order."""

from dataclasses import dataclass, field

import pandas as pd

from harness.reporting.figures import Picture, picture
from harness.reporting.tables import Shown, shown
from harness.schema.findings import Ruling, Section, Table, Verdict

TITLE = "Where does the memory of training a multilayer perceptron go?"


@dataclass(frozen=True, kw_only=True)
class Chapter:
    """One experiment's part, drawn; ``problem`` says why there is nothing, where there is."""

    name: str
    """The experiment's; also the anchor."""
    title: str
    question: str = ""
    problem: str | None = None
    verdicts: tuple[Verdict, ...] = ()
    text: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()
    tables: tuple[Table, ...] = ()

    @property
    def shown_tables(self) -> tuple[Shown, ...]:
        """The tables as people read them."""
        return tuple(shown(table) for table in self.tables)


@dataclass(frozen=True, kw_only=True)
class Report:
    """The whole report."""

    chapters: tuple[Chapter, ...]
    environment: Table
    notes: tuple[str, ...] = ()
    """What the reader must know of the records themselves, such as skipped lines."""
    title: str = TITLE
    totals: dict[str, int] = field(default_factory=dict)
    """Cells by outcome."""

    @property
    def verdicts(self) -> tuple[tuple[Chapter, Verdict], ...]:
        """Every verdict with its chapter, in reading order."""
        return tuple((part, verdict) for part in self.chapters for verdict in part.verdicts)

    @property
    def tally(self) -> str:
        """How many sentences got which ruling, in words."""
        rulings = [verdict.ruling for _, verdict in self.verdicts]
        counts = [(rulings.count(ruling), ruling) for ruling in Ruling]
        return ", ".join(f"{count} {ruling}" for count, ruling in counts if count)


def chapter(name: str, title: str, question: str, section: Section) -> Chapter:
    """Draw one experiment's section."""
    return Chapter(
        name=name,
        title=title,
        question=question,
        verdicts=section.verdicts,
        text=section.text,
        pictures=tuple(picture(figure) for figure in section.figures),
        tables=section.tables,
    )


def environment_table(frame: pd.DataFrame, most: int = 6) -> Table:
    """Return each fact of the environment with the values that the records give it."""
    rows = []
    for column in frame.columns:
        if str(column).startswith("environment."):
            values = sorted({str(value) for value in frame[column].dropna()})
            more = len(values) - most
            text = "; ".join(values[:most]) + (f"; and {more} more" if more > 0 else "")
            rows.append((str(column).removeprefix("environment."), text))
    table = pd.DataFrame(rows, columns=["fact", "value"]).astype("string")
    return Table(name="environment", caption="What the records say of their machine", frame=table)
