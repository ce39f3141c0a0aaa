"""Creates the step that a request describes, from imported and unpickled objects.

A user's own code is named ``package.module:callable`` or ``my_model.py:Net``.
"""

import importlib
import importlib.util
import inspect
import os
import pickle
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from harness.schema.errors import HarnessError, StepError, did_you_mean
from harness.schema.input_spec import parse_input
from harness.schema.step_choices import LOSSES, OPTIMIZERS
from harness.schema.step_request import StepRequest
from harness.schema.target_name import check_target_name
from harness.training.own_step import ExampleInputs, Inputs, OwnStep
from harness.training.training_step import WorkloadStep


class TargetError(HarnessError, ValueError):
    """The named module or callable cannot be imported, or it does not return a network."""


def requested_step(request: StepRequest) -> OwnStep:
    """Import the user's code, and create the step that ``request`` describes."""
    if request.workload is not None:
        return WorkloadStep(request.workload)
    find_modules(request)
    same = ("batch", "mode", "autocast", "accumulate", "compile")
    given: dict[str, Any] = {name: getattr(request, name) for name in same}
    given["optimizer"] = _named(request.optimizer, OPTIMIZERS)
    given["loss"] = _named(request.loss, LOSSES)
    if request.sent:
        given |= pickle.loads(request.sent)
    if request.target is not None:
        given["build"] = _builder_of(request.target, request.named_arguments())
    if "inputs" not in given:
        given["inputs"] = _inputs(request)
    return OwnStep(**given)


def find_modules(request: StepRequest) -> None:
    """Change to the request's working directory, and put its import path first in ``sys.path``."""
    if request.folder:
        os.chdir(request.folder)
    sys.path[:] = [*request.path, *(folder for folder in sys.path if folder not in request.path)]


def _named(name: str, known: tuple[str, ...]) -> Any:
    """Return a known ``name`` unchanged; for MODULE:CALLABLE, import and return the object."""
    return name if name in known or ":" not in name else load_target(name)


def _inputs(request: StepRequest) -> Inputs:
    if request.inputs_from is not None:
        inputs: Inputs = load_target(request.inputs_from)
        return inputs
    if not request.inputs:
        raise StepError("give --input SHAPE, e.g. 3x224x224, or --inputs MODULE:CALLABLE")
    return ExampleInputs(
        specs=tuple(map(parse_input, request.inputs)),
        with_labels=request.mode == "train",
        classes=request.classes,
    )


def _builder_of(target: str, arguments: Mapping[str, object]) -> Callable[[], nn.Module]:
    """Return a function that builds the network that ``target`` names."""
    value = load_target(target)
    if isinstance(value, nn.Module):
        return lambda: value
    if not callable(value):
        raise TargetError(f"{target}: {type(value).__name__} cannot be called; name a function")
    try:
        inspect.signature(value).bind(**arguments)
    except TypeError as error:
        known = inspect.signature(value).parameters
        takes_any = any(one.kind is one.VAR_KEYWORD for one in known.values())
        for name in arguments:
            if name not in known and not takes_any:
                rule = f"there is no argument {name!r}{did_you_mean(name, known)}"
                raise TargetError(f"{target}: {rule}") from error
        raise TargetError(f"{target}: {error}; give it with --arg NAME=VALUE") from error
    except ValueError:
        pass  # a callable without a signature

    def build() -> nn.Module:
        made = load_target(target)(**arguments)
        if not isinstance(made, nn.Module):
            kind = type(made).__name__
            raise TargetError(f"{target}: returns a {kind}, not a torch.nn.Module")
        return made

    return build


def load_target(target: str) -> Any:
    """Import and return the object that ``target`` names."""
    check_target_name(target)
    place, _, path = target.rpartition(":")
    try:
        value: Any = _from_file(place) if place.endswith(".py") else _imported(place)
    except HarnessError as error:
        raise TargetError(f"{target}: {error}") from error
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # what the user's module does
        raise TargetError(f"{target}: {_import_problem(error)}") from error
    for part in path.split("."):
        if not hasattr(value, part):
            raise TargetError(f"{target}: {place} has no {part!r}{did_you_mean(part, dir(value))}")
        value = getattr(value, part)
    return value


def _import_problem(error: Exception) -> str:
    """Describe a failed import by the error, the line in the user's code, and advice."""
    frames = traceback.extract_tb(error.__traceback__)
    library = ("site-packages", "<frozen", __file__)
    own = [one for one in frames if not any(part in one.filename for part in library)]
    place = f" ({Path(own[-1].filename).name}:{own[-1].lineno})" if own else ""
    hint = ""
    if isinstance(error, ModuleNotFoundError):
        hint = "; install it into this environment"
    elif isinstance(error, ImportError) and "relative import" in str(error):
        hint = "; write PACKAGE.MODULE:CALLABLE"
    elif isinstance(error, OSError):
        hint = '; put what a script does under if __name__ == "__main__"'
    return f"its import fails: {type(error).__name__}: {error}{place}{hint}"


def _imported(name: str) -> Any:
    sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        raise TargetError(f"there is no module {error.name!r} here or installed") from error
    finally:
        sys.path.remove(str(Path.cwd()))


def _from_file(name: str) -> Any:
    path = Path(name)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None, "the name ends in .py"
    assert spec.loader is not None, "the name ends in .py"
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.resolve().parent))
    return module
