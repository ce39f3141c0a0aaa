"""``harness explore``: the interactive page."""

from pathlib import Path

import click

from harness.cli.command import HarnessCommand
from harness.cli.exit_codes import DONE


@click.command(cls=HarnessCommand, examples=["harness explore --out explorer.html"])
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("explorer.html"),
    show_default=True,
    help="File to write.",
)
def explore(out: Path) -> int:
    """Write an interactive page of a step's memory.

    Sliders set the depth, width and batch; the page shows where the memory goes and what fits.
    """
    from harness.reporting.explorer import write_explorer

    click.echo(write_explorer(out))
    return DONE
