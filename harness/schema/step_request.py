"""A request to run a step, which is sent to a worker process; this module imports no torch."""

import ast
import sys
from pathlib import Path
from typing import Any

from msgspec import Struct

from harness.schema.errors import HarnessError
from harness.schema.workload import Workload


class RequestError(HarnessError, ValueError):
    """A value of a request is invalid; the message names the field, the value and the rule."""


class StepRequest(Struct, frozen=True, kw_only=True):
    """One step, described by names that a worker process can import, or by pickled objects.

    Attributes:
        workload: workload of the step; if it is given, most other fields are ignored.
        target: ``MODULE:CALLABLE`` or ``FILE.py:CALLABLE`` that returns the network.
        arguments: arguments of ``target``, each as NAME=VALUE.
        inputs: each input as ``[NAME=][TYPE:]SHAPE``, without the batch dimension.
        inputs_from: ``MODULE:CALLABLE`` that returns inputs and labels; replaces ``inputs``.
        optimizer: a known name, or a ``MODULE:CALLABLE`` that takes the parameters.
        loss: a known name, or a ``MODULE:CALLABLE`` that takes output and labels.
        classes: number of classes of the labels; None for labels that are 0 or uninitialized.
        compile: one of ``step_choices.COMPILE_MODES``; None without compilation.
        answers: value that each line of code reads from a pretended GPU, as FILE:LINE=ANSWER.
        sent: pickled arguments of ``OwnStep`` by name, which replace the other fields.
        shown: name of the network in a report, if the name differs from ``target``.
        notes: choices that the harness made for the step, in sentences, for the report.
        path: module search path (``sys.path``) of the requesting process.
        folder: working directory of the requesting process.
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
        """Return the arguments by name; a value that is not a Python literal stays text."""
        return dict(map(parse_argument, self.arguments))


def parse_argument(text: str) -> tuple[str, object]:
    """Return the name and the value in NAME=VALUE; a value that is not a literal stays text."""
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise RequestError(f"--arg must be NAME=VALUE, got {text!r}")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def own_places() -> dict[str, Any]:
    """Return the fields ``path`` and ``folder`` of a request that this process makes."""
    return {"path": tuple(sys.path), "folder": str(Path.cwd())}
