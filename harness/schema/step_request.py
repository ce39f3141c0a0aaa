"""The request for a step of the user's network that is sent to a worker; no torch."""

import ast
import sys
from pathlib import Path
from typing import Any

from msgspec import Struct

from harness.schema.errors import HarnessError
from harness.schema.workload import Workload


class RequestError(HarnessError, ValueError):
    """A value of a request breaks its rule; the message names the field, the value and the rule."""


class StepRequest(Struct, frozen=True, kw_only=True):
    """One step, described by names that another process can look up, or by objects sent to it.

    Attributes:
        workload: workload of the step, if it has one; most other fields are then ignored.
        target: ``MODULE:CALLABLE`` or ``FILE.py:CALLABLE``, which returns the network.
        arguments: arguments of ``target``, each as NAME=VALUE.
        inputs: each input as ``[NAME=][TYPE:]SHAPE``, without the batch.
        inputs_from: ``MODULE:CALLABLE`` that returns inputs and labels of a batch, instead.
        optimizer: a known name, or ``MODULE:CALLABLE`` of the parameters.
        loss: a known name, or ``MODULE:CALLABLE`` of output and labels.
        classes: number of label classes; None for labels without values.
        compile: one of ``step_choices.COMPILE_MODES``; None without compilation.
        answers: values that the step reads from a pretended GPU, each as FILE:LINE=ANSWER.
        sent: pickled objects by the name of an argument of ``OwnStep``; they replace other fields.
        shown: name of ``target`` in a report, if it differs.
        notes: notes on choices for the step, which a report repeats.
        path: folders in which the requester finds its modules.
        folder: the folder that the requester works in.
    """

    workload: Workload | None = None
    target: str | None = None
    arguments: tuple[str, ...] = ()
    batch: int = 32
    inputs: tuple[str, ...] = ()
    inputs_from: str | None = None
    optimizer: str = "sgd"
    loss: str = "cross-entropy"
    classes: int | None = None
    mode: str = "train"
    autocast: str | None = None
    accumulate: int = 1
    compile: str | None = None
    threads: int = 1
    answers: tuple[str, ...] = ()
    sent: bytes = b""
    shown: str | None = None
    notes: tuple[str, ...] = ()
    path: tuple[str, ...] = ()
    folder: str = ""

    @property
    def subject(self) -> str | None:
        """The name of the network in a report."""
        return self.shown or self.target

    def named_arguments(self) -> dict[str, Any]:
        """Return the arguments by name; a value that is not a Python literal is text."""
        return dict(map(parse_argument, self.arguments))


def parse_argument(text: str) -> tuple[str, object]:
    """Return NAME=VALUE; a value that is not a Python literal is text."""
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise RequestError(f"--arg must be NAME=VALUE, got {text!r}")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def own_places() -> dict[str, Any]:
    """Return ``path`` and ``folder`` of this process, the requester."""
    return {"path": tuple(sys.path), "folder": str(Path.cwd())}
