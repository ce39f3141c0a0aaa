"""``--html FILE``: the answer of a command as a self-contained page."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from harness.schema.plain_text import printable

Command = TypeVar("Command", bound=Callable[..., Any])


def page_option(*former: str, text: str = "") -> Callable[[Command], Command]:
    """Add ``--html``, also under ``former`` names; ``text`` is added to its help."""
    return click.option(
        "--html",
        *former,
        "html",
        type=click.Path(dir_okay=False, writable=True, path_type=Path),
        metavar="FILE",
        help=f"Write a self-contained page to FILE{text}.",
    )


def write_page(path: Path, page: str) -> None:
    """Write the page; a path that cannot be written is the user's mistake."""
    try:
        path.write_text(printable(page), encoding="utf-8")
    except OSError as error:
        raise click.UsageError(f"cannot write {path}: {error.strerror or error}") from None
