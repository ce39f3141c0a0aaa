"""``harness doctor``: what can be measured on this machine."""

import click

from harness.cli.command import HarnessCommand
from harness.cli.exit_codes import DONE


@click.command(cls=HarnessCommand, examples=["harness doctor"])
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def doctor(as_json: bool) -> int:
    """Report what can be measured on this machine.

    Where a measurement is unavailable, the reason is given.
    """
    from harness.measurement.doctor import examine
    from harness.reporting.terminal import print_findings

    print_findings(examine(), as_json=as_json)
    return DONE
