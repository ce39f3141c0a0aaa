"""The option ``--gpu`` of the commands that measure: which GPU to pretend where there is none."""

import click

pretend_option = click.option(
    "--gpu",
    metavar="NAME",
    help="GPU to pretend for --device cuda, by a dry run without times; without this option one"
    " is pretended only if the machine has none.  [a100-40gb]",
)
