"""``harness mcp`` serves the commands as tools of the Model Context Protocol."""

import signal
from types import FrameType

import click

from harness.cli.command import DONE, exit_now, harness_command


@harness_command("harness mcp")
def mcp() -> int:
    """Serve the commands predict, plan, dry-run, explain and gpus to MCP clients.

    A client, such as a coding agent, starts this command and sends requests to its standard input.
    The process that runs a request is kept for the next request, so PyTorch is loaded only once.
    Install the extra mcp first: pip install mlp-memory-harness[mcp].
    """
    try:
        from harness.cli.mcp_tools import serve
    except ImportError as error:
        if not str(error.name).startswith(("mcp", "anyio")):
            raise
        extra = "pip install 'mlp-memory-harness[mcp]'"
        raise click.UsageError(f"harness mcp needs the package mcp: {extra}") from None
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    serve()
    return DONE


def _end(number: int, frame: FrameType | None) -> None:
    """End the process at once; the kernel then ends its worker processes and their scripts."""
    del frame
    exit_now(128 + number)
