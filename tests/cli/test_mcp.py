"""``harness mcp``: a client asks the tools over standard input and output."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.cli.test_answer_schema import MESSAGE
from tests.known import known

pytest.importorskip("mcp")

SCRIPT = """
import torch
print("the script prints, which is no part of the protocol", flush=True)
torch.zeros(1 << 20, device="cuda")
"""
MODEL = """
from torch import nn

def net():
    print("built")
    return nn.Sequential(nn.Linear(10, 20), nn.Linear(20, 3))
"""


@pytest.mark.slow
def test_a_client_gets_an_answer_from_each_tool(tmp_path: Path) -> None:
    import anyio
    from mcp import Client, StdioServerParameters

    (tmp_path / "net.py").write_text(MODEL)
    (tmp_path / "script.py").write_text(SCRIPT)
    step = {"target": "net.py:net", "batch": 8, "gpu": "g5.xlarge", "options": ["--input", "10"]}
    questions: list[tuple[str, dict[str, Any]]] = [
        ("gpus", {}),
        ("predict", step),
        ("predict", {**step, "batch": 64}),
        ("plan", step),
        ("dry_run", {"command": ["script.py"], "gpu": "l4"}),
        ("explain", {"text": MESSAGE}),
        ("predict", {**step, "target": "net.py:nett"}),
    ]
    answers: list[dict[str, Any]] = []

    async def ask() -> list[str]:
        server = StdioServerParameters(
            command=sys.executable, args=["-m", "harness", "mcp"], cwd=tmp_path
        )
        async with Client(server) as client:
            tools = [one.name for one in (await client.list_tools()).tools]
            for tool, arguments in questions:
                result = await client.call_tool(tool, arguments)
                answers.append(dict(result.structured_content or {}))
        return tools

    assert anyio.run(ask) == ["predict", "plan", "dry_run", "explain", "gpus"]
    table, first, second, plan, script, why, wrong = answers
    assert "a10g" in table["gpus"]
    assert len(json.dumps(table)) < 9000
    assert first["verdict"] == second["verdict"] == plan["verdict"] == "fits"
    assert first["question"]["gpu"] == "g5.xlarge"
    assert script["verdict"] == "fits"
    assert script["cuda"]["allocated_peak_bytes"] == 4 << 20
    assert why["verdict"] == why["cause"]
    assert "did you mean net?" in wrong["error"]
    assert (wrong["exit_code"], first["exit_code"]) == (2, 0)


ENDLESS = """
import time
open("begun", "w").close()
while True:
    time.sleep(1)
"""
HELLO = {
    "protocolVersion": "2025-06-18",
    "capabilities": {},
    "clientInfo": {"name": "test", "version": "1"},
}


class RawClient:
    """A client that writes lines of its own."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "harness", "mcp"],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self.ask(0, "initialize", HELLO)
        self.until(0)
        self.send({"method": "notifications/initialized"})

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        known(self.process.stdin).close()
        known(self.process.stdout).close()

    def send(self, message: dict[str, Any]) -> None:
        self.write(json.dumps({"jsonrpc": "2.0", **message}))

    def write(self, line: str) -> None:
        pipe = known(self.process.stdin)
        pipe.write(line.encode() + b"\n")
        pipe.flush()

    def ask(self, number: int, method: str, parameters: dict[str, Any]) -> None:
        self.send({"id": number, "method": method, "params": parameters})

    def call(self, number: int, tool: str, arguments: dict[str, Any], **more: Any) -> None:
        self.ask(number, "tools/call", {"name": tool, "arguments": arguments, **more})

    def until(self, number: int, notes: list[Any] | None = None) -> dict[str, Any]:
        """Return the answer to a question; what comes before it goes into ``notes``."""
        for line in known(self.process.stdout):
            message: dict[str, Any] = json.loads(line)
            if message.get("id") == number:
                return message
            if notes is not None:
                notes.append(message)
        raise AssertionError("the server ended")

    def begin_endless_run(self, folder: Path) -> list[psutil.Process]:
        """Let a script run that does not end; return the processes below the server."""
        (folder / "endless.py").write_text(ENDLESS)
        arguments = {"command": ["endless.py"], "gpu": "l4"}
        self.call(7, "dry_run", arguments, _meta={"progressToken": "p"})
        while not (folder / "begun").exists():
            assert self.process.poll() is None
            time.sleep(0.05)
        return psutil.Process(self.process.pid).children(recursive=True)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[RawClient]:
    with closing(RawClient(tmp_path)) as one:
        yield one


@pytest.mark.slow
@pytest.mark.usefixtures("dry_run_here")
@pytest.mark.parametrize("end", ["SIGTERM", "SIGINT", "end of input", "SIGKILL"])
def test_the_server_ends_within_two_seconds_and_its_script_with_it(
    end: str, client: RawClient, tmp_path: Path
) -> None:
    below = client.begin_endless_run(tmp_path)
    assert below
    begun = time.monotonic()
    if end == "end of input":
        known(client.process.stdin).close()
    else:
        os.kill(client.process.pid, getattr(signal, end))
    client.process.wait(20)
    _, left = psutil.wait_procs(below, timeout=20)
    assert left == []
    assert time.monotonic() - begun < 2 * max(1, os.getloadavg()[0])


@pytest.mark.slow
@pytest.mark.usefixtures("dry_run_here")
def test_a_running_tool_lets_others_answer_tells_progress_and_can_be_cancelled(
    client: RawClient, tmp_path: Path
) -> None:
    below = client.begin_endless_run(tmp_path)
    notes: list[Any] = []
    client.ask(8, "ping", {})
    assert client.until(8, notes)["result"] == {}
    client.call(9, "gpus", {"name": "h100"})
    table = client.until(9, notes)["result"]["structuredContent"]
    assert "h100-80gb" in table["gpus"]
    while not any(note.get("method") == "notifications/progress" for note in notes):
        client.ask(10, "ping", {})
        client.until(10, notes)
        time.sleep(0.2)
    client.send({"method": "notifications/cancelled", "params": {"requestId": 7}})
    assert psutil.wait_procs(below, timeout=60)[1] == []
    client.call(11, "explain", {"text": MESSAGE})
    assert client.until(11)["result"]["structuredContent"]["cause"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "code", "number"),
    [
        ("not json", -32700, None),
        ("[" * 100_000, -32700, None),
        ('{"jsonrpc": "2.0", "id": 1', -32700, None),
        ("[]", -32600, None),
        ('{"jsonrpc": "2.0", "id": "x"}', -32600, "x"),
        ('{"jsonrpc": "2.0", "id": true, "method": 3}', -32600, None),
        ('{"id": 1' + 40 * "0" + ', "method": "ping"}', -32600, 10**40),
    ],
)
def test_a_line_that_is_no_message_gets_an_error_and_the_next_one_its_answer(
    client: RawClient, line: str, code: int, number: object
) -> None:
    client.write("")
    client.write(line)
    client.ask(99, "ping", {})
    said: list[dict[str, Any]] = []
    assert client.until(99, said)["result"] == {}
    assert [(one["error"]["code"], one["id"]) for one in said] == [(code, number)]
    assert line[:10] in said[0]["error"]["message"]


@pytest.mark.slow
def test_an_odd_question_gets_an_error(client: RawClient) -> None:
    call = {"name": "predict", "arguments": {"target": "x", "options": ["--input", "4"]}}
    line = json.dumps({"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": call})
    client.write(line.replace('"x"', r'"net.py:N\ud800"'))
    answer = client.until(3)["result"]["structuredContent"]
    assert (answer["exit_code"], answer["verdict"]) == (2, None)
    assert "there is no file net.py" in answer["error"]
    client.call(4, "predict", {"target": "mlp:2x8", "options": ["--help"]})
    answer = client.until(4)["result"]["structuredContent"]
    assert "leave out options such as --help" in answer["error"]
    client.call(5, "predict", {"target": "mlp:64x8192", "batch": 1 << 20, "gpu": "t4"})
    answer = client.until(5)["result"]["structuredContent"]
    assert (answer["exit_code"], answer["verdict"]) == (3, "does not fit")
