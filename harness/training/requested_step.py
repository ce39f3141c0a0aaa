"""The step that a request describes: names looked up, sent objects unpacked."""

import os
import pickle
import sys
from typing import Any

from harness.schema.errors import StepError
from harness.schema.input_spec import parse_input
from harness.schema.step_choices import LOSSES, OPTIMIZERS
from harness.schema.step_request import StepRequest
from harness.training.load_target import builder_of, load_target
from harness.training.own_step import ExampleInputs, Inputs, OwnStep


def requested_step(request: StepRequest) -> OwnStep:
    """Return the step, with the modules that it names imported."""
    find_modules(request)
    same = ("batch", "mode", "autocast", "accumulate", "compile")
    given: dict[str, Any] = {name: getattr(request, name) for name in same}
    given["optimizer"] = _named(request.optimizer, OPTIMIZERS)
    given["loss"] = _named(request.loss, LOSSES)
    if request.sent:
        given |= pickle.loads(request.sent)
    if request.target is not None:
        given["build"] = builder_of(request.target, request.named_arguments())
    if "inputs" not in given:
        given["inputs"] = _inputs(request)
    return OwnStep(**given)


def find_modules(request: StepRequest) -> None:
    """Let this process find the files and modules that the requester finds."""
    if request.folder:
        os.chdir(request.folder)
    sys.path[:] = [*request.path, *(folder for folder in sys.path if folder not in request.path)]


def _named(name: str, known: tuple[str, ...]) -> Any:
    """Return ``name`` itself if it is known, else the object that MODULE:CALLABLE names."""
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
