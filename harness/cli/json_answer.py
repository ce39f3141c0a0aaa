"""``--json``: one shape for the answer of every command, and for its errors."""

from collections.abc import Mapping
from typing import Any

import click
from msgspec import UNSET, Struct, UnsetType, json, to_builtins

from harness.schema.plain_text import json_text
from harness.version import __version__


class JsonAnswer(Struct, kw_only=True, omit_defaults=True):
    """The part that the JSON of every command has; the facts of the command follow it.

    Attributes:
        harness: version of the harness.
        command: name of the command.
        question: the arguments that were given, by their name.
        verdict: the answer in a few words, e.g. ``fits``; null if there is none.
        method: how the answer was made: measured, dry run, formula, estimate; null where that
            does not apply.
        notes: facts that limit the answer, or explain it.
        error: what is wrong with the question, or inside the harness; then there is no answer.
    """

    harness: str
    command: str
    question: dict[str, Any]
    verdict: str | None
    method: str | None
    notes: list[str]
    error: str | UnsetType = UNSET


def print_json(facts: Mapping[str, Any], verdict: str | None = None) -> None:
    """Print the answer of the running command in one line."""
    context = click.get_current_context()
    given = {
        name: value
        for name, value in context.params.items()
        if str(context.get_parameter_source(name)).endswith("COMMANDLINE") and name != "as_json"
    }
    head = JsonAnswer(
        harness=__version__,
        command=str(context.info_name),
        question=given,
        verdict=verdict,
        method=facts.get("method"),
        notes=list(facts.get("notes") or ()),
    )
    click.echo(_line(head, facts))


def print_error(command: str, message: str) -> None:
    """Print an error in the place of an answer."""
    head = JsonAnswer(
        harness=__version__,
        command=command,
        question={},
        verdict=None,
        method=None,
        notes=[],
        error=message,
    )
    click.echo(_line(head, {}))


def _line(head: JsonAnswer, facts: Mapping[str, Any]) -> str:
    first = to_builtins(head, enc_hook=str)
    return json_text(json.encode({**first, **facts, **first}, enc_hook=str))
