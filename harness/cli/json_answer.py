"""Common format of the JSON that every command prints with ``--json``."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Literal, NewType

import click
from click.core import ParameterSource

from harness.schema.plain_text import json_text, utf8_name
from harness.version import __version__

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print the answer as JSON, in one line."
)


_METHODS = {"measure": "measured", "threshold": "measured", "dry-run": "dry run"}
_METHODS |= {"report": "records", "reproduce": "records"}

Verdict = Literal[
    "fits", "fits with changes", "fits on some GPUs", "close call", "depends", "unknown",
    "does not fit", "complete", "incomplete", "ok", "fails", "equal", "different", "grew", "shrank",
]  # fmt: skip
"""Words of ``verdict``, with those of ``Outcome`` and the causes of ``explain``."""
Cause = NewType("Cause", str)
"""Cause of a failure that ``explain`` found."""


@dataclass(frozen=True, kw_only=True)
class JsonAnswer:
    """First part of the JSON of every command; the command's own keys follow.

    Attributes:
        harness: version of the harness.
        command: name of the command.
        question: arguments that were typed on the command line, by name; after an error, the key
            ``arguments`` with all words as typed.
        verdict: a word of ``Verdict``, an outcome, or the cause of a failure; null if the command
            gives no verdict.
        method: measured, dry run, formula or estimate; records, recording or log if the command
            reads these; null for a list, for ``doctor`` and after an error.
        notes: facts that limit or explain the answer.
        error: error message; null if there is an answer.
    """

    harness: str = __version__
    command: str
    question: dict[str, Any] = field(default_factory=dict)
    verdict: str | None = None
    method: str | None = None
    notes: list[str] = field(default_factory=list)
    error: str | None = None


def print_json(
    facts: Mapping[str, Any] | bytes | str, verdict: Verdict | StrEnum | Cause | None = None
) -> None:
    """Print the running command's answer as one line; ``facts`` is a mapping or its JSON text."""
    from msgspec import json

    plain = json.decode(facts) if isinstance(facts, bytes | str) else facts
    context = click.get_current_context()
    typed = [
        name
        for name in context.params
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    ]
    head = JsonAnswer(
        command=str(context.info_name),
        question={name: context.params[name] for name in typed if name != "as_json"},
        verdict=None if verdict is None else str(verdict),
        method=_method(str(context.info_name), plain),
        notes=list(plain.get("notes") or ()),
    )
    _print(head, plain)


def _method(command: str, facts: Mapping[str, Any]) -> str | None:
    """Return the method of an answer: the command's own, unless the facts name another one."""
    if "method" in facts:
        return None if facts["method"] is None else str(facts["method"])
    environment = facts.get("environment") or {}
    is_pretended = str(environment.get("device", "")).startswith("dry run")
    return "dry run" if is_pretended else _METHODS.get(command)


def print_error(command: str, message: str, arguments: Sequence[str]) -> None:
    """Print an error message in the JSON format of answers, with the arguments as typed."""
    question = {"arguments": [one for one in arguments if one != command]}
    _print(JsonAnswer(command=command, question=question, error=message), {})


def _print(head: JsonAnswer, facts: Mapping[str, Any]) -> None:
    from msgspec import json

    first = asdict(head)
    click.echo(json_text(json.encode(_encodable({**first, **facts, **first}), enc_hook=str)))


_TEXTS = {"fit": "verdict", "evidence": "message"}
"""Keys that are objects in each answer, and the name of the only text that some reports have."""


def _encodable(value: Any) -> Any:
    """Return ``value`` with names of files that are not UTF-8 escaped, as in the text answer.

    A key has the same type in each answer, so a text of ``_TEXTS`` becomes an object.
    """
    if isinstance(value, str):
        return utf8_name(value)
    if isinstance(value, dict):
        texts = {key: {_TEXTS[key]: value[key]} for key in _TEXTS if type(value.get(key)) is str}
        return {_encodable(key): _encodable(each) for key, each in {**value, **texts}.items()}
    return [_encodable(each) for each in value] if isinstance(value, list | tuple) else value
