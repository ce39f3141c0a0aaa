"""The command ``harness``: its subcommands, and the exit code after each kind of error.

Each subcommand has a file in this package. A subcommand's file imports large modules only when the
subcommand runs, so ``harness --help`` does not import torch.
"""

import errno
import os
import pkgutil
import re
import sys
import tomllib
from pathlib import Path

import click

from harness.cli.command import DONE, INTERNAL_ERROR, INTERRUPTED, NOT_OK, USER_ERROR, debug_option
from harness.schema.errors import HarnessError, did_you_mean, hidden_module
from harness.schema.plain_text import printable
from harness.version import __version__

GROUPS = {
    "One step": ("measure", "predict", "plan", "threshold"),
    "Experiments": ("sweep", "report", "reproduce"),
    "Your own script": ("dry_run", "explain"),
    "This machine": ("gpus", "doctor", "mcp"),
}
"""Names of the commands, grouped by purpose; ``NAME_command.py`` defines the command NAME."""
COMMANDS = tuple(name for names in GROUPS.values() for name in names)
GONE = {
    "bisect": "harness dry-run --versions 2.10,2.15 -- train.py",
    "compare": "harness report FOLDER --against FOLDER",
    "profile": "harness measure TARGET",
    "replay": "harness explain SNAPSHOT --what-if SETTINGS",
    "verdicts": "harness report FOLDER, and with --against FOLDER side by side",
    "verify": "harness report FOLDER --check",
}
"""Removed commands and their replacements."""

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
"""Values of ``errno`` that a wrong path from the user can cause."""
_LONGEST_PATH = 200
_NO_FOLDER = ("No usable temporary directory", "requires access to a writable cache directory")
"""Messages of errors that ``tempfile`` and matplotlib raise if no folder is writable."""


class Commands(click.Group):
    """The click group of all commands; its help lists the commands by purpose."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write each purpose, followed by its commands."""
        del ctx
        for use, names in GROUPS.items():
            rows = [self.commands[name.replace("_", "-")] for name in names]
            with formatter.section(use):
                formatter.write_dl([(str(one.name), one.get_short_help_str(80)) for one in rows])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command in ``args``; if it was removed, the error names its replacement."""
        if args and args[0] in GONE:
            raise click.UsageError(f"harness {args[0]} is now {GONE[args[0]]}")
        if args and args[0] not in self.commands:
            near = did_you_mean(args[0], [*self.commands])
            raise click.UsageError(
                f"no command {args[0]!r}{near}; harness --help lists the commands"
            )
        return super().resolve_command(ctx, args)


@click.group(
    cls=Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: harness predict mlp:8x256 --batch 512 --gpu l4\n\n"
    'Completion: eval "$(_HARNESS_COMPLETE=bash_source harness)", or zsh_source, fish_source',
)
@click.version_option(__version__, prog_name="harness")
@click.pass_context
def app(context: click.Context) -> None:
    """Measure and predict the memory of training with PyTorch, and find where it runs out."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


app.params.append(debug_option())
for _name in COMMANDS:
    app.add_command(pkgutil.resolve_name(f"harness.cli.{_name}_command:{_name}"))


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    code = USER_ERROR
    if "--debug" in given:
        _show_tracebacks()
    try:
        done = app.main(given, prog_name="harness", standalone_mode=False, obj=tuple(given))
        return done if isinstance(done, int) else DONE
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except SystemExit as error:  # click's own end is a return value here, but of a completion
        if "_HARNESS_COMPLETE" in os.environ:
            raise
        problem = f"the code that was run ended the process: sys.exit({error.code!r})"
    except click.UsageError as error:
        problem = _usage_problem(error)
    except click.ClickException as error:
        problem = error.format_message()
    except HarnessError as error:
        refused = _refused_setting(error)
        problem = refused or str(error)
        code = NOT_OK if not refused and _is_of_the_machine(error) else USER_ERROR
    except Exception as error:
        found = _problem_of_files(error) if "--debug" not in given else None
        if found is None:
            return _internal_error(error, given)
        problem = found
    problem = " ".join(problem.split())
    click.echo(printable(f"harness: {problem}"), err=True)
    _answer_error(given, problem)
    return code


def _show_tracebacks() -> None:
    """Print tracebacks of errors that a command reports and does not raise, such as in a report."""
    import logging

    logger = logging.getLogger("harness")
    logger.setLevel(logging.DEBUG)
    logger.addHandler(logging.StreamHandler())


def _is_of_the_machine(error: HarnessError) -> bool:
    """Return whether the error means that a worker process could not start."""
    from harness.processes.launch import LaunchError

    return isinstance(error, LaunchError)


def _refused_setting(error: HarnessError) -> str | None:
    """Return a message about settings of the allocator that end PyTorch while it is loaded."""
    names = [
        name for name in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF") if name in os.environ
    ]
    if not names or "AllocatorConfig" not in str(error) or not _is_of_the_machine(error):
        return None
    given = ", ".join(f"{name}={os.environ[name]!r}" for name in names)
    return f"PyTorch cannot be loaded with {given}; write NAME:VALUE, e.g. max_split_size_mb:128"


def _problem_of_files(error: Exception) -> str | None:
    """Return a message about the user's file or folder; None if the error has another cause."""
    if hidden := hidden_module(error):
        return f"{type(error).__name__}: {error}{hidden}"
    if any(words in str(error) for words in _NO_FOLDER):
        return "no folder for temporary files can be written; set TMPDIR to a writable folder"
    if not isinstance(error, OSError) or error.errno not in _USER_ERRNOS:
        return None
    if error.filename is None:
        return None
    return f"{str(error.filename)[:_LONGEST_PATH]!r}: {error.strerror}"


def _answer_error(arguments: list[str], problem: str) -> None:
    """Print the problem as JSON if ``--json`` is an option of the harness, not of a script."""
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    if "--json" in own:
        from harness.cli.json_answer import print_error

        command = next((word for word in own if not word.startswith("-")), "")
        print_error(command, problem, [word for word in arguments if word != "--json"])


def _usage_problem(error: click.UsageError) -> str:
    """Return the message of a usage error; for an unknown option, the message contains a hint."""
    message = error.format_message()
    if isinstance(error, click.NoSuchOption):
        hints = tomllib.loads(Path(__file__).with_name("option_hints.toml").read_text())
        if error.option_name in hints:
            return f"No such option: {error.option_name}; {hints[error.option_name]}"
        if error.ctx is not None and error.ctx.info_name == "dry-run":
            return f"{message.rstrip('.')}; give the options of the script after its name"
    if error.ctx is not None and message.startswith(("Missing", "Got unexpected extra")):
        if dash := re.search(r"[( ]([–—−]+-?)(\w[\w-]*)", message):
            return f"{message}; an option begins with -, not with {dash[1]}: --{dash[2]}"
        usage = " ".join(error.ctx.command.collect_usage_pieces(error.ctx))
        return f"{message.rstrip('.')}; write {error.ctx.command_path} {usage}"
    return message


def _internal_error(error: Exception, arguments: list[str]) -> int:
    if "--debug" in arguments:
        raise error
    problem = f"internal error: {type(error).__name__}: {error}"
    click.echo(printable(f"harness: {problem}"), err=True)
    click.echo("harness: run the command again with --debug and report the traceback", err=True)
    _answer_error(arguments, problem)
    return INTERNAL_ERROR


if __name__ == "__main__":
    sys.exit(main())
