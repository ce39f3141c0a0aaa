"""Options of the commands that run a workload in worker processes."""

import click

from harness.cli.parameter_types import GPU, SECONDS

pretend_option = click.option(
    "--gpu",
    type=GPU,
    metavar="NAME",
    help="GPU to pretend in a dry run, for --device cuda; times are null then. Without this option"
    " a GPU is pretended only if the machine has none.  [a100-40gb]",
)

deadline_option = click.option(
    "--deadline",
    type=SECONDS,
    default=600,
    show_default=True,
    help="Seconds after which a worker process is stopped.",
)

force_option = click.option(
    "--force", is_flag=True, help="Try more memory than is available on this machine."
)
