"""Judges earlier records of a run by the present rules, and saves the verdicts next to it.

    python -m benchmarks.earlier_runs results/reference-cpu --commits 6a74dbd9 4b9ef207

The command writes ``earlier.json`` with the claims whose numbers or verdicts differ between these
runs. Other runs of the same machine can be given as folders with ``--runs``; they may have a
smaller grid.
"""

import argparse
import io
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from harness.analysis import AnalysisError
from harness.analysis.evidence import section_of
from harness.reporting.earlier_runs import EARLIER, EarlierClaim, EarlierRun, EarlierRuns
from harness.schema.record import RecordError
from harness.sweeps.experiment_files import find_own, own_names

Found = dict[tuple[str, str], EarlierRun]


def verdicts(folder: Path, run: str) -> tuple[Found, str]:
    """Return the verdicts on each experiment's records, and the processor."""
    found: Found = {}
    machine = ""
    for name in own_names():
        if not (folder / name).is_dir():
            continue
        try:
            section, evidence = section_of(find_own(name), folder / name)
        except (AnalysisError, RecordError) as error:
            print(f"{run}: {name}: {error}", file=sys.stderr)
            continue
        origins = evidence.origins
        date = "" if origins is None else str(origins["environment.time"].dropna().min())[:10]
        cpu = evidence.frame.get("environment.cpu")
        machine = machine or ("" if cpu is None else str(next(iter(cpu.dropna()), "")))
        for one in section.claims:
            seen = EarlierRun(run=run, date=date, verdict=one.verdict, number=one.number)
            found[name, one.headline or one.sentence] = seen
    return found, machine


def archived(folder: Path, commits: list[str]) -> Iterator[tuple[Found, str]]:
    """Yield the verdicts on each commit's records in ``folder``."""
    for commit in commits:
        made = subprocess.run(
            ["git", "archive", commit, folder.as_posix()], capture_output=True, check=True
        )
        with tempfile.TemporaryDirectory() as place:
            with tarfile.open(fileobj=io.BytesIO(made.stdout)) as tar:
                tar.extractall(place, filter="data")
            yield verdicts(Path(place) / folder, commit)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="run next to which the file is written")
    parser.add_argument("--commits", nargs="*", default=[], help="that have earlier records of it")
    parser.add_argument("--runs", nargs="*", type=Path, default=[], help="folders of other runs")
    given = parser.parse_args()
    own, machine = verdicts(given.folder, str(given.folder))
    others = [*archived(given.folder, given.commits)]
    others += [verdicts(path, path.name) for path in given.runs]
    runs = [found for found, cpu in others if cpu == machine]
    claims = [
        EarlierClaim(experiment=key[0], headline=key[1], runs=tuple(known))
        for key, here in own.items()
        if (known := [found[key] for found in runs if key in found])
        and (
            len({one.number for one in known}) > 1
            or {one.verdict for one in known} != {here.verdict}
        )
    ]
    text = msgspec.json.encode(EarlierRuns(machine=machine, claims=tuple(claims)))
    (given.folder / EARLIER).write_bytes(msgspec.json.format(text, indent=1) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
