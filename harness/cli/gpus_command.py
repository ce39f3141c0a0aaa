"""``harness gpus`` lists the GPUs and the cloud machines that ``--gpu`` knows."""

import click

from harness.cli.command import DONE, harness_command
from harness.cli.json_answer import json_option, print_json
from harness.cli.sheet_output import print_sheet
from harness.schema.errors import did_you_mean


@harness_command("harness gpus", "harness gpus h100", "harness gpus l4 --sources")
@click.argument("name", required=False, metavar="[NAME]")
@click.option("--sources", is_flag=True, help="Show which report or page states each number.")
@json_option
def gpus(name: str | None, sources: bool, as_json: bool) -> int:
    """List the GPUs and the cloud machines that --gpu accepts.

    With NAME, only names that contain NAME are listed. The listed memory is the memory that PyTorch
    sees, which is less than the advertised size. The name of a cloud machine selects one of its
    GPUs.
    """
    from msgspec import to_builtins

    from harness.prediction.gpu.catalogue import LISTED, MACHINES, names

    part = (name or "").lower()
    listed = {known: one for known, one in LISTED.items() if part in known}
    of_machines = [
        (one, {count: found for count, some in one.names.items() if (found := _with(part, some))})
        for one in MACHINES
    ]
    machines = [(one, found) for one, found in of_machines if found]
    if not (listed or machines):
        raise click.UsageError(f"no GPU has {name!r} in its name{did_you_mean(part, names())}")
    if as_json:
        some = [{**to_builtins(one, str_keys=True), "names": names} for one, names in machines]
        print_json({"gpus": to_builtins(listed), "machines": some})
        return DONE
    from harness.plots.sheet import Sheet, ShownTable
    from harness.schema.units import format_bytes

    rows = [
        (known, format_bytes(one.total_bytes), "{}.{}".format(*one.capability), one.source)
        for known, one in listed.items()
    ]
    gpus = ("GPU", ">memory", ">capability", "source"), rows
    rows = [
        (f"{count} x {one.gpu}", one.cloud, ", ".join(some), one.source)
        for one, found in machines
        for count, some in found.items()
    ]
    machines_of = ("GPUs", "cloud", "machine", "source"), rows
    tables = [
        ShownTable(heads=heads[: 3 + sources], rows=[row[: 3 + sources] for row in rows])
        for heads, rows in (gpus, machines_of)
        if rows
    ]
    first, *others = tables
    print_sheet(Sheet(title="", verdict=[], parts=[first, *(p for t in others for p in ("", t))]))
    return DONE


def _with(part: str, names: list[str]) -> list[str]:
    return [one for one in names if part in one.lower()]
