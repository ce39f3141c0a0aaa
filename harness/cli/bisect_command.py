"""``harness bisect``: the same question under several versions of PyTorch."""

from pathlib import Path

import click

from harness.cli.command import DONE, NOT_OK, harness_command
from harness.cli.json_answer import json_option, print_json
from harness.schema.plain_text import printable


@harness_command(
    "harness bisect --torch 2.10 --torch 2.15 -- train.py --batch 32",
    "harness bisect --from 2.8 --gpu l4 --steps 3 -- train.py",
    "harness bisect --torch 2.13 --torch 2.15 net.py:build --input 3,224,224 --gpu l4",
    context_settings={"allow_interspersed_args": False, "ignore_unknown_options": True},
)
@click.option("--torch", "named", multiple=True, metavar="VERSION", help="Version to ask.")
@click.option("--from", "first", metavar="VERSION", help="Oldest version of a range to ask.")
@click.option("--to", "last", metavar="VERSION", help="Newest version of a range to ask.")
@click.option("--offline", is_flag=True, help="Install nothing: use the versions that are there.")
@json_option
@click.argument(
    "command",
    nargs=-1,
    required=True,
    type=click.UNPROCESSED,
    metavar="[OPTIONS OF DRY-RUN] -- SCRIPT [ARGUMENTS]... | TARGET [OPTIONS OF PROFILE]",
)
def bisect(
    named: tuple[str, ...],
    first: str | None,
    last: str | None,
    offline: bool,
    as_json: bool,
    command: tuple[str, ...],
) -> int:
    """Compare the memory that several versions of PyTorch need.

    Each version that is not the installed one gets an environment below your cache folder: pip
    downloads about 3 GB for it and unpacks 7 GB. Other packages are those of this environment. The
    answers are dry runs, so no GPU is needed. The exit code is 3 if a peak or an outcome differs.
    """
    import msgspec

    from harness.planning.bisect_versions import ask_versions, first_difference, versions_text
    from harness.prediction.torch_environments import versions_between

    versions = versions_between(first, last, named)
    if len(versions) < 2:
        raise click.UsageError("give two versions: --torch 2.13 --torch 2.15, or --from and --to")
    options: tuple[str, ...] = ()
    target = command
    if "--" in command:
        split = command.index("--")
        options, target = command[:split], command[split + 1 :]
    is_script = bool(options) or Path(target[0]).exists()
    answers = []
    for answer in ask_versions(
        versions,
        options,
        target,
        program="harness.cli.entry",
        is_script=is_script,
        offline=offline,
    ):
        click.echo(f"torch {answer.torch}: {answer.outcome}", err=True)
        answers.append(answer)
    alike = first_difference(answers) is None and bool(answers[0].peaks_bytes)
    if as_json:
        verdict = "equal" if alike else "different" if any(a.peaks_bytes for a in answers) else None
        print_json({"versions": msgspec.to_builtins(answers)}, verdict)
    else:
        click.echo(printable("\n".join(versions_text(answers))))
    return DONE if alike else NOT_OK
