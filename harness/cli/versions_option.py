"""``harness dry-run --versions`` runs a script under several versions of PyTorch."""

from collections.abc import Sequence

import click

from harness.cli.command import DONE, NOT_OK
from harness.cli.json_answer import Verdict, print_json
from harness.cli.next_commands import without
from harness.schema.errors import HarnessError
from harness.schema.plain_text import printable
from harness.schema.run_outcome import Outcome

_NOT_OF_ONE_RUN = ("--versions", "--offline", "--json", "--html", "--snapshot", "--largest")


def parse_versions(text: str) -> list[str]:
    """Parse a list of versions such as ``2.10,2.15``, or a range such as ``2.8-2.15``."""
    from harness.prediction.torch_environments import versions_between

    named: list[str] = []
    ranges: list[tuple[str, str]] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if dash and not (first and last):
            raise click.UsageError(f"--versions: a range has two ends, e.g. 2.8-2.15, got {text!r}")
        ranges += [(first, last)] if dash else []
        named += [] if dash else [first]
    problem = "a range goes from the older to the newer one" if ranges else "give one or more"
    try:
        versions = versions_between(None, None, named)
        for first, last in ranges:
            versions = versions_between(first, last, versions)
    except HarnessError as error:
        versions, problem = [], f"{error}; give one or more"
    if not versions:
        forms = f"e.g. 2.8 or 2.13,2.15 or 2.8-2.15, got {text!r}"
        raise click.UsageError(f"--versions: {problem}, {forms}")
    return versions


def ask_each_version(text: str, command: Sequence[str], *, offline: bool, as_json: bool) -> int:
    """Run this ``dry-run`` command under each version, and return the exit code.

    Args:
        text: list or range of PyTorch versions, as typed.
        command: the script and its arguments, as typed at the end of the call.
        offline: True if nothing may be installed.
        as_json: True if the answer is printed as JSON.
    """
    import msgspec

    from harness.planning.bisect_versions import ask_versions, first_difference, versions_text

    if offline and not text:
        raise click.UsageError("--offline needs --versions LIST, e.g. --versions 2.8,2.15")
    versions = parse_versions(text)
    given: Sequence[str] = click.get_current_context().find_root().obj or ()
    split = len(given) - len(command)
    arguments = (*without(given[1:split], _NOT_OF_ONE_RUN), *given[split:])
    answers = []
    for answer in ask_versions(versions, arguments, program="harness.cli.entry", offline=offline):
        click.echo(f"torch {answer.torch}: {answer.outcome}", err=True)
        answers.append(answer)
    alike = first_difference(answers) is None and bool(answers[0].peaks_bytes)
    if len(answers) == 1:
        alike = answers[0].outcome == "ok"
    if as_json:
        compared: Verdict = "equal" if alike else "different"
        said = Outcome(answers[0].outcome) if len(answers) == 1 else compared
        verdict = said if any(one.peaks_bytes for one in answers) else None
        print_json({"versions": msgspec.to_builtins(answers)}, verdict)
    else:
        click.echo(printable("\n".join(versions_text(answers))))
    return DONE if alike else NOT_OK
