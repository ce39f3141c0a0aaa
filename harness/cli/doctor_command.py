"""``harness doctor``: what can be measured on this machine, and whether the model holds here."""

import click

from harness.cli.command import DONE, NOT_OK, harness_command


@harness_command("harness doctor", "harness doctor --check-model")
@click.option(
    "--check-model",
    is_flag=True,
    help="Instead, compare the memory model with the installed PyTorch on tiny workloads.",
)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def doctor(check_model: bool, as_json: bool) -> int:
    """Report what can be measured on this machine.

    Where a measurement is unavailable, the reason is given. With --check-model the exit code is
    3 if a workload differs.
    """
    from harness.dry_run.run import examine_dry_run
    from harness.measurement.doctor import examine, examine_model
    from harness.reporting.terminal import print_findings

    if not check_model:
        print_findings([*examine(), examine_dry_run()], as_json=as_json)
        return DONE
    findings = examine_model()
    print_findings(findings, as_json=as_json)
    return DONE if findings[0].available else NOT_OK
