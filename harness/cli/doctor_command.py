"""``harness doctor``: what can be measured on this machine, and whether the model holds here."""

import click

from harness.cli.command import DONE, NOT_OK, harness_command
from harness.cli.json_answer import json_option, print_json


@harness_command("harness doctor", "harness doctor --check-model")
@click.option(
    "--check-model",
    is_flag=True,
    help="Instead, compare the memory model with the installed PyTorch on tiny workloads.",
)
@json_option
def doctor(check_model: bool, as_json: bool) -> int:
    """Report what can be measured on this machine.

    Where a measurement is unavailable, the reason is given. With --check-model the exit code is
    3 if a workload differs.
    """
    from harness.dry_runs.run import examine_dry_run
    from harness.measurement.doctor import examine, examine_model
    from harness.reporting.terminal import AnswerConsole

    findings = examine_model() if check_model else [*examine(), examine_dry_run()]
    if as_json:
        print_json({"findings": [one.as_dict() for one in findings]})
    else:
        rows = [(one.what, "yes" if one.available else "no", one.detail) for one in findings]
        AnswerConsole().table(("what", "", "how, or why not"), rows)
    return NOT_OK if check_model and not findings[0].available else DONE
