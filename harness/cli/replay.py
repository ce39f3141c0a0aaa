"""``harness replay``: a recording of the CUDA allocator, replayed under other settings."""

from pathlib import Path

import click

from harness.cli.command import HarnessCommand
from harness.cli.exit_codes import DONE
from harness.cli.parameter_types import SIZE


@click.command(
    cls=HarnessCommand,
    examples=[
        "harness replay snapshot.pickle",
        "harness replay snapshot.pickle --what-if expandable_segments:True --memory 16GiB",
    ],
)
@click.argument("snapshot", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--what-if",
    "settings",
    metavar="SETTINGS",
    help="Allocator settings to replay under, as in PYTORCH_ALLOC_CONF.",
)
@click.option("--memory", type=SIZE, help="Total memory of the GPU to replay on, e.g. 16GiB.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def replay(snapshot: Path, settings: str | None, memory: int | None, as_json: bool) -> int:
    """Replay a memory snapshot, also under other settings.

    SNAPSHOT is a file that torch.cuda.memory._dump_snapshot wrote. It is parsed by a restricted
    unpickler; no code from the file is executed.
    """
    import json

    from harness.snapshots import replay_file, replay_text

    replayed = replay_file(snapshot, settings=settings, memory_bytes=memory)
    click.echo(json.dumps(replayed.as_dict()) if as_json else replay_text(replayed))
    return DONE
