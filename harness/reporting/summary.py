"""How ``harness reproduce`` ends: the answer in about ten lines, and where to read on."""

from collections.abc import Sequence
from pathlib import Path

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from harness.reporting.claims import REFERENCE, Claim, Claims, ClaimsError, read_claims
from harness.schema.findings import Ruling
from harness.schema.terminal_console import PlainConsole

MOST_ROWS = 4
"""Claims of the leading experiment that the table shows, and differences that are named."""

_SEVERAL = {
    Ruling.SUPPORTED: "hold",
    Ruling.LIMITED: "hold within limits",
    Ruling.REFUTED: "fail",
    Ruling.OPEN: "stay open",
}


def print_summary(folder: Path, page: Path, reference: Path = REFERENCE) -> None:
    """Print the answer, the main verdicts, how they compare with ``reference``, and the paths."""
    claims = read_claims(folder)
    console = PlainConsole(highlight=False)
    console.print(Text(claims.question, style="bold"))
    short = [sentence.partition(": ")[0] for sentence in claims.answer]
    if short:
        console.print(Text(". ".join(short) + "."))
    _print_table(console, [one for one in claims.claims if one.experiment == claims.lead])
    console.print(Text(_counted(claims.claims), style="bold"))
    for ruling in (Ruling.REFUTED, Ruling.OPEN):
        _print_names(console, ruling, claims.claims)
    _print_comparison(console, claims, folder, reference)
    console.print(Text(f"Report: {page}"), soft_wrap=True)
    console.print(Text(f"All verdicts: harness verdicts {folder}"), soft_wrap=True)


def print_claims(folder: Path) -> None:
    """Print every claim of the report in ``folder`` by topic, with what was measured."""
    console = PlainConsole(highlight=False)
    claims = read_claims(folder).claims
    console.print(Text(_counted(claims), style="bold"))
    for topic in dict.fromkeys(one.topic for one in claims):
        console.print(Text(f"\n{topic}", style="bold"))
        for one in claims:
            if one.topic == topic:
                console.print(Text.assemble((f"  {one.verdict}: ", "bold"), one.sentence))
                console.print(Padding(Text(f"{one.measured} ({one.number})"), (0, 0, 0, 4)))


def _print_table(console: PlainConsole, claims: Sequence[Claim]) -> None:
    table = Table(box=None, show_header=False, pad_edge=False, expand=True)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=3)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=3)
    for one in claims[:MOST_ROWS]:
        table.add_row(f"  {one.claim}", one.verdict, one.number)
    console.print(table)


def _counted(claims: Sequence[Claim]) -> str:
    parts = []
    for ruling, several in _SEVERAL.items():
        count = sum(one.verdict == ruling for one in claims)
        if count:
            parts.append(f"{count} {ruling if count == 1 else several}")
    return f"{len(claims)} claim{'' if len(claims) == 1 else 's'}: {', '.join(parts) or 'none'}"


def _print_names(console: PlainConsole, ruling: Ruling, claims: Sequence[Claim]) -> None:
    """Name the claims that fail, or that stay open and why, each on one line."""
    for one in [one for one in claims if one.verdict == ruling]:
        why = one.measured if ruling is Ruling.OPEN else one.number
        _print_line(console, f"  {ruling}: {one.claim} ({why})")


def _print_line(console: PlainConsole, text: str) -> None:
    console.print(Text(text), no_wrap=True, overflow="ellipsis", crop=True)


def _print_comparison(console: PlainConsole, claims: Claims, folder: Path, reference: Path) -> None:
    """Say how the verdicts differ from the reference run's, where it is there to compare with."""
    if folder.resolve() == reference.resolve():
        return
    try:
        known = {(one.experiment, one.sentence): one for one in read_claims(reference).claims}
    except ClaimsError:
        return
    both = [(one, known[key]) for one in claims.claims if (key := _key(one)) in known]
    different = [(one, other) for one, other in both if one.verdict != other.verdict]
    same = len(both) - len(different)
    console.print(Text(f"As in the reference run: {same} of {len(both)}", style="bold"))
    for one, other in different:
        why = one.measured if one.verdict == Ruling.OPEN else one.number
        words = f"  {one.claim}: {one.verdict} here, {other.verdict} there ({why})"
        _print_line(console, words)


def _key(one: Claim) -> tuple[str, str]:
    return one.experiment, one.sentence
