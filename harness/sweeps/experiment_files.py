"""Finds experiments: the harness's own, those in ./experiments, and files given by path.

An experiment is a Python file, or a folder with ``__init__.py``, that defines ``EXPERIMENT``.
The file's name is the experiment's.
"""

import dataclasses
import difflib
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from harness.schema.errors import HarnessError
from harness.schema.experiment import Experiment
from harness.version import PACKAGE

_INSTALLED = PACKAGE / "_experiments"
"""Where a wheel has the experiments; a checkout has them next to the package ``harness``."""


class ExperimentError(HarnessError):
    """There is no such experiment, or its file cannot be used."""


def own_folder() -> Path:
    """Return the folder of the harness's own experiments."""
    return _INSTALLED if _INSTALLED.is_dir() else _INSTALLED.parent.parent / "experiments"


def own_names() -> list[str]:
    """Return the names of the harness's own experiments."""
    return sorted(path.stem for path in _files(own_folder()))


def names_found() -> list[str]:
    """Return the names of all experiments that can be found by name."""
    return sorted({path.stem for folder in _folders() for path in _files(folder)})


def find(name_or_path: str) -> Experiment:
    """Return an experiment by its name or its path.

    Args:
        name_or_path: the name of an experiment in ``./experiments``, of one of the harness's own
            or of a file in the current folder, in this order; or a path that ends in ``.py``.

    Returns:
        The experiment, with its file's name.

    Raises:
        ExperimentError: there is no such experiment, or its file cannot be used.

    >>> find("depth_batch").name
    'depth_batch'

    """
    path = _path_of(name_or_path)
    experiment = getattr(_load(path), "EXPERIMENT", None)
    if not isinstance(experiment, Experiment):
        raise ExperimentError(f"{path} must define EXPERIMENT, a harness.schema Experiment")
    return dataclasses.replace(experiment, name=path.stem)


def is_known(name: str) -> bool:
    """Return whether ``find`` can find an experiment of this name."""
    return any(path.stem == name for path in _candidates())


def _path_of(name_or_path: str) -> Path:
    if name_or_path.endswith(".py"):
        path = Path(name_or_path)
        if not path.is_file():
            raise ExperimentError(f"no such file: {name_or_path}")
        return path
    for path in _candidates():
        if path.stem == name_or_path:
            return path
    known = names_found()
    near = difflib.get_close_matches(name_or_path, known, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    raise ExperimentError(
        f"experiment must be one of {', '.join(known)}, or a path, got {name_or_path!r}{hint}"
    )


def _candidates() -> Iterator[Path]:
    """Yield the files that a name may mean, in the order of precedence."""
    yield from _files(Path("experiments"))
    yield from _files(own_folder())
    yield from Path().glob("*.py")


def _folders() -> list[Path]:
    return [Path("experiments"), own_folder()]


def _files(folder: Path) -> list[Path]:
    """Return the files and the packages of ``folder`` that can be experiments."""
    found = [path for path in folder.glob("*.py") if not path.name.startswith("_")]
    found += [path.parent for path in folder.glob("*/__init__.py")]
    return sorted(path for path in found if path.stem.isidentifier())


def _load(path: Path) -> ModuleType:
    """Return the module of a file or a package.

    Raises:
        ExperimentError: importing it fails.

    """
    try:
        if path.resolve().parent == own_folder().resolve():
            package = "harness._experiments" if _INSTALLED.is_dir() else "experiments"
            module = importlib.import_module(f"{package}.{path.stem}")
            file = Path(module.__file__ or "").resolve()
            if path.resolve() in (file, file.parent):  # no other package of that name was found
                return module
        return _load_by_path(path)
    except Exception as error:
        raise ExperimentError(f"cannot load {path}: {type(error).__name__}: {error}") from error


def _load_by_path(path: Path) -> ModuleType:
    """Import a file under a name that no other module has."""
    place = str(path.resolve())
    name = f"_harness_experiment_{path.stem}_{hashlib.sha256(place.encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    file = path / "__init__.py" if path.is_dir() else path
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
