"""Claims and verdicts on a terminal: of one run in about ten lines, in full, or of several."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from harness.reporting.claims import REFERENCE, ClaimEntry, Claims, ClaimsError, read_claims
from harness.reporting.document import tally
from harness.schema.findings import Verdict
from harness.schema.terminal_console import PlainConsole

MOST_ROWS = 4
"""Claims of the leading experiment that the table shows."""

_IN_TABLE = {str(Verdict.LIMITED): "within limits"}
"""Shorter words, so that a formula has room next to them."""


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
    undecided = [
        f"{one.claim} ({one.open_reason or one.number})"
        for one in claims.claims
        if one.verdict == Verdict.OPEN
    ]
    _print_names(console, "open", undecided, most_lines=3)
    _print_comparison(console, claims, folder, reference)
    console.print(Text(f"Report: {page}"), soft_wrap=True)
    console.print(Text(f"All verdicts: harness verdicts {folder}"), soft_wrap=True)


def print_claims(folder: Path, *, short: bool = False) -> bool:
    """Print every claim of the report in ``folder`` by topic, with what was measured."""
    console = PlainConsole(highlight=False)
    claims = read_claims(folder).claims
    console.print(Text(_counted(claims), style="bold"))
    for one in claims if short else ():
        line = f"{SHORT[one.verdict]:<7}{one.claim}: {one.number}"
        console.print(Text(line), soft_wrap=True)
    if short:
        return bool(claims)
    for topic in dict.fromkeys(one.topic for one in claims):
        console.print(Text(f"\n{topic}", style="bold"))
        for one in claims:
            if one.topic == topic:
                console.print(Text.assemble((f"  {one.verdict}: ", "bold"), one.sentence))
                console.print(Padding(Text(f"{one.measured} ({one.number})"), (0, 0, 0, 4)))
    return bool(claims)


def _print_table(console: PlainConsole, claims: Sequence[ClaimEntry]) -> None:
    rows = claims[:MOST_ROWS]
    parted = [one.claim.partition(": ") for one in rows]
    alike = len(rows) > 1 and len({tail for _, _, tail in parted}) == 1  # "X: grows so" in each
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(overflow="fold")
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for one, (head, _, _) in zip(rows, parted, strict=True):
        verdict = _IN_TABLE.get(one.verdict, one.verdict)
        table.add_row(Text(head if alike else one.claim), verdict, Text(one.number))
    console.print(Padding(table, (0, 0, 0, 2)))


def _counted(claims: Sequence[ClaimEntry]) -> str:
    counts = tally([one.verdict for one in claims]) or "none"
    return f"{len(claims)} claim{'' if len(claims) == 1 else 's'}: {counts}"


def _print_names(
    console: PlainConsole, head: str, names: Sequence[str], *, most_lines: int
) -> None:
    """Print as many of ``names`` as ``most_lines`` hold, at least one, and count the rest."""
    if not names:
        return
    for count in range(len(names), 0, -1):
        rest = f"; and {len(names) - count} more" if count < len(names) else ""
        text = f"{head}: {'; '.join(names[:count])}{rest}"
        lines = textwrap.wrap(text, console.width, initial_indent="  ", subsequent_indent="    ")
        if len(lines) <= most_lines:
            break
    for line in lines:
        console.print(Text(line), soft_wrap=True)


def _print_comparison(console: PlainConsole, claims: Claims, folder: Path, reference: Path) -> None:
    """Say how the verdicts differ from the reference run's, where it is there to compare with."""
    if folder.resolve() == reference.resolve():
        return
    try:
        known = {one.key: one for one in read_claims(reference).claims}
    except ClaimsError:
        return
    both = [(one, known[key]) for one in claims.claims if (key := one.key) in known]
    different = [(one, other) for one, other in both if one.verdict != other.verdict]
    same = len(both) - len(different)
    text = f"{same} of {len(both)} verdicts as in the reference run"
    console.print(Text(text, style="bold"))
    words = [
        f"{one.claim}: {_verdict(one)} here, {other.verdict} there" for one, other in different
    ]
    _print_names(console, "differ" if len(words) > 1 else "differs", words, most_lines=3)


def _verdict(one: ClaimEntry) -> str:
    """Return the verdict, and why it is open where it is."""
    reason = f" ({one.open_reason})" if one.open_reason else ""
    return f"{one.verdict}{reason}"


SHORT = {
    Verdict.SUPPORTED: "holds",
    Verdict.LIMITED: "limits",
    Verdict.REFUTED: "fails",
    Verdict.OPEN: "open",
}
MISSING = "-"


def print_side_by_side(folders: Sequence[Path]) -> bool:
    """Print each claim with its verdict in each of ``folders``; last, how many agree."""
    runs = [{one.key: one for one in read_claims(folder).claims} for folder in folders]
    keys = list(dict.fromkeys(key for run in runs for key in run))
    console = PlainConsole(highlight=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("claim", overflow="fold")
    for number, folder in enumerate(folders, 1):
        console.print(Text(f"run {number}: {folder}"), soft_wrap=True)
        table.add_column(f"run {number}", no_wrap=True)
    contradicted = alike = missing = 0
    for key in keys:
        claims = [run.get(key) for run in runs]
        verdicts = [one.verdict for one in claims if one is not None]
        against = len(set(verdicts) - {Verdict.OPEN}) > 1
        contradicted += against
        everywhere = len(verdicts) == len(runs)
        missing += not everywhere and not against
        alike += everywhere and len(set(verdicts)) == 1
        first = next(one for one in claims if one is not None)
        cells = [MISSING if one is None else SHORT[one.verdict] for one in claims]
        table.add_row(Text(first.claim), *cells, style="bold" if against else None)
    console.print(table)
    unsure = len(keys) - alike - contradicted - missing
    console.print(
        Text(
            f"{len(keys)} claims: {alike} alike in all runs, {unsure} alike or open, "
            f"{contradicted} contradicted" + (f", {missing} not in every run" if missing else ""),
            style="bold",
        ),
        soft_wrap=True,
    )
    in_common = set.intersection(*map(set, runs))
    if not in_common:
        console.print(Text("The runs have no claim in common: nothing is compared.", style="bold"))
    return bool(in_common) and not contradicted
