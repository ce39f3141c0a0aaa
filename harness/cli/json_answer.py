"""Common format of the JSON that every command prints with ``--json``."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import click
from click.core import ParameterSource

from harness.schema.plain_text import json_text
from harness.version import __version__

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print the answer as JSON, in one line."
)


@dataclass(frozen=True, kw_only=True)
class JsonAnswer:
    """First part of the JSON of every command; the command's own keys follow.

    Attributes:
        harness: version of the harness.
        command: name of the command.
        question: arguments that were typed on the command line, by name.
        verdict: the answer in a few words, such as ``fits``; null if the command gives no verdict.
        method: measured, dry run, formula or estimate; null if no method applies.
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


def print_json(facts: Mapping[str, Any] | bytes | str, verdict: object = None) -> None:
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
        method=plain.get("method"),
        notes=list(plain.get("notes") or ()),
    )
    _print(head, plain)


def print_error(command: str, message: str) -> None:
    """Print an error message in the JSON format of answers."""
    _print(JsonAnswer(command=command, error=message), {})


def _print(head: JsonAnswer, facts: Mapping[str, Any]) -> None:
    from msgspec import json

    first = asdict(head)
    click.echo(json_text(json.encode({**first, **facts, **first}, enc_hook=str)))
