"""Writes a report into the folder of its records, without new measurements."""

import contextlib
import dataclasses
import logging
import math
import multiprocessing
import os
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from pathlib import Path
from typing import TypeVar

import pandas as pd

from harness.analysis import AnalysisError
from harness.analysis.evidence import section_of
from harness.analysis.frame import RECORDS, load_files
from harness.plots.verdict_map import verdict_map
from harness.prediction.interpreter_state import collection_paused
from harness.prediction.versions import TorchVersionError
from harness.reporting import pages
from harness.reporting.claims import CLAIMS, ReportFileError, claims_json, claims_of, read_claims
from harness.reporting.document import Chapter, Document, data_words, environment_table
from harness.reporting.earlier_runs import read_earlier, with_repeats
from harness.reporting.figures import DrawnFigure, fault_text, picture, picture_files
from harness.reporting.manifest import MANIFEST, manifest
from harness.reporting.run_facts import against_reference, run_facts
from harness.reporting.tables import table_files
from harness.schema.errors import HarnessError
from harness.schema.findings import Claim, Table
from harness.schema.plain_text import printable
from harness.schema.record import RecordError
from harness.schema.threshold import THRESHOLDS
from harness.schema.traced_run import STEP_RUNS
from harness.schema.training_run import TRAINING_RUNS
from harness.sweeps.experiment_files import experiment_of

Item = TypeVar("Item")
Result = TypeVar("Result")

_LOOK_SECONDS = 2.0
_OTHER_RESULTS = (THRESHOLDS, TRAINING_RUNS, STEP_RUNS)
_LINK = re.compile(r"\]\((figures|tables)/([^/()\n]+)\.(?:png|csv)\)")

_LOG = logging.getLogger(__name__)


class ReportError(HarnessError):
    """Raised if the report cannot be written; an earlier report remains unchanged."""


def write_report(
    folder: Path,
    *,
    jobs: int = 1,
    given: Sequence[Path] = (),
    missing: Callable[[str], object] = str,
    progress: Callable[[str], object] = str,
) -> Path:
    """Write the report's pages, tables, figures and manifest; return the path of the first page.

    Every experiment of the run gets a chapter, even with too few records. The same records give
    identical files. An earlier report is replaced only if all new files can be written. Files of
    the user are kept. ``missing`` is called with a message for each failed section, and with one
    message if no experiment has an answer. ``progress`` is called after every section.
    """
    report = analysed(folder, jobs=jobs, given=given, progress=progress)
    _keep_claims_of(folder, [part for part in report.chapters if part.is_failed])
    files = report_files(report)
    files[MANIFEST] = manifest(folder, files)
    replace_files(folder, files, files_of_report(folder))
    for part in report.chapters:
        if part.is_failed:
            missing(f"{part.title}: {part.problem}")
        for problem in (drawn.problem for drawn in part.pictures if drawn.problem):
            missing(f"{part.title}: {problem}")
    if all(part.problem and not part.is_failed for part in report.chapters):
        missing(f"{folder}: no experiment there has an answer; the report says why")
    return folder / pages.SUMMARY


def analysed(
    folder: Path,
    *,
    jobs: int = 1,
    given: Sequence[Path] = (),
    progress: Callable[[str], object] = str,
) -> Document:
    """Analyse the records in ``folder``, and return the report without writing files."""
    folders = experiment_folders(folder, given)
    for path in given:
        if path.stem not in {part.resolve().name for part in folders}:
            raise ReportError(f"{path}: {folder} has no records of an experiment {path.stem!r}")
    _refuse_to_lose_claims(folder, [path for path in folders if not experiment_of(path, given)])
    frame = load_files([path / RECORDS for path in folders if (path / RECORDS).is_file()])
    cells = [
        (path, frame[frame["experiment"] == path.resolve().name].reset_index(drop=True), given)
        for path in folders
    ]
    with collection_paused():  # walking through matplotlib's objects is a seventh of the time
        chapters = tuple(run_each(_chapter, cells, jobs, progress))
    outcomes = frame["outcome"].value_counts().sort_index()
    report = Document(
        chapters=chapters,
        environment=environment_table(frame),
        notes=frame.attrs["notes"],
        totals={str(name): int(count) for name, count in outcomes.items()},
    )
    if report.of_literature or report.main is None:
        return report
    own = frame[frame["experiment"].map(_anchor) == report.main.name]
    return dataclasses.replace(
        report, facts=run_facts(report, own), reference=against_reference(folder, frame)
    )


def usable_processors() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


def run_each(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    jobs: int = 1,
    progress: Callable[[str], object] = str,
) -> list[Result]:
    """Call ``work`` for each item in up to ``jobs`` processes; return the results in order.

    The processes are forked, so they already have the modules that this process has loaded. Use
    more than one job only in a process without other threads.
    """
    jobs = min(jobs, len(items))
    if jobs < 2 or "fork" not in multiprocessing.get_all_start_methods():
        return [work(item) for item in items]
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("fork")) as pool:
        progress(f"0 of {len(items)}")
        results = [pool.submit(work, item) for item in items]
        left = set(results)
        while left:
            progress(f"{len(items) - len(left)} of {len(items)}")
            left = wait(left, timeout=_LOOK_SECONDS, return_when=FIRST_COMPLETED).not_done
        return [one.result() for one in results]


def experiment_folders(folder: Path, given: Sequence[Path] = ()) -> list[Path]:
    """Return the folders of a run's experiments, in reading order.

    An experiment may have thresholds or training runs instead of records.
    """
    if (folder / RECORDS).is_file():
        return [folder]
    folders = [path for path in folder.iterdir() if path.is_dir() and _has(path, RECORDS)]
    if not folders:
        rule = f"harness sweep --out {folder} makes some"
        raise RecordError(f"{folder}: no {RECORDS} here nor in a folder directly below; {rule}")

    def place(path: Path) -> tuple[float, str]:
        experiment = experiment_of(path, given)
        return math.inf if experiment is None else experiment.order, path.name

    return sorted(folders, key=place)


def _has(folder: Path, *names: str) -> bool:
    """Return whether the folder has one of the files ``names``, or results other than records."""
    return any((folder / name).is_file() for name in (*names, *_OTHER_RESULTS))


def _refuse_to_lose_claims(folder: Path, unknown: Sequence[Path]) -> None:
    """Raise an error if an earlier report has claims of one of the experiments in ``unknown``."""
    claimed = _claimed(folder)
    for name in (path.resolve().name for path in unknown):
        if _anchor(name) in claimed:
            rule = f"give its file with --experiment, or delete {CLAIMS} there"
            raise ReportError(
                f"{folder}: the report there has claims of {name}, which is not known here; {rule}"
            )


def _claimed(folder: Path) -> set[str]:
    """Return the experiments that have claims in the earlier report."""
    try:
        return {claim.experiment for claim in read_claims(folder).claims}
    except ReportFileError:
        return set()


def _keep_claims_of(folder: Path, failed: Sequence[Chapter]) -> None:
    """Raise an error if an earlier report has claims of an experiment whose analysis failed."""
    for part in failed:
        if part.name in _claimed(folder):
            raise ReportError(f"{part.title}: {part.problem} The earlier report is kept.")


def _chapter(part: tuple[Path, pd.DataFrame, Sequence[Path]]) -> Chapter:
    """Return the chapter of one experiment, analysed and drawn from its records."""
    folder, own, given = part
    name = folder.resolve().name
    experiment = experiment_of(folder, given)
    if experiment is None:
        problem = f"No experiment of this name is known here; its {len(own)} records are kept."
        return Chapter(name=_anchor(name), title=name, problem=problem)
    chapter = Chapter(
        name=_anchor(name),
        title=experiment.title,
        question=experiment.question,
        source=experiment.source,
    )
    try:
        if not _has(folder) and not bool((own["outcome"] == "ok").any()):
            raise AnalysisError(f"none of its {len(own)} records ended well")
        section, evidence = section_of(experiment, folder)
        if not section.tables and not own.empty:
            known = own.dropna(axis=1, how="all")
            records = Table(name="records", caption="Every record", frame=known)
            section = dataclasses.replace(section, tables=(records,))
        before = read_earlier(folder.parent)
        claims = tuple(with_repeats(one, experiment.name, before) for one in section.claims)
        section = dataclasses.replace(section, claims=claims)
        return dataclasses.replace(
            chapter,
            section=section,
            pictures=tuple(map(picture, section.figures)),
            maps=tuple(map(_drawn_map, section.claims, range(1, len(claims) + 1))),
            doubts=evidence.doubts,
            data=data_words(evidence.origins),
        )
    except (AnalysisError, RecordError, TorchVersionError) as error:
        return dataclasses.replace(chapter, problem=f"The claims have no verdict: {error}.")
    except Exception as error:  # one experiment's fault must not cost the others their sections
        return dataclasses.replace(chapter, problem=_fault(error), is_failed=True)


def _drawn_map(claim: Claim, number: int) -> DrawnFigure | None:
    """Draw the cells in which a claim holds and fails; None if it does not differ between cells."""
    figure = None if claim.cells is None else verdict_map(f"map-{number}", claim.cells)
    return None if figure is None else picture(figure)


def _fault(error: Exception) -> str:
    """Return a sentence that names an error in a section, with the line of the experiment."""
    _LOG.debug("the traceback of an error in a section", exc_info=error)
    return f"This section could not be written: {fault_text(error)}."


def _anchor(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter == "_" else "-" for letter in name)


def report_files(report: Document) -> dict[str, bytes]:
    """Return the content of every file of the report, by its path in the folder."""
    files: dict[str, bytes] = {}
    for part in report.chapters:
        for drawn in part.figures:
            files |= picture_files(drawn, f"figures/{part.name}-{drawn.name}")
        for table in part.section.tables:
            files |= table_files(table, f"tables/{part.name}-{table.name}")
    files[CLAIMS] = claims_json(claims_of(report))
    others = [report.environment]
    if report.of_literature:  # there each section names its own environment
        others = [pages.checks_table(report), pages.witness_table(report)]
    for table in others:
        files |= table_files(table, f"tables/{table.name}")
    return files | {name: printable(page).encode() for name, page in pages.render(report).items()}


def replace_files(folder: Path, files: Mapping[str, bytes], earlier: set[str]) -> None:
    """Write ``files`` into ``folder``, and delete files of ``earlier`` that are not in ``files``.

    All files are first written under temporary names. If a file cannot be written, the earlier
    report is kept. A folder from another person may contain symbolic links, so this function never
    writes to or deletes the target of a link.
    """
    staged: dict[Path, Path] = {}
    replaced: dict[Path, bytes | None] = {}
    path = folder
    try:
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            if path.parent != folder and path.parent.is_symlink():
                raise NotADirectoryError(0, "is in a link, and a report writes only into FOLDER")
            if path.is_symlink() or path.is_dir():
                raise IsADirectoryError(0, "is a link or a folder, and a report writes only files")
            new = path.with_name(f".{path.name}.new")
            new.unlink(missing_ok=True)  # a link too
            new.touch(exist_ok=False)
            staged[path] = new
            new.write_bytes(content)
        for path, new in staged.items():
            replaced[path] = path.read_bytes() if path.exists() else None
            new.replace(path)
    except OSError as error:  # also half-way through the renames, which a network file system fails
        for place, before in replaced.items():
            with contextlib.suppress(OSError):
                if before is None:
                    place.unlink(missing_ok=True)
                else:
                    place.write_bytes(before)
        why = error.strerror or str(error)
        raise ReportError(f"{path}: {why}; the report was not written") from None
    finally:
        for new in staged.values():
            with contextlib.suppress(OSError):
                new.unlink(missing_ok=True)
    for name in earlier - set(files):
        with contextlib.suppress(OSError):
            if not (folder / name).parent.is_symlink():
                (folder / name).unlink()


def files_of_report(folder: Path) -> set[str]:
    """Return the files of figures and tables that belong to the report in ``folder``.

    The files are found by the links in ``report.md``. A link is ignored if one of the linked files
    is missing.
    """
    try:
        text = (folder / "report.md").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return set()
    names: set[str] = set()
    for kind, stem in _LINK.findall(text):
        suffixes = (".svg", ".png", ".csv") if kind == "figures" else (".csv", ".md")
        files = [f"{kind}/{stem}{suffix}" for suffix in suffixes]
        if all((folder / file).is_file() for file in files):
            names.update(files)
    return names
