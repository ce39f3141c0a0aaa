"""``answers.schema.json`` describes what every command prints with ``--json``.

It is made from the types themselves: ``python -m tests.cli.test_answer_schema`` writes it again.
"""

import inspect
import json
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

import harness
from harness.cli.json_answer import JsonAnswer, Verdict
from harness.schema.record import Record
from harness.schema.run_outcome import Outcome
from harness.schema.step_report import StepReport
from harness.schema.step_threshold import StepThreshold
from harness.schema.threshold import Threshold
from tests.commands import Ask

FILE = Path(harness.__file__).parent / "cli" / "answers.schema.json"
FACTS: dict[str, tuple[Any, ...]] = {
    "predict": (StepReport,),
    "measure": (Record, StepReport),
    "threshold": (Threshold, StepThreshold),
}
"""The facts of an MLP's answer, and those of a network's."""
MESSAGE = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 14.56 GiB of "
    "which 1.06 GiB is free. Of the allocated memory 12.00 GiB is allocated by PyTorch, and 1.30 "
    "GiB is reserved by PyTorch but unallocated."
)
OBJECTS = ("fit", "evidence")
"""Keys that are objects in each answer that has them."""
TINY = ["--depth", "1", "--width", "8", "--in-features", "8", "--batch", "4"]


def text() -> str:
    """Return what the file holds: the head of every answer, and the facts of some commands."""
    kinds = (JsonAnswer, *dict.fromkeys(kind for some in FACTS.values() for kind in some))
    _, parts = msgspec.json.schema_components(
        kinds, ref_template="#/$defs/{name}", schema_hook=lambda _: {"title": "anything"}
    )
    for part in parts.values():  # versions of msgspec differ in indentation and in empty defaults
        if "description" in part:
            part["description"] = inspect.cleandoc(part["description"])
        for field in part.get("properties", {}).values():
            if field.get("default") in ([], {}):
                del field["default"]
        if "properties" in part:  # a later version of the harness may add keys
            part.pop("additionalProperties", None)
    head = parts["JsonAnswer"]["properties"]
    rules: list[dict[str, Any]] = [
        {
            "if": {"properties": {"command": {"const": command}}},
            "then": {
                "anyOf": [
                    {"properties": {**parts[kind.__name__]["properties"], **head}} for kind in kinds
                ]
            },
        }
        for command, kinds in FACTS.items()
    ]
    words = [*dict.fromkeys((*get_args(Verdict), *(one.value for one in Outcome), None))]
    rules += [
        {
            "if": {"properties": {"command": {"const": "explain"}}},
            "else": {"properties": {"verdict": {"enum": words}}},
        },
        {"properties": {key: {"type": ["object", "null"]} for key in OBJECTS}},
    ]
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "An answer of harness COMMAND --json",
        "$ref": "#/$defs/JsonAnswer",
        "allOf": rules,
        "$defs": parts,
    }
    return json.dumps(schema, sort_keys=True) + "\n"


def test_the_file_is_made_from_the_types() -> None:
    assert FILE.read_text() == text()


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (["predict", *TINY], 0),
        (["predict", *TINY, "--gpu", "l4"], 0),
        (["predict", "--depth", "eight"], 2),
        (["predict", "nofile.py:Net", "--input", "4"], 2),
        (["measure", *TINY], 0),
        (["gpus"], 0),
        (["sweep", "--list"], 0),
        (["explain", MESSAGE], 0),
        (["report", "no/such", "--against", "no/such"], 2),
    ],
)  # fmt: skip
def test_every_answer_and_error_has_the_shape(line: list[str], code: int, ask: Ask) -> None:
    validate = pytest.importorskip("jsonschema").validate
    answer = json.loads(ask([*line, "--json"], code).out)
    validate(answer, json.loads(FILE.read_text()))
    assert answer["command"] == line[0]
    assert answer["harness"] == harness.__version__
    assert (answer["error"] is not None) == (code == 2)


def test_every_command_takes_json() -> None:
    from harness.cli.app import COMMANDS, app

    without = {"mcp"}
    options = {name: [p.opts for p in one.params] for name, one in app.commands.items()}
    takes = {name for name, some in options.items() if any("--json" in one for one in some)}
    assert takes == {name.replace("_", "-") for name in COMMANDS} - without


if __name__ == "__main__":
    FILE.write_text(text())
