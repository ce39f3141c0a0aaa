"""Finds an experiment by name, by path, or by the folder with the experiment's records.

An experiment is a Python file, or a folder with ``__init__.py``, that defines ``EXPERIMENT``. The
name of the file is the name of the experiment. Only a file whose text defines ``EXPERIMENT`` is
imported, because a folder of experiments may also contain scripts.
"""

import dataclasses
import hashlib
import importlib
import importlib.util
import os
import symtable
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import msgspec
from msgspec.structs import replace

from harness.schema.errors import HarnessError, did_you_mean
from harness.schema.experiment import Experiment
from harness.schema.traced_run import StepJob
from harness.version import PACKAGE

_INSTALLED = PACKAGE / "_experiments"
"""Folder of the experiments in an installed wheel; a checkout has ``experiments/`` instead."""
_OWN = _INSTALLED if _INSTALLED.is_dir() else PACKAGE.parent / "experiments"
_OWN_PACKAGE = "harness._experiments" if _INSTALLED.is_dir() else "experiments"

LITERATURE = "literature"
"""Folder of the harness's own experiments on claims of the literature."""

_USERS = Path("experiments")
"""Folder in which the user's own experiments are found by name."""

ORIGIN = "experiment.json"
"""Name of the file, next to the records, that contains the path of the user's experiment."""


class ExperimentError(HarnessError):
    """Raised if an experiment does not exist, or if its file cannot be used."""


def own_names() -> list[str]:
    """Return the names of the harness's own experiments, except experiments on the literature."""
    return sorted(path.stem for path in _files(_OWN) if path.stem != LITERATURE)


def literature_names() -> list[str]:
    """Return the names of the experiments that test claims of the literature."""
    return sorted(path.stem for path in _literature_files())


def names_found() -> list[str]:
    """Return the names of all experiments that ``find`` finds by name."""
    users = (path for path in _files(_USERS) if path.stem != LITERATURE and defines(path))
    return sorted({*own_names(), *(path.stem for path in users)})


def other_scripts() -> list[Path]:
    """Return the Python files in ./experiments that define no experiment."""
    scripts = [path for path in _files(_USERS) if not defines(path)]
    return [path for path in scripts if path.resolve() != (_OWN / LITERATURE).resolve()]


def defines(path: Path) -> bool:
    """Return whether a file or a package defines ``EXPERIMENT``, without importing it."""
    try:
        names = symtable.symtable(code_file(path).read_bytes(), str(path), "exec")  # type: ignore[arg-type]
        name = names.lookup("EXPERIMENT")
    except KeyError:
        return False
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return True  # so that whoever loads it says why
    return name.is_assigned() or name.is_imported()


def code_file(path: Path) -> Path:
    """Return the file of a module, or ``__init__.py`` of a package."""
    return path / "__init__.py" if path.is_dir() else path


def find(name_or_path: str) -> Experiment:
    """Return an experiment by its path, which ends in ``.py``, or by its name.

    A name is searched in ``./experiments``, then among the harness's own experiments, and then in
    the current folder.
    """
    if name_or_path.endswith(".py"):
        if not Path(name_or_path).is_file():
            raise ExperimentError(f"no such file: {name_or_path}")
        return load(Path(name_or_path))
    for path in (*_files(_USERS), *_own_files(), *Path().glob("*.py")):
        if path.stem == name_or_path:
            return load(path)
    known = names_found()
    allowed, hint = ", ".join(known), did_you_mean(name_or_path, known)
    raise ExperimentError(
        f"experiment must be one of {allowed}, or a path, got {name_or_path!r}{hint}"
    )


def find_own(name: str) -> Experiment:
    """Return one of the harness's own experiments by its name."""
    own = {path.stem: path for path in _own_files()}
    if name not in own:
        raise ExperimentError(f"the harness has no experiment {name!r}")
    return load(own[name])


def load(path: Path) -> Experiment:
    """Load the experiment that a file or a package defines, and name it after the file."""
    module = _load(path) if defines(path) else None
    experiment = getattr(module, "EXPERIMENT", None)
    if not isinstance(experiment, Experiment):
        raise ExperimentError(f"{path} must define EXPERIMENT, a harness.schema Experiment")
    own, file = _is_own(path), path.resolve()
    folder = file if path.is_dir() else file.parent
    start = module.__package__ if own and module is not None else None
    return dataclasses.replace(
        experiment,
        name=path.stem,
        file=None if own else file,
        steps_from=place_of(str(experiment.steps_from), start or folder),
    )


def place_of(name: str, start: str | Path) -> str | Path:
    """Resolve a module name with a leading dot, relative to the package or folder ``start``.

    >>> place_of(".steps", "experiments.literature"), place_of(".net", Path("mine")).as_posix()
    ('experiments.literature.steps', 'mine/net')
    """
    if isinstance(start, str):
        return importlib.util.resolve_name(name, start)
    parts = name.lstrip(".")
    up = len(name) - len(parts) - 1
    return (start.parents[up - 1] if up else start).joinpath(*parts.split("."))


def placed_job(job: StepJob, start: str | Path) -> StepJob:
    """Return the job with its module names resolved by ``place_of``, relative to ``start``."""

    def placed(name: str) -> str:
        module, _, called = name.partition(":")
        place = place_of(module, start)
        return f"{place}.py:{called}" if isinstance(place, Path) else f"{place}:{called}"

    names = {name: getattr(job, name) for name in ("network", "optimizer", "loss", "inputs_from")}
    dotted = {name: one for name, one in names.items() if one and one.startswith(".")}
    return replace(job, **{name: placed(one) for name, one in dotted.items()})


def code_hash(path: Path) -> str:
    """Return a hash of a file, or of the Python files of a package."""
    digest = hashlib.sha256()
    for source in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    return digest.hexdigest()


def _own_files() -> list[Path]:
    every = [*_files(_OWN), *_literature_files()]
    return [path for path in every if path.stem != LITERATURE]


def _literature_files() -> list[Path]:
    """Return the files of the experiments on the literature, without shared modules."""
    files = (path for path in _files(_OWN / LITERATURE) if path.is_file())
    return [path for path in files if b"\nEXPERIMENT = " in path.read_bytes()]


def _is_own(path: Path) -> bool:
    own = _OWN.resolve()
    return path.resolve().parent in (own, own / LITERATURE)


def _files(folder: Path) -> list[Path]:
    """Return the files and the packages of ``folder`` that can be experiments."""
    paths = [path for path in folder.glob("*.py") if not path.name.startswith("_")]
    paths += [path.parent for path in folder.glob("*/__init__.py")]
    return sorted(path for path in paths if path.stem.isidentifier())


def _load(path: Path) -> ModuleType:
    """Import a file or a package, and return its module."""
    try:
        if _is_own(path):
            own = path.resolve().parent == _OWN.resolve()
            package = _OWN_PACKAGE if own else f"{_OWN_PACKAGE}.{LITERATURE}"
            module = importlib.import_module(f"{package}.{path.stem}")
            file = Path(module.__file__ or "").resolve()
            if path.resolve() in (file, file.parent):  # no other package of that name was found
                return module
        return _load_by_path(path)
    except Exception as error:
        raise ExperimentError(f"cannot load {path}: {type(error).__name__}: {error}") from error


def _load_by_path(path: Path) -> ModuleType:
    """Import a file under a unique name, with a hash of the file's path and content."""
    place = f"{path.resolve()} {code_hash(path)}"
    name = f"_harness_experiment_{path.stem}_{hashlib.sha256(place.encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    file = code_file(path)
    locations = [str(path)] if path.is_dir() else None
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=locations)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


class ExperimentOrigin(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file or package that defines an experiment, and a hash of the experiment's code."""

    file: str
    sha256: str


def keep_origin(folder: Path, experiment: Experiment) -> None:
    """Save the path and the hash of the user's file that defines ``experiment``."""
    before = read_origin(folder)
    if experiment.file is not None:
        origin = ExperimentOrigin(file=str(experiment.file), sha256=code_hash(experiment.file))
        (folder / ORIGIN).write_bytes(msgspec.json.encode(origin) + b"\n")
    elif before is not None:
        (folder / ORIGIN).unlink()


def read_origin(folder: Path) -> ExperimentOrigin | None:
    """Return the origin that ``keep_origin`` wrote; None if the file is missing."""
    try:
        return msgspec.json.decode((folder / ORIGIN).read_bytes(), type=ExperimentOrigin)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ExperimentError(f"{folder / ORIGIN}: {error}") from error


def experiment_of(folder: Path, given: Iterable[Path] = ()) -> Experiment | None:
    """Return the experiment of the records in ``folder``; None if no experiment has this name.

    A report runs the code of the experiment, and the records may come from another person. To avoid
    running foreign code, this function loads only a file in ``given``, an experiment of the
    harness, or a file with the recorded path or hash.
    """
    name = folder.resolve().name
    for path in given:
        if path.stem == name:
            return load(path)
    origin = read_origin(folder)
    if origin is None:
        return find_own(name) if name in (*own_names(), *literature_names()) else None
    for path in (Path(origin.file), _USERS / name, _USERS / f"{name}.py", Path(f"{name}.py")):
        if _may_run(path, origin, name, folder):
            return load(path)
    rule = f"give it with --experiment, or run the command from the folder that has {name}.py"
    raise ExperimentError(f"{folder}: its experiment {origin.file} was not found; {rule}")


def _may_run(path: Path, origin: ExperimentOrigin, name: str, folder: Path) -> bool:
    """Return whether ``path`` is the experiment's file, i.e. has the recorded path or hash.

    A file in the run's folder is refused, and also a file that another user owns.
    """
    code = code_file(path)
    if path.stem != name or not code.is_file():
        return False
    inside = path.resolve().is_relative_to(folder.resolve().parent)
    theirs = hasattr(os, "geteuid") and code.stat().st_uid not in (0, os.geteuid())
    if inside or theirs or not defines(path):
        return False
    return str(path) == origin.file or code_hash(path) == origin.sha256
