"""``harness mcp``: a client asks the tools over standard input and output."""

import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_answer_schema import MESSAGE

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
    assert first["verdict"] == second["verdict"] == plan["verdict"] == "fits"
    assert first["question"]["gpu"] == "g5.xlarge"
    assert script["verdict"] == "ok"
    assert script["cuda"]["allocated_peak_bytes"] == 4 << 20
    assert why["verdict"] == why["cause"]
    assert "did you mean net?" in wrong["error"]
    assert (wrong["exit_code"], first["exit_code"]) == (2, 0)
