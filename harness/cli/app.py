"""The command line: the group of commands, and how each ends.

Each command is a file of this package and imports what is heavy when it runs, so that
``harness --help`` stays fast and imports no torch.
"""

import sys
from pathlib import Path

import click

import harness
from harness.cli.command import debug_option
from harness.cli.compare import compare
from harness.cli.doctor import doctor
from harness.cli.dry_run import dry_run
from harness.cli.exit_codes import DONE, INTERNAL_ERROR, INTERRUPTED, USER_ERROR
from harness.cli.explore import explore
from harness.cli.measure import measure
from harness.cli.option_hints import hint_for
from harness.cli.predict import predict
from harness.cli.profile import profile
from harness.cli.replay import replay
from harness.cli.report import report
from harness.cli.reproduce import reproduce
from harness.cli.sweep import sweep
from harness.cli.threshold import threshold
from harness.schema.errors import HarnessError

COMMANDS = (
    compare,
    doctor,
    dry_run,
    explore,
    measure,
    predict,
    profile,
    replay,
    report,
    reproduce,
    sweep,
    threshold,
)


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: harness measure --depth 8 --width 256 --batch 512",
)
@click.version_option(harness.__version__, prog_name="harness")
@click.pass_context
def app(context: click.Context) -> None:
    """Where does the memory of training an MLP go, and when does it run out?"""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


app.params.append(debug_option())
for _command in COMMANDS:
    app.add_command(_command)


def run_experiment_file(file: str) -> None:
    """Run the experiment in ``file`` as ``harness sweep`` does, then end the process."""
    sys.exit(main(["sweep", Path(file).stem, *sys.argv[1:]]))


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        code = app.main(arguments, prog_name="harness", standalone_mode=False)
        return code if isinstance(code, int) else DONE
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except click.NoSuchOption as error:
        hint = hint_for(error.option_name)
        name = error.option_name
        return _user_error(f"No such option: {name}; {hint}" if hint else error.format_message())
    except click.ClickException as error:
        return _user_error(error.format_message())
    except HarnessError as error:
        return _user_error(str(error))
    except BrokenPipeError:  # whoever read our output has stopped reading
        sys.stderr.close()
        return DONE
    except Exception as error:
        if "--debug" in arguments:
            raise
        click.echo(f"harness: internal error: {type(error).__name__}: {error}", err=True)
        click.echo("harness: run the command again with --debug and report the traceback", err=True)
        return INTERNAL_ERROR


def _user_error(message: str) -> int:
    click.echo(f"harness: {' '.join(message.split())}", err=True)
    return USER_ERROR


if __name__ == "__main__":
    sys.exit(main())
