"""``harness gpus``: the GPUs and the machines of clouds that ``--gpu`` knows by a name."""

from harness.cli.command import DONE, harness_command
from harness.cli.json_answer import json_option, print_json


@harness_command("harness gpus", "harness gpus --json")
@json_option
def gpus(as_json: bool) -> int:
    """List the GPUs and the machines of clouds that --gpu takes.

    The memory is what PyTorch sees, which is less than the number on the box; SOURCE is the report
    that states it, or the cloud's page of the machine. A machine's name means one of its GPUs.
    """
    from msgspec import to_builtins

    from harness.prediction.gpu.catalogue import LISTED, MACHINES

    if as_json:
        print_json({"gpus": to_builtins(LISTED), "machines": to_builtins(MACHINES, str_keys=True)})
        return DONE
    from harness.reporting.terminal import AnswerConsole
    from harness.schema.units import format_bytes

    console = AnswerConsole()
    rows = [
        (name, format_bytes(one.total_bytes), "{}.{}".format(*one.capability), one.source)
        for name, one in LISTED.items()
    ]
    console.table(("GPU", ">memory", ">capability", "source"), rows)
    console.say("")
    machines = [
        (", ".join(names), one.cloud, f"{count} x {one.gpu}", one.source)
        for one in MACHINES
        for count, names in one.names.items()
    ]
    console.table(("machine", "cloud", "GPUs", "source"), machines)
    return DONE
