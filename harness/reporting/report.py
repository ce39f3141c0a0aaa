"""Records in a folder to a report in the same folder; nothing is measured again."""

import dataclasses
import math
import shutil
import traceback
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from harness.analysis import AnalysisError
from harness.analysis.frame import RECORDS, load_files
from harness.prediction.paused_collection import collection_paused
from harness.reporting import html, markdown
from harness.reporting.claims import claims_of, write_claims
from harness.reporting.document import Chapter, Report, chapter, environment_table
from harness.reporting.figure_cache import forget_unused
from harness.reporting.figures import write_picture
from harness.reporting.parallel import Progress, run_each
from harness.reporting.tables import write_csv
from harness.schema.experiment import Evidence
from harness.schema.findings import Section
from harness.schema.plain_text import printable
from harness.schema.rank_run import RANK_RUNS
from harness.schema.record import RecordError
from harness.schema.threshold import THRESHOLDS
from harness.schema.training_run import TRAINING_RUNS
from harness.sweeps.experiment_files import ExperimentError, find, is_known


def write_report(folder: Path, *, jobs: int = 1, progress: Progress | None = None) -> Path:
    """Write the report's two pages, report.md, tables/ and figures/; return the first page.

    ``folder`` holds one folder per experiment (or is itself one). Every experiment found gets
    its chapter, also where it has too few records to analyse: then the chapter says so. The
    same records give the same bytes. What an earlier report wrote is replaced. Figures that did not
    change since are not drawn again (``figure_cache``).

    Args:
        folder: where the records are, and where the report goes.
        jobs: processes that analyse and draw; see ``run_each`` for when more than one is right.
        progress: called with how many experiments are done.

    Raises:
        RecordError: no records, or a line that is none.

    """
    frame = load_files(_records(folder))
    own = [(path, _own(path, frame)) for path in experiment_folders(folder)]
    with collection_paused():  # walking through matplotlib's objects is a seventh of the time
        chapters = tuple(run_each(_chapter, own, jobs=jobs, progress=progress))
    forget_unused()
    outcomes = frame["outcome"].value_counts().sort_index()
    report = Report(
        chapters=chapters,
        environment=environment_table(frame),
        notes=frame.attrs["notes"],
        totals={str(name): int(count) for name, count in outcomes.items()},
    )
    _write_parts(folder, report)
    write_claims(claims_of(report), folder)
    (folder / "report.md").write_text(
        printable(markdown.render(report)), encoding="utf-8", newline="\n"
    )
    for name, page in html.render(report).items():
        (folder / name).write_text(printable(page), encoding="utf-8", newline="\n")
    return folder / html.STORY


@dataclass(frozen=True, kw_only=True)
class Analysed:
    """One experiment's folder, analysed; without a section, ``problem`` says why."""

    name: str
    title: str
    question: str = ""
    section: Section | None = None
    problem: str | None = None


def experiment_folders(folder: Path) -> list[Path]:
    """Return the folders of a run's experiments: those with records, or of a known name.

    An experiment may keep thresholds or training runs instead of records.

    Raises:
        RecordError: there is none.

    """
    if (folder / RECORDS).is_file():
        return [folder]
    found = [
        path
        for path in sorted(folder.iterdir(), key=_reading_order)
        if path.is_dir() and (is_known(path.name) or (path / RECORDS).is_file())
    ]
    if not found:
        raise RecordError(f"{folder}: no {RECORDS} here nor in a folder directly below")
    return found


def _reading_order(path: Path) -> tuple[float, str]:
    try:
        return (find(path.name).order, path.name)
    except ExperimentError:
        return (math.inf, path.name)


def _records(folder: Path) -> list[Path]:
    files = [path / RECORDS for path in experiment_folders(folder)]
    return [path for path in files if path.is_file()]


def analyse(folder: Path, frame: pd.DataFrame) -> tuple[Analysed, ...]:
    """Analyse every experiment in ``folder``, whose records ``frame`` holds."""
    return tuple(_analyse(path, _own(path, frame)) for path in experiment_folders(folder))


def sections(folder: Path) -> list[tuple[str, Section]]:
    """Return the title and section of every experiment in ``folder`` that could be settled.

    Raises:
        RecordError: no records, or a line that is none.

    """
    found = analyse(folder, load_files(_records(folder)))
    return [(part.title, part.section) for part in found if part.section is not None]


def _own(folder: Path, frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["experiment"] == folder.resolve().name].reset_index(drop=True)


def _chapter(part: tuple[Path, pd.DataFrame]) -> Chapter:
    return _draw(_analyse(*part))


def _analyse(folder: Path, own: pd.DataFrame) -> Analysed:
    name = folder.resolve().name
    try:
        experiment = find(name)
    except ExperimentError as error:
        problem = f"No experiment of this name is known here; its {len(own)} records are kept."
        if is_known(name):
            problem = f"{error}; its {len(own)} records are kept."
        return Analysed(name=name, title=name, problem=problem)
    part = Analysed(name=name, title=experiment.title, question=experiment.question)
    others = any((folder / file).is_file() for file in (THRESHOLDS, TRAINING_RUNS, RANK_RUNS))
    if not others and not bool((own["outcome"] == "ok").any()):
        problem = f"Not settled here: none of its {len(own)} records ended well."
        return dataclasses.replace(part, problem=problem)
    try:
        section = experiment.analyse(Evidence(frame=own, folder=folder))
    except (AnalysisError, RecordError) as error:
        return dataclasses.replace(part, problem=f"Not settled here: {error}.")
    except Exception as error:  # one experiment's fault must not cost the others their sections
        return dataclasses.replace(part, problem=_fault(error))
    return dataclasses.replace(part, section=section)


def _fault(error: Exception) -> str:
    """Return why a section is missing that its experiment failed to write, and where it failed."""
    *_, place = traceback.extract_tb(error.__traceback__)
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    where = f"{Path(place.filename).name}, line {place.lineno}"
    return f"This section could not be written because of an internal error ({what}; {where})."


def _draw(part: Analysed) -> Chapter:
    anchor = "".join(letter if letter.isalnum() or letter == "_" else "-" for letter in part.name)
    if part.section is None:
        return Chapter(name=anchor, title=part.title, question=part.question, problem=part.problem)
    try:
        return chapter(anchor, part.title, part.question, part.section)
    except Exception as error:  # as above: a figure that cannot be drawn costs its section alone
        return Chapter(name=anchor, title=part.title, question=part.question, problem=_fault(error))


def _write_parts(folder: Path, report: Report) -> None:
    """Write figures and tables as files, without leftovers of an earlier report."""
    figures, tables = folder / "figures", folder / "tables"
    for part in (figures, tables):
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
    for part_of in report.chapters:
        for drawn in part_of.pictures:
            write_picture(drawn, figures, f"{part_of.name}-{drawn.name}")
        for table in part_of.tables:
            write_csv(table, tables, f"{part_of.name}-{table.name}")
    write_csv(report.environment, tables, "environment")
