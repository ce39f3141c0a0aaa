"""``harness mcp``: the commands as tools of the Model Context Protocol, in one warm process."""

import io
import json
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import Any

import click

from harness.cli.command import DONE, harness_command
from harness.version import __version__

_INSTRUCTIONS = (
    "Memory of PyTorch training without a GPU. verdict is the answer, error says what is wrong with"
    " the question; sizes are bytes. options are those of the command line, see harness --help."
)
Words = Sequence[str]
_LONGEST = 40
"""Entries of a list or table that an answer shows without ``full``."""


@harness_command("harness mcp")
def mcp() -> int:
    """Serve predict, plan, dry-run, explain and gpus by MCP.

    A program such as a coding agent starts this command and asks on its standard input. PyTorch is
    loaded once for all questions. It needs the extra mcp: pip install mlp-memory-harness[mcp].
    """
    try:
        from mcp.server import MCPServer
    except ImportError:
        extra = "pip install 'mlp-memory-harness[mcp]'"
        raise click.UsageError(f"harness mcp needs the package mcp: {extra}") from None
    server = MCPServer("harness", version=__version__, instructions=_INSTRUCTIONS)
    for tool in (predict, plan, dry_run, explain, gpus):
        server.add_tool(tool)
    server.run("stdio")
    return DONE


async def predict(
    target: str, batch: int = 32, gpu: str = "a100-80gb", options: Words = (), full: bool = False
) -> dict[str, Any]:
    """Predict the memory of a training step, whether it fits on a GPU, and its largest batch.

    target is FILE.py:NAME, MODULE:NAME, hf:NAME_OR_FOLDER, timm:NAME or torchvision:NAME; the first
    two need options such as ["--input", "3x224x224"] or ["--input", "input_ids=int64:1024"]. gpu is
    a name of the tool gpus, or all.
    """
    flags = ["--json", "--batch", str(batch), "--gpu", gpu, *options]
    return _answer(["predict", *flags, "--", target], full)


async def plan(
    target: str, batch: int, gpu: str, options: Words = (), full: bool = False
) -> dict[str, Any]:
    """List the changes with which a training step fits on a GPU; arguments as of predict."""
    flags = ["--json", "--batch", str(batch), "--gpu", gpu, *options]
    return _answer(["plan", *flags, "--", target], full)


async def dry_run(
    command: Words, gpu: str = "a100-40gb", options: Words = (), full: bool = False
) -> dict[str, Any]:
    """Run a PyTorch script, e.g. ["train.py", "--epochs", "1"], unmodified on a pretended GPU."""
    return _answer(["dry-run", "--json", "--gpu", gpu, *options, "--", *command], full)


async def explain(text: str, options: Words = (), full: bool = False) -> dict[str, Any]:
    """Explain an out-of-memory message; text is the message, or the path of a log or snapshot."""
    return _answer(["explain", "--json", *options, "--", text], full)


async def gpus() -> dict[str, Any]:
    """List the GPUs and the machines of clouds that have a name."""
    return _answer(["gpus", "--json"], full=True)


def _answer(arguments: list[str], full: bool) -> dict[str, Any]:
    """Return the JSON of a command that runs in this process."""
    from harness.cli.app import main

    said = io.StringIO()
    with redirect_stdout(said):
        code = main(arguments)
    lines = said.getvalue().splitlines()
    answer: dict[str, Any] = json.loads(lines[-1]) if lines else {"error": "it was interrupted"}
    if not full:
        answer = {name: _shown(value) for name, value in answer.items()}
    return {**answer, "exit_code": code}


def _shown(value: object) -> object:
    if isinstance(value, list | dict) and len(value) > _LONGEST:
        return f"{len(value)} entries; ask again with full"
    return value
