"""The verdicts of several runs side by side: which claims every run decides alike."""

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from harness.reporting.claims import ClaimEntry, read_claims
from harness.schema.findings import Verdict
from harness.schema.terminal_console import PlainConsole

SHORT = {
    Verdict.SUPPORTED: "holds",
    Verdict.LIMITED: "limits",
    Verdict.REFUTED: "fails",
    Verdict.OPEN: "open",
}
MISSING = "-"


def print_side_by_side(folders: Sequence[Path]) -> bool:
    """Print each claim with its verdict in each of ``folders``; last, how many agree.

    Returns:
        Whether the runs have claims in common and no two contradict each other: an open claim
        contradicts nothing.
    """
    runs = [{_key(one): one for one in read_claims(folder).claims} for folder in folders]
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
        table.add_row(Text(first.claim), *map(_shown, claims), style="bold" if against else None)
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


def _key(one: ClaimEntry) -> tuple[str, str]:
    return one.experiment, one.sentence


def _shown(one: ClaimEntry | None) -> str:
    return MISSING if one is None else SHORT[one.verdict]
