"""``harness mcp`` serves the commands as tools of the Model Context Protocol."""

import signal
from types import FrameType

import click

from harness.cli.command import DONE, exit_now, harness_command


@harness_command("harness mcp")
def mcp() -> int:
    """Serve the commands predict, plan, dry-run, explain and gpus to an MCP client.

    The client, such as a coding agent, starts this command and sends requests to its standard
    input. The process that answers a request also answers later requests, so PyTorch is loaded
    once.
    This command needs the extra mcp: pip install mlp-memory-harness[mcp].
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
