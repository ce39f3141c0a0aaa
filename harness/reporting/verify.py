"""Checks of a run: its files are those of its data package, and its records give its report."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.analysis.frame import lines_if_there
from harness.measurement.measuring_code import measuring_code
from harness.reporting.claims import CLAIMS
from harness.reporting.data_package import (
    DATA_PACKAGE,
    UNKNOWN,
    DataPackage,
    checksum,
    evidence_of,
    read_data_package,
)
from harness.reporting.pages import MARKDOWN
from harness.reporting.report import analysed, report_files, usable_processors
from harness.schema import record, threshold, traced_run, training_run
from harness.schema.record import RecordError

_DECODERS: dict[str, Callable[[bytes], object]] = {
    record.RECORDS: record.from_json,
    threshold.THRESHOLDS: threshold.from_json,
    training_run.TRAINING_RUNS: training_run.from_json,
    traced_run.STEP_RUNS: traced_run.from_json,
}


@dataclass(frozen=True, kw_only=True)
class Checked:
    """One check with what it looked at; it holds without problems."""

    name: str
    seen: str
    problems: tuple[str, ...]


def verify(folder: Path, given: Sequence[Path] = ()) -> Iterator[Checked]:
    """Check a run: files, lines, report, commit and code; nothing is written or measured.

    ``given`` are files of experiments, as for ``harness report``.
    """
    package = read_data_package(folder)
    yield _files(folder, package)
    yield _lines(folder)
    yield _commit(package)
    yield _code(package)
    yield _report(folder, given)


def _files(folder: Path, package: DataPackage) -> Checked:
    """Check that each file is the one listed, and that no evidence is there that is not."""
    problems = []
    for one in package.resources:
        path = folder / one.path
        if not path.is_file():
            problems.append(f"{one.path}: listed in {DATA_PACKAGE}, not there")
            continue
        text = path.read_bytes()
        if checksum(text) == one.hash:
            continue
        what = f"{len(text):,} bytes for {one.bytes:,}"
        if one.lines is not None and one.lines != len(text.splitlines()):
            what = f"{len(text.splitlines()):,} records for {one.lines:,}"
        elif len(text) == one.bytes:
            what = "as many bytes, other ones"
        problems.append(f"{one.path}: not the file that is listed ({what})")
    listed = {one.path for one in package.resources}
    problems += [f"{path}: not listed" for path in evidence_of(folder) if path not in listed]
    seen = f"{len(package.resources):,} files by size and SHA-256"
    return Checked(name="files", seen=seen, problems=tuple(problems))


def _lines(folder: Path) -> Checked:
    """Check that each line that was measured can be read, strictly."""
    problems, read = [], 0
    for path in evidence_of(folder):
        if decode := _DECODERS.get(Path(path).name):
            try:
                read += len(lines_if_there(folder / path, decode))
            except RecordError as error:
                problems.append(str(error))
    return Checked(name="records", seen=f"{read:,} read", problems=tuple(problems))


def _report(folder: Path, given: Sequence[Path]) -> Checked:
    """Check that the records give the claims, the tables and the text that are there."""
    made = report_files(analysed(folder, jobs=usable_processors(), given=given))
    texts = {
        name: text
        for name, text in made.items()
        if name in (CLAIMS, MARKDOWN) or name.startswith("tables/")
    }
    problems = [
        f"{name}: the records give another one"
        for name, text in texts.items()
        if not (folder / name).is_file() or (folder / name).read_bytes() != text
    ]
    seen = f"{len(texts)} files of claims, tables and text made again"
    return Checked(name="report", seen=seen, problems=tuple(problems))


def _commit(package: DataPackage) -> Checked:
    """Check that every record was made on one commit."""
    problems = []
    if len(package.commits) > 1:
        problems.append(f"the records name {len(package.commits)} commits")
    problems += [f"{one}: with changes that no commit has" for one in package.commits if "+" in one]
    return Checked(name="commit", seen=", ".join(package.commits), problems=tuple(problems))


def _code(package: DataPackage) -> Checked:
    """Check that the code that measured is the code that is installed."""
    today = {measuring_code(pretended=pretended) for pretended in (False, True)}
    changed = "the code that measures has changed since"
    problems = [
        f"{one}: {changed if one != UNKNOWN else 'records do not name the code that measured them'}"
        for one in package.code
        if one not in today
    ]
    return Checked(name="code", seen=", ".join(package.code), problems=tuple(problems))
