"""``harness replay``: a recording of the CUDA allocator, replayed under other settings."""

from dataclasses import asdict
from pathlib import Path

import click

from harness.cli.command import DONE, harness_command
from harness.cli.json_answer import json_option, print_json
from harness.cli.parameter_types import SIZE, WholeNumber
from harness.cli.shared_options import replay_deadline, what_if_option
from harness.schema.plain_text import printable


@harness_command(
    "harness replay snapshot.pickle",
    "harness replay snapshot.pickle --what-if expandable_segments:True --memory 16GiB",
)
@click.argument("snapshot", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@what_if_option
@click.option("--memory", type=SIZE, help="Total memory of the GPU to replay on, e.g. 16GiB.")
@click.option("--device", type=WholeNumber(0, 1023), help="Replay this device only.")
@replay_deadline
@json_option
def replay(
    snapshot: Path,
    settings: str | None,
    memory: int | None,
    device: int | None,
    deadline: float,
    as_json: bool,
) -> int:
    """Replay a memory snapshot, also under other settings.

    Every device of the recording is replayed; one that ran out of memory comes first.

    SNAPSHOT is a file that torch.cuda.memory._dump_snapshot wrote. It is parsed by a restricted
    unpickler; no code from the file is executed.
    """
    from harness.snapshots.replay import replay_devices, replay_text

    replayed = replay_devices(
        snapshot, settings=settings, memory_bytes=memory, device=device, deadline_seconds=deadline
    )
    if as_json:
        first, *others = map(asdict, replayed)
        print_json({**first, "other_devices": others})
    else:
        click.echo(printable("\n".join(replay_text(each) for each in replayed)), nl=False)
    return DONE
