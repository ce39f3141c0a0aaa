"""Keeps next to the records which file of the user's defines their experiment, and finds it again.

A report runs that file's analysis. It never runs another file of the same name, nor anything that
came with the records: those may be a stranger's.
"""

import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

from harness.schema.experiment import Experiment
from harness.sweeps.experiment_files import (
    ExperimentError,
    code_file,
    code_hash,
    defines,
    find_own,
    literature_names,
    load,
    own_names,
)

ORIGIN = "experiment.json"


class Origin(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file or package that defines an experiment, and a hash of its code."""

    file: str
    sha256: str


def keep_origin(folder: Path, experiment: Experiment) -> None:
    """Write which file of the user's defines ``experiment``; for our own, its name says it."""
    before = read_origin(folder)
    if experiment.file is not None:
        origin = Origin(file=str(experiment.file), sha256=code_hash(experiment.file))
        (folder / ORIGIN).write_bytes(msgspec.json.encode(origin) + b"\n")
    elif before is not None:
        (folder / ORIGIN).unlink()


def read_origin(folder: Path) -> Origin | None:
    """Return what ``keep_origin`` wrote; None if there is nothing."""
    try:
        return msgspec.json.decode((folder / ORIGIN).read_bytes(), type=Origin)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ExperimentError(f"{folder / ORIGIN}: {error}") from error


def experiment_of(folder: Path, given: Iterable[Path] = ()) -> Experiment | None:
    """Return the experiment that the records in ``folder`` are of, if any; ``given`` come first."""
    name = folder.resolve().name
    for path in given:
        if path.stem == name:
            return load(path)
    origin = read_origin(folder)
    if origin is None:
        return find_own(name) if name in (*own_names(), *literature_names()) else None
    here = Path("experiments")
    for path in (Path(origin.file), here / name, here / f"{name}.py", Path(f"{name}.py")):
        if _may_run(path, origin, name, folder):
            return load(path)
    rule = f"give it with --experiment, or run the command from the folder that has {name}.py"
    raise ExperimentError(f"{folder}: its experiment {origin.file} was not found; {rule}")


def _may_run(path: Path, origin: Origin, name: str, folder: Path) -> bool:
    """Return whether ``path`` is the experiment's own file: by its place, or elsewhere by its hash.

    A file next to the records came with them, and one of another user is that user's to run.
    """
    code = code_file(path)
    if path.stem != name or not code.is_file():
        return False
    inside = path.resolve().is_relative_to(folder.resolve().parent)
    theirs = hasattr(os, "geteuid") and code.stat().st_uid not in (0, os.geteuid())
    if inside or theirs or not defines(path):
        return False
    return str(path) == origin.file or code_hash(path) == origin.sha256
