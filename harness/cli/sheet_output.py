"""Prints an answer, and writes it as an HTML page with ``--html``."""

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.shared_options import file_option

if TYPE_CHECKING:
    from harness.plots.sheet import Sheet

page_option = file_option("--html", help_text="Write a self-contained page to FILE.")


def print_sheet(sheet: "Sheet") -> None:
    """Print an answer; on a terminal, use bold text and the width of the terminal."""
    from harness.plots.sheet import sheet_text

    on_terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if on_terminal else None
    print(sheet_text(sheet, bold=on_terminal, width=width))


def write_page(path: Path, sheet: "Sheet") -> None:
    """Write the HTML page; raise a usage error if the path cannot be written."""
    from harness.plots.memory_page import sheet_page

    try:
        path.write_text(sheet_page(sheet), encoding="utf-8")
    except OSError as error:
        raise click.UsageError(f"cannot write {path}: {error.strerror or error}") from None
