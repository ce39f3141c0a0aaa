"""``harness doctor`` reports what can be measured on this machine, and checks the memory model."""

import textwrap
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click

from harness.cli.command import DONE, NOT_OK, harness_command
from harness.cli.json_answer import json_option, print_json
from harness.cli.shown_progress import shown_progress

if TYPE_CHECKING:
    from harness.reporting.terminal import AnswerConsole
    from harness.schema.ability import Ability


@harness_command("harness doctor", "harness doctor --check-model")
@click.option(
    "--check-model",
    is_flag=True,
    help="Only compare the memory model with the installed PyTorch on tiny workloads.",
)
@json_option
def doctor(check_model: bool, as_json: bool) -> int:
    """Report what can be measured on this machine.

    If a measurement is unavailable, the reason is given. With --check-model the exit code is 3 if
    the memory model and PyTorch differ in an allocation event.
    """
    from harness.reporting.terminal import AnswerConsole

    console, known = AnswerConsole(), []
    with shown_progress("", "looking at this machine") as tell:
        for finding in (_model if check_model else _machine)(tell):
            known.append(finding)
            if not as_json:
                tell("")
                _show(console, finding)
    if as_json:
        print_json({"findings": [one.as_dict() for one in known]})
    return NOT_OK if check_model and not known[0].available else DONE


def _machine(tell: Callable[[str], object]) -> Iterator["Ability"]:
    from harness.measurement.doctor import examine

    yield from examine(tell)
    tell("allocating on a pretended GPU, compiled the first time")
    from harness.dry_runs.examine_dry_run import examine_dry_run

    yield from examine_dry_run()


def _model(tell: Callable[[str], object]) -> Iterator["Ability"]:
    tell("comparing tiny workloads with the memory model")
    from harness.measurement.doctor import examine_model

    yield from examine_model()


def _show(console: "AnswerConsole", finding: "Ability") -> None:
    """Print a finding; on a terminal, its detail is wrapped to the width of the terminal."""
    head = f"{finding.what:24} {'yes' if finding.available else 'no':4} "
    width = max(20, console.width - len(head)) if console.is_terminal else len(finding.detail) + 1
    for line in textwrap.wrap(finding.detail, width, break_on_hyphens=False) or [""]:
        console.say(head + line)
        head = " " * len(head)
