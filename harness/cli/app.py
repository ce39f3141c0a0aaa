"""The command line: the group of commands, and how each ends.

Each command is a file of this package and imports what is heavy when it runs, so that
``harness --help`` stays fast and imports no torch.
"""

import errno
import os
import pkgutil
import sys

import click

from harness.cli.clean_stop import clean_stop
from harness.cli.command import DONE, INTERNAL_ERROR, INTERRUPTED, USER_ERROR, debug_option
from harness.schema.errors import HarnessError
from harness.schema.plain_text import printable
from harness.version import __version__

COMMANDS = (
    "bisect",
    "compare",
    "doctor",
    "dry_run",
    "explain",
    "measure",
    "plan",
    "predict",
    "profile",
    "replay",
    "report",
    "reproduce",
    "sweep",
    "threshold",
    "verdicts",
    "verify",
)
"""Each is a function of its own name in the file ``NAME_command.py``."""

_HINTS = {
    "use --depth N for the number of hidden layers": ("--layers", "--num-layers", "--n-layers"),
    "use --width N, or --hidden N,N,...": ("--hidden-size", "--units"),
    "memory does not depend on the learning rate; leave it out": ("--lr", "--learning-rate"),
    "memory does not depend on weight decay; leave it out": ("--weight-decay",),
    "every step needs the same memory; leave it out": ("--epochs", "--steps"),
    "use --optimizer momentum": ("--momentum",),
    "use --autocast float16 or --autocast bfloat16": ("--amp",),
    "use --dtype for the model, or --autocast": ("--precision",),
    "use --dtype float16, or --autocast float16": ("--fp16",),
    "use --dtype bfloat16, or --autocast bfloat16": ("--bf16",),
    "use --in-features N": ("--input-size",),
    "use --classes N": ("--num-classes",),
    "use --out DIR": ("--output",),
    "use --device cuda": ("--cuda",),
    "use --deadline SECONDS": ("--timeout",),
}
"""Advice for an option that other programs have."""

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
for _name in COMMANDS:
    app.add_command(pkgutil.resolve_name(f"harness.cli.{_name}_command:{_name}"))


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
    except click.UsageError as error:
        return _user_error(_usage_problem(error))
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


def _usage_problem(error: click.UsageError) -> str:
    """Return what is wrong with the arguments, and what takes them."""
    command = None if error.ctx is None else error.ctx.info_name
    message = error.format_message()
    if isinstance(error, click.NoSuchOption):
        for hint, names in _HINTS.items():
            if error.option_name in names:
                return f"No such option: {error.option_name}; {hint}"
        if command == "dry-run":
            return f"{message.rstrip('.')}; options of the script stand after its name"
    if command == "measure" and "extra argument" in message:
        return f"{message}; harness profile measures a step of your own network"
    return message


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
