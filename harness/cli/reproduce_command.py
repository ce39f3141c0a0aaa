"""``harness reproduce`` runs every experiment and writes the report."""

from pathlib import Path
from typing import Any

import click

from harness.cli.command import harness_command
from harness.cli.json_answer import json_option, print_json
from harness.cli.report_command import write_page
from harness.cli.sweep_command import run_experiments, sweep_options


@harness_command("harness reproduce --quick --out /tmp/try", "harness reproduce --full")
@sweep_options
@click.option(
    "--literature",
    is_flag=True,
    help="Test the claims of the literature on the CPU and on pretended GPUs, and run no "
    "experiment.",
)
@json_option
def reproduce(literature: bool, as_json: bool, **options: Any) -> int:
    """Run every experiment, write the report and print the answer.

    The exit code is 3 if a section of the report failed.
    """
    from harness.sweeps.experiment_files import literature_names, own_names

    if literature:
        if options["device"] != "cpu" or options["gpu"]:
            rule = "each step has its own device"
            raise click.UsageError(
                f"--literature does not accept --device or --gpu, because {rule}"
            )
        options["out"] = options["out"] or Path("results", "local", "literature")
    folder, _ = run_experiments(literature_names() if literature else own_names(), **options)
    page, code = write_page(folder)
    if as_json:
        print_json({"page": page, "records": folder}, "incomplete" if code else "complete")
    else:
        from harness.reporting.claims import LITERATURE_REFERENCE, REFERENCE
        from harness.reporting.summary import print_summary

        print_summary(folder, page, LITERATURE_REFERENCE if literature else REFERENCE)
    return code
