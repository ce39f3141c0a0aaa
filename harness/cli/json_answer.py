"""``--json`` prints the answer of every command, or its error, in one format."""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
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
    """The common part of the JSON of every command; the facts of the command follow it.

    Attributes:
        harness: version of the harness.
        command: name of the command.
        question: the given arguments by name.
        verdict: the answer in a few words, e.g. ``fits``; null if there is none.
        method: source of the answer: measured, dry run, formula or estimate; null if that
            does not apply.
        notes: facts that limit or explain the answer.
        error: the error in the question or inside the harness; null if there is an answer.
    """

    harness: str = __version__
    command: str
    question: dict[str, Any] = field(default_factory=dict)
    verdict: str | None = None
    method: str | None = None
    notes: list[str] = field(default_factory=list)
    error: str | None = None


def print_json(facts: Mapping[str, Any] | bytes | str, verdict: object = None) -> None:
    """Print the answer of the running command in one line; ``facts`` may be JSON already."""
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
    """Print an error in place of an answer."""
    _print(JsonAnswer(command=command, error=message), {})


def _print(head: JsonAnswer, facts: Mapping[str, Any]) -> None:
    from msgspec import json

    first = asdict(head)
    click.echo(json_text(json.encode({**first, **facts, **first}, enc_hook=str)))


@contextmanager
def answer_alone(wanted: bool) -> Iterator[None]:
    """In the block, send output of the user's code to standard error, if ``wanted``.

    An estimate runs the user's code in this process. Its output would come before the JSON, or on
    the same line.
    """
    if not wanted:
        yield
        return
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
