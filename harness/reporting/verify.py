"""Checks that a run's files match its manifest, and that its records reproduce its report."""

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from msgspec import Struct

from harness.analysis.frame import lines_if_there
from harness.processes.measuring_code import measuring_code
from harness.reporting.claims import CLAIMS
from harness.reporting.manifest import MANIFEST, checksum, evidence_of, read_manifest
from harness.reporting.pages import EVIDENCE, MARKDOWN
from harness.reporting.report import analysed, report_files, usable_processors
from harness.schema import record, threshold, traced_run, training_run
from harness.schema.record import RecordError

_DECODERS: dict[str, Callable[[bytes], object]] = {
    record.RECORDS: record.from_json,
    threshold.THRESHOLDS: threshold.from_json,
    training_run.TRAINING_RUNS: training_run.from_json,
    traced_run.STEP_RUNS: traced_run.from_json,
}


_PICTURE = re.compile(rb"<svg.*?</svg>", re.DOTALL)
_UNKNOWN = "unknown"
"""Replacement for a commit or a code version that a record does not name."""


@dataclass(frozen=True, kw_only=True)
class Checked:
    """Result of one check; the check is passed if ``problems`` is empty."""

    name: str
    seen: str
    problems: tuple[str, ...]


def verify(folder: Path, given: Sequence[Path] = ()) -> Iterator[Checked]:
    """Check the files, records, commit, code and report of a run, without new measurements.

    ``given`` contains files of experiments, as for ``harness report --experiment``.
    """
    yield _files(folder, read_manifest(folder))
    yield _lines(folder)
    lines = [folder / path for path in evidence_of(folder) if path.endswith(".jsonl")]
    origins = [origin for path in lines for origin in _origins_in(path)]
    yield _commit(_distinct(origins, "git_commit"))
    yield _code(_distinct(origins, "code"))
    yield _report(folder, given)


def _files(folder: Path, listed: Mapping[str, str]) -> Checked:
    """Check the hash of each listed file, and find measured files that the manifest lacks."""
    problems = []
    for name, hash_of_it in listed.items():
        path = folder / name
        if not path.is_file():
            problems.append(f"{name}: listed in {MANIFEST}, but not there")
        elif checksum(path.read_bytes()) != hash_of_it:
            problems.append(f"{name}: differs from the file that is listed")
    problems += [f"{path}: not listed" for path in evidence_of(folder) if path not in listed]
    return Checked(name="files", seen=f"{len(listed):,} by SHA-256", problems=tuple(problems))


def _lines(folder: Path) -> Checked:
    """Check that each line of the measured files is valid."""
    problems, read = [], 0
    for path in evidence_of(folder):
        if decode := _DECODERS.get(Path(path).name):
            try:
                read += len(lines_if_there(folder / path, decode))
            except RecordError as error:
                problems.append(str(error))
    return Checked(name="records", seen=f"{read:,} read", problems=tuple(problems))


def _report(folder: Path, given: Sequence[Path]) -> Checked:
    """Check that the records reproduce the claims, the tables and the text of the report."""
    made = report_files(analysed(folder, jobs=usable_processors(), given=given))
    texts = {
        name: _PICTURE.sub(b"", text)
        for name, text in made.items()
        if name in (CLAIMS, EVIDENCE, MARKDOWN) or name.startswith("tables/")
    }
    problems = [
        f"{name}: the records give another text"
        for name, text in texts.items()
        if not (folder / name).is_file() or _PICTURE.sub(b"", (folder / name).read_bytes()) != text
    ]
    seen = f"{len(texts)} files of claims, tables and text made again"
    return Checked(name="report", seen=seen, problems=tuple(problems))


class _Line(Struct):
    environment: dict[str, object] = {}


def _origins_in(path: Path) -> Iterator[dict[str, object]]:
    """Yield the environment in each record of a file."""
    for line in path.read_bytes().splitlines():
        with contextlib.suppress(msgspec.MsgspecError):  # a broken line is another check's
            yield msgspec.json.decode(line, type=_Line).environment


def _distinct(origins: Iterable[Mapping[str, object]], key: str) -> tuple[str, ...]:
    """Return the sorted, different values that the environments have for ``key``."""
    return tuple(sorted({str(origin.get(key) or _UNKNOWN) for origin in origins}))


def _commit(commits: Sequence[str]) -> Checked:
    """Check that all records were measured on the same commit, without uncommitted changes."""
    problems = []
    if len(commits) > 1:
        problems.append(f"the records name {len(commits)} commits")
    problems += [
        f"{one}: the code had changes that were not committed" for one in commits if "+" in one
    ]
    return Checked(name="commit", seen=", ".join(commits), problems=tuple(problems))


def _code(codes: Sequence[str]) -> Checked:
    """Check that the records were measured by the installed code."""
    today = {measuring_code(pretended=pretended) for pretended in (False, True)}
    changed = "the code that measures has changed since"
    unnamed = "records do not name the code that measured them"
    problems = [
        f"{one}: {changed if one != _UNKNOWN else unnamed}" for one in codes if one not in today
    ]
    return Checked(name="code", seen=", ".join(codes), problems=tuple(problems))
