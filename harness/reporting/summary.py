"""Prints the claims and verdicts of one run or of several runs."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from harness.analysis import AnalysisError
from harness.analysis.compare import compare
from harness.reporting.claims import REFERENCE, ClaimEntry, Claims, ReportFileError, read_claims
from harness.reporting.document import tally
from harness.reporting.pages import MARKDOWN
from harness.reporting.terminal import AnswerConsole
from harness.schema.findings import Verdict
from harness.schema.record import RecordError

MOST_ROWS = 4
"""Largest number of claims that the table of the main experiment shows."""
MOST_LINES = 3
"""Largest number of lines in a list of claims."""

SHORT = {
    Verdict.SUPPORTED: "holds",
    Verdict.LIMITED: "part",
    Verdict.REFUTED: "fails",
    Verdict.OPEN: "open",
}


def print_summary(folder: Path, page: Path, reference: Path = REFERENCE) -> None:
    """Print the answer and the main verdicts; compare all verdicts with the reference run."""
    claims = read_claims(folder)
    console = AnswerConsole()
    console.print(Text(claims.question, style="bold"))
    short = [sentence.partition(": ")[0] for sentence in claims.answer]
    if short:
        console.print(Text(". ".join(short) + "."))
    _print_leading(console, [one for one in claims.claims if one.experiment == claims.lead])
    console.say(_counted(claims.claims), "bold")
    undecided = [
        f"{one.claim} ({one.open_reason or one.number})"
        for one in claims.claims
        if one.verdict == Verdict.OPEN
    ]
    _print_names(console, "open", undecided)
    if folder.resolve() != reference.resolve():
        _print_comparison(console, claims, reference)
    console.say(f"All verdicts: {folder / MARKDOWN}")
    console.say(f"Report: {page}")


def _print_leading(console: AnswerConsole, claims: Sequence[ClaimEntry]) -> None:
    rows = claims[:MOST_ROWS]
    parted = [one.claim.partition(": ") for one in rows]
    alike = len(rows) > 1 and len({tail for _, _, tail in parted}) == 1  # "X: grows so" in each
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(overflow="fold")
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for one, (head, _, _) in zip(rows, parted, strict=True):
        parts = one.words.partition(" ")[2]  # what follows "holds" or "fails;"
        number = f"{parts}: {one.number}" if one.holds_for else one.number
        verdict = "in part" if one.verdict == Verdict.LIMITED else one.verdict
        table.add_row(Text(head if alike else one.claim), verdict, Text(number))
    console.print(Padding(table, (0, 0, 0, 2)))


def _counted(claims: Sequence[ClaimEntry]) -> str:
    counts = tally([one.verdict for one in claims]) or "none"
    return f"{len(claims)} claim{'' if len(claims) == 1 else 's'}: {counts}"


def _print_names(console: AnswerConsole, head: str, names: Sequence[str]) -> None:
    """Print the names that fit in ``MOST_LINES`` lines, and how many names are left out."""
    for count in range(len(names), 0, -1):
        rest = f"; and {len(names) - count} more" if count < len(names) else ""
        text = f"{head}: {'; '.join(names[:count])}{rest}"
        lines = textwrap.wrap(text, console.width, initial_indent="  ", subsequent_indent="    ")
        if len(lines) <= MOST_LINES or count == 1:
            console.say_all(lines, before="")
            return


def _print_comparison(console: AnswerConsole, claims: Claims, reference: Path) -> None:
    """Print the verdicts that differ from the reference run, if the reference run exists."""
    try:
        known = {one.key: one.verdict for one in read_claims(reference).claims}
    except ReportFileError:
        return
    both = [one for one in claims.claims if one.key in known]
    different = [one for one in both if one.verdict != known[one.key]]
    same = len(both) - len(different)
    console.say(f"{same} of {len(both)} verdicts are the same as in the reference run", "bold")
    words = []
    for one in different:
        reason = f" ({one.open_reason})" if one.open_reason else ""
        words.append(f"{one.claim}: {one.words}{reason} here, {known[one.key]} there")
    _print_names(console, "differ" if len(words) > 1 else "differs", words)


def print_claims(folder: Path) -> bool:
    """Print one line for each claim of a report; return whether the report has claims."""
    console = AnswerConsole()
    claims = read_claims(folder).claims
    console.say(_counted(claims), "bold")
    console.say_all((f"{SHORT[one.verdict]:<7}{one.claim}: {one.number}" for one in claims), "")
    return bool(claims)


def print_side_by_side(folders: Sequence[Path]) -> bool:
    """Print the verdict of each claim in each folder; return whether the runs agree."""
    runs = [{one.key: one for one in read_claims(folder).claims} for folder in folders]
    console = AnswerConsole()
    for number, folder in enumerate(folders, 1):
        console.say(f"run {number}: {folder}")
    rows: list[tuple[str, ...]] = []
    contradicted = alike = missing = 0
    keys = dict.fromkeys(key for run in runs for key in run)
    for key in keys:
        claims = [run.get(key) for run in runs]
        verdicts = [one.verdict for one in claims if one is not None]
        against = len(set(verdicts) - {Verdict.OPEN}) > 1
        contradicted += against
        missing += len(verdicts) < len(runs) and not against
        alike += len(verdicts) == len(runs) and len(set(verdicts)) == 1
        name = next(one.claim for one in claims if one is not None)
        cells = ["-" if one is None else SHORT[one.verdict] for one in claims]
        rows.append((name, *cells, "contradicted" if against else ""))
    heads = ("claim", *(f"run {number}" for number in range(1, len(runs) + 1)), "")
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    for row in (heads, *rows):
        console.say("  ".join(map(str.ljust, row, widths)).rstrip())
    unsure = len(keys) - alike - contradicted - missing
    text = (
        f"{len(keys)} claims: {alike} alike in all runs, {unsure} alike or open, "
        f"{contradicted} contradicted"
    )
    console.say(text + f", {missing} not in every run" * bool(missing), "bold")
    far = [words for folder in folders[1:] if (words := _far_apart(folders[0], folder))]
    console.say_all(far, before="")
    in_common = set.intersection(*map(set, runs))
    if not in_common:
        console.say("The runs have no claim in common: nothing is compared.", "bold")
    return bool(in_common) and not contradicted and not far


def _far_apart(first: Path, second: Path) -> str:
    """Return a note on metrics that differ between two runs by more than a factor of ten."""
    try:
        words = compare(first, second).far_apart_words
    except (RecordError, AnalysisError):  # a report without records, or of other cells
        return ""
    return f"{second}: {words}" if words else ""
