"""The command line: the group of commands, and how each ends.

Each command is a file of this package and imports what is heavy when it runs, so that
``harness --help`` stays fast and imports no torch.
"""

import errno
import os
import sys

import click

from harness.cli.clean_stop import clean_stop
from harness.cli.command import debug_option
from harness.cli.compare_command import compare
from harness.cli.doctor_command import doctor
from harness.cli.dry_run_command import dry_run
from harness.cli.exit_codes import DONE, INTERNAL_ERROR, INTERRUPTED, USER_ERROR
from harness.cli.explain_command import explain
from harness.cli.measure_command import measure
from harness.cli.plan_command import plan
from harness.cli.predict_command import predict
from harness.cli.profile_command import profile
from harness.cli.replay_command import replay
from harness.cli.report_command import report
from harness.cli.reproduce_command import reproduce
from harness.cli.sweep_command import sweep
from harness.cli.threshold_command import threshold
from harness.cli.verdicts_command import verdicts
from harness.schema.errors import HarnessError
from harness.schema.plain_text import printable
from harness.version import __version__

_HINTS = {
    "--layers": "use --depth N for the number of hidden layers",
    "--num-layers": "use --depth N for the number of hidden layers",
    "--n-layers": "use --depth N for the number of hidden layers",
    "--hidden-size": "use --width N, or --hidden N,N,...",
    "--units": "use --width N, or --hidden N,N,...",
    "--lr": "memory does not depend on the learning rate; leave it out",
    "--learning-rate": "memory does not depend on the learning rate; leave it out",
    "--momentum": "use --optimizer momentum",
    "--weight-decay": "memory does not depend on weight decay; leave it out",
    "--epochs": "every step needs the same memory; leave it out",
    "--steps": "every step needs the same memory; leave it out",
    "--amp": "use --autocast float16 or --autocast bfloat16",
    "--precision": "use --dtype for the model, or --autocast",
    "--fp16": "use --dtype float16, or --autocast float16",
    "--bf16": "use --dtype bfloat16, or --autocast bfloat16",
    "--input-size": "use --in-features N",
    "--num-classes": "use --classes N",
    "--output": "use --out DIR",
    "--cuda": "use --device cuda",
    "--timeout": "use --deadline SECONDS",
}


def hint_for(option: str) -> str | None:
    """Return what to do instead of ``option``; None if nothing is known."""
    return _HINTS.get(option)


COMMANDS = (
    compare,
    doctor,
    explain,
    dry_run,
    measure,
    plan,
    predict,
    profile,
    replay,
    report,
    reproduce,
    sweep,
    threshold,
    verdicts,
)

_USER_ERRNOS = (
    errno.ENAMETOOLONG,
    errno.EACCES,
    errno.EROFS,
    errno.EISDIR,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.ENOSPC,
    errno.EDQUOT,
)
"""What a path that the user gave can be refused for."""
_LONGEST_PATH = 200


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: harness measure --depth 8 --width 256 --batch 512\n\n"
    'Completion: eval "$(_HARNESS_COMPLETE=bash_source harness)", or zsh_source, fish_source',
)
@click.version_option(__version__, prog_name="harness")
@click.pass_context
def app(context: click.Context) -> None:
    """Where does the memory of training an MLP go, and when does it run out?"""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


app.params.append(debug_option())
for _command in COMMANDS:
    app.add_command(_command)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    with clean_stop() as stop:
        try:
            code = _run(sys.argv[1:] if arguments is None else arguments)
        except BaseException:
            if stop.number is None:
                raise
            code = stop.exit_code  # whatever else went wrong on the way out
    return code if stop.number is None else stop.exit_code


def _run(arguments: list[str]) -> int:
    try:
        code = app.main(arguments, prog_name="harness", standalone_mode=False)
        return code if isinstance(code, int) else DONE
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except SystemExit as error:  # click's own end is a return value here, but of a completion
        if "_HARNESS_COMPLETE" in os.environ:
            raise
        return _user_error(f"the code that was run ended the process: sys.exit({error.code!r})")
    except click.NoSuchOption as error:
        name, hint = error.option_name, hint_for(error.option_name)
        return _user_error(f"No such option: {name}; {hint}" if hint else error.format_message())
    except click.ClickException as error:
        return _user_error(error.format_message())
    except HarnessError as error:
        return _user_error(str(error))
    except OSError as error:
        if error.errno not in _USER_ERRNOS or error.filename is None or "--debug" in arguments:
            return _internal_error(error, arguments)
        return _user_error(f"{str(error.filename)[:_LONGEST_PATH]!r}: {error.strerror}")
    except Exception as error:
        return _internal_error(error, arguments)


def _internal_error(error: Exception, arguments: list[str]) -> int:
    if "--debug" in arguments:
        raise error
    message = printable(f"harness: internal error: {type(error).__name__}: {error}")
    click.echo(message, err=True)
    click.echo("harness: run the command again with --debug and report the traceback", err=True)
    return INTERNAL_ERROR


def _user_error(message: str) -> int:
    click.echo(printable(f"harness: {' '.join(message.split())}"), err=True)
    return USER_ERROR


if __name__ == "__main__":
    sys.exit(main())
