"""The verdicts of several runs side by side: which claims every run decides alike."""

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from harness.reporting.claims import ClaimEntry, read_claims
from harness.schema.findings import Verdict
from harness.schema.terminal_console import PlainConsole

SHORT = {
    str(Verdict.SUPPORTED): "holds",
    str(Verdict.LIMITED): "limits",
    str(Verdict.REFUTED): "fails",
    str(Verdict.OPEN): "open",
}
MISSING = "-"


def print_side_by_side(folders: Sequence[Path]) -> bool:
    """Print each claim with its verdict in each of ``folders``; last, how many agree.

    Returns:
        Whether no two runs contradict each other: an open claim contradicts nothing.

    """
    runs = [{_key(one): one for one in read_claims(folder).claims} for folder in folders]
    keys = list(dict.fromkeys(key for run in runs for key in run))
    console = PlainConsole(highlight=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("claim", overflow="fold")
    for number, folder in enumerate(folders, 1):
        console.print(Text(f"run {number}: {folder}"), soft_wrap=True)
        table.add_column(f"run {number}", no_wrap=True)
    contradicted = alike = 0
    for key in keys:
        claims = [run.get(key) for run in runs]
        verdicts = [one.verdict for one in claims if one is not None]
        alike += len(set(verdicts)) == 1
        against = len(set(verdicts) - {str(Verdict.OPEN)}) > 1
        contradicted += against
        first = next(one for one in claims if one is not None)
        table.add_row(Text(first.claim), *map(_shown, claims), style="bold" if against else None)
    console.print(table)
    unsure = len(keys) - alike - contradicted
    console.print(
        Text(
            f"{len(keys)} claims: {alike} alike in all runs, {unsure} alike or open, "
            f"{contradicted} contradicted",
            style="bold",
        )
    )
    return not contradicted


def _key(one: ClaimEntry) -> tuple[str, str]:
    return one.experiment, one.sentence


def _shown(one: ClaimEntry | None) -> str:
    return MISSING if one is None else SHORT.get(one.verdict, one.verdict)
