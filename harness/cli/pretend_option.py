"""The option ``--gpu`` of the commands that measure: which GPU to pretend where there is none."""

import click

pretend_option = click.option(
    "--gpu",
    metavar="NAME",
    help="GPU to pretend in a dry run, for --device cuda; times are null then. Without this option"
    " a GPU is pretended only if the machine has none.  [a100-40gb]",
)
