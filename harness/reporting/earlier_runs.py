"""Compares the verdicts of a run with verdicts on earlier runs.

``python -m benchmarks.earlier_runs`` applies the current rules to the records of earlier runs. The
command writes the verdicts to ``earlier.json`` in the folder of a run.
"""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from harness.reporting.claims import read_written
from harness.schema.findings import Claim, Verdict

EARLIER = "earlier.json"


class EarlierRun(Struct, frozen=True, kw_only=True):
    """Verdict that the current rule gives for the records of an earlier run."""

    run: str
    """Commit that contains the records of the run, or the folder of the records."""
    date: str
    verdict: Verdict
    number: str


class EarlierClaim(Struct, frozen=True, kw_only=True):
    """A claim with its verdicts on earlier runs."""

    experiment: str
    headline: str
    runs: tuple[EarlierRun, ...]


class EarlierRuns(Struct, frozen=True, kw_only=True):
    """Verdicts on earlier runs of one machine."""

    machine: str
    claims: tuple[EarlierClaim, ...]


def read_earlier(folder: Path) -> tuple[EarlierClaim, ...]:
    """Read ``earlier.json`` in the folder of a run; the result is empty without the file."""
    path = folder / EARLIER
    return read_written(path, EarlierRuns).claims if path.is_file() else ()


def with_repeats(claim: Claim, experiment: str, known: Sequence[EarlierClaim]) -> Claim:
    """Add the verdicts on earlier runs to a claim; if any two differ, the claim is open.

    >>> from harness.schema.findings import Rule
    >>> rule = Rule(holds="a", fails="b", open="c")
    >>> words = {"sentence": "S", "second": "", "measured": "It is.", "number": "1"}
    >>> one = Claim(verdict=Verdict.SUPPORTED, rule=rule, **words)
    >>> seen = EarlierRun(run="abc", date="2026-11-28", verdict=Verdict.REFUTED, number="2")
    >>> before = EarlierClaim(experiment="x", headline="S", runs=(seen,))
    >>> joined = with_repeats(one, "x", [before])
    >>> joined.verdict.name, joined.open_reason.partition(" (")[2]
    ('OPEN', 'holds in 1 of 2, fails in 1 of 2)')
    """
    named = claim.headline or claim.sentence
    own = [one for one in known if (one.experiment, one.headline) == (experiment, named)]
    if not own or claim.open_reason.startswith("its evidence"):
        return claim
    runs = own[0].runs
    counts = Counter([claim.verdict, *(one.verdict for one in runs)])
    total = len(runs) + 1
    often = ", ".join(f"{verdict} in {count} of {total}" for verdict, count in counts.items())
    numbers = ", ".join(f"“{one.number}” ({one.date}, {one.run})" for one in runs)
    measured = f"{claim.measured} This run and {len(runs)} earlier runs on a processor of the same"
    measured += (
        f" name have these verdicts: {often}. The earlier runs have these numbers: {numbers}."
    )
    joined = dataclasses.replace(claim, measured=measured)
    if len(set(counts) - {Verdict.OPEN}) < 2:
        return joined
    why = f"bimodal: the verdict differs between runs on processors of one name ({often})"
    return dataclasses.replace(
        joined, verdict=Verdict.OPEN, holds_for="", fails_for="", open_reason=why
    )
