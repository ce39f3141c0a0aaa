"""Tools of ``harness mcp``, and the server that offers them over standard input and output."""

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import anyio
import anyio.to_thread
from mcp import ErrorData, JSONRPCError
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.stdio import stdio_server
from mcp.shared.message import SessionMessage

from harness.cli.command import exit_now
from harness.cli.mcp_workers import WORKERS
from harness.schema.plain_text import without_lone_surrogates
from harness.version import __version__

_INSTRUCTIONS = (
    "These tools compute the memory of PyTorch training without a GPU. The field verdict is the"
    " answer. The field error explains an invalid request. Sizes are in bytes. exit_code is 0"
    " for an answer, 2 for an invalid request, and 3 if there is no answer or the step does not"
    " fit. The argument options contains options of the command line; see harness COMMAND"
    " --help. The first call loads PyTorch, which takes seconds, or minutes on a slow machine."
    " Then predict takes seconds, plan takes up to a minute, and dry_run takes as long as the"
    " script."
)
Words = Sequence[str]
_LONGEST = 40
"""Largest length of a list in an answer; ``full`` also includes longer lists."""
_LAST_SECONDS = 1.5
"""Seconds to wait for unfinished requests after the end of the input."""
_NO_JSON, _NO_MESSAGE = -32700, -32600
"""Codes of JSON-RPC for a line that is not JSON, and for JSON that is not a message."""


async def predict(
    ctx: Context[Any, Any],
    target: str,
    batch: int = 32,
    gpu: str = "a100-40gb",
    options: Words = (),
    full: bool = False,
) -> dict[str, Any]:
    """Predict the memory of a training step, whether it fits on a GPU, and its largest batch.

    target is FILE.py:NAME, MODULE:NAME, hf:NAME_OR_FOLDER, timm:NAME, torchvision:NAME or
    mlp:DEPTHxWIDTH; the first two need options such as ["--input", "3x224x224"] or ["--input",
    "input_ids=int64:1024"]. gpu is a name that the tool gpus lists, or all.
    """
    check = [] if gpu.lower() == "all" else ["--check"]
    flags = ["--json", "--batch", str(batch), "--gpu", gpu, *check, *options]
    return await _answer(ctx, ["predict", *flags, "--", target], full)


async def plan(
    ctx: Context[Any, Any],
    target: str,
    batch: int,
    gpu: str = "a100-40gb",
    options: Words = (),
    full: bool = False,
) -> dict[str, Any]:
    """List changes that make a training step of this batch fit on a GPU, the fastest first.

    target, gpu and options are as for predict. The tool tries each change on a pretended GPU.
    """
    flags = ["--json", "--batch", str(batch), "--gpu", gpu, *options]
    return await _answer(ctx, ["plan", *flags, "--", target], full)


async def dry_run(
    ctx: Context[Any, Any],
    command: Words,
    gpu: str = "a100-40gb",
    options: Words = (),
    full: bool = False,
) -> dict[str, Any]:
    """Run a PyTorch script, such as ["train.py", "--epochs", "1"], unmodified on a pretended GPU.

    Options such as ["--steps", "3"] end the script early.
    """
    arguments = ["dry-run", "--json", "--gpu", gpu, *options, "--", *command]
    return await _answer(ctx, arguments, full)


async def explain(
    ctx: Context[Any, Any], text: str, options: Words = (), full: bool = False
) -> dict[str, Any]:
    """Explain an out-of-memory failure; text is the message, or the path of a log or snapshot."""
    return await _answer(ctx, ["explain", "--json", *options, "--", text], full)


async def gpus(ctx: Context[Any, Any], name: str = "") -> dict[str, Any]:
    """List the known GPUs and cloud machines; if name is given, only names that contain it."""
    found = await _answer(ctx, ["gpus", "--json", *([name] if name else [])], full=True)
    if found["error"] is None:
        kept = ("total_bytes", "capability")
        table = {one: {key: gpu[key] for key in kept} for one, gpu in found["gpus"].items()}
        machines = {
            machine: f"{count} x {one['gpu']}"
            for one in found["machines"]
            for count, names in one["names"].items()
            for machine in names
        }
        found |= {"gpus": table, "machines": machines}
    return found


async def _answer(ctx: Context[Any, Any], arguments: list[str], full: bool) -> dict[str, Any]:
    """Run a command and return its JSON; report the progress to the client every few seconds."""

    async def tell(seconds: float, words: str) -> None:
        await ctx.report_progress(seconds, message=words)

    answer = await WORKERS.ask(arguments, tell)
    return answer if full else {name: _shown(value) for name, value in answer.items()}


def _shown(value: object) -> object:
    if isinstance(value, list | dict) and len(value) > _LONGEST:
        return f"{len(value)} entries; call again with full"
    return value


def serve() -> None:
    """Serve one client until standard input ends, and then end all worker processes."""
    server = MCPServer("harness", version=__version__, instructions=_INSTRUCTIONS)
    for tool in (predict, plan, dry_run, explain, gpus):
        server.add_tool(tool)
    anyio.run(_serve, server)


async def _serve(server: MCPServer[Any]) -> None:
    lowlevel = server._lowlevel_server
    lines = _Lines()
    async with stdio_server(stdin=lines) as (incoming, lines.outgoing):
        outgoing = lines.outgoing
        await lowlevel.run(incoming, outgoing, lowlevel.create_initialization_options())


def refusal(line: str) -> dict[str, Any] | None:
    """Return the code, message and ID of the error for a line; None if it is a message."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        problem = f"a line must be a JSON-RPC message in JSON, got {line[:40]!r}: {error}"
        return {"code": _NO_JSON, "message": problem, "id": None}
    known = message if isinstance(message, dict) else {}
    is_call = isinstance(known.get("method"), str)
    if known.get("jsonrpc") == "2.0" and (is_call or {"result", "error"} & known.keys()):
        return None
    rule = 'a message must be an object with "jsonrpc": "2.0" and the name of a "method"'
    number = known.get("id")
    named = number if type(number) in (int, str) else None
    return {"code": _NO_MESSAGE, "message": f"{rule}, got {line[:40]!r}", "id": named}


class _Lines:
    """Messages on standard input; a line that is not a message is answered with an error."""

    outgoing: Any = None
    """The stream of answers, which the server opens before it reads the first line."""

    async def __aiter__(self) -> AsyncIterator[str]:
        import sys

        while line := await anyio.to_thread.run_sync(
            sys.stdin.buffer.readline, abandon_on_cancel=True
        ):
            text = without_lone_surrogates(line.decode("utf-8", "replace")).strip()
            wrong = refusal(text) if text else None
            if wrong is not None:
                error = ErrorData(code=wrong["code"], message=wrong["message"])
                answer = JSONRPCError(jsonrpc="2.0", id=wrong["id"], error=error)
                await self.outgoing.send(SessionMessage(answer))
            elif text:
                yield text
        with anyio.move_on_after(_LAST_SECONDS):
            while WORKERS.open_questions:
                await anyio.sleep(0.05)
            await anyio.sleep(0.1)  # the last answer is on its way
        sys.stdout.flush()
        exit_now(0)
