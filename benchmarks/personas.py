"""Measures the seconds of each user's path through the harness, in a new clone.

    python benchmarks/personas.py REPOSITORY [FOLDER] [--only NAME ...]

The script clones the repository, installs it by the README, and runs the commands of each user: a
student, an engineer with a network, a researcher, an engineer of CI, somebody on call, and a coding
agent. It prints each command's seconds, exit code and last line, then the sum of each path. Run it
on an idle machine; the first line has the load.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NETWORK = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Embedding(32000, 512), nn.Linear(512, 2048), nn.GELU(),
                         nn.Linear(2048, 512), nn.Linear(512, 32000))
"""
TEST = """
import pytest, my_model

@pytest.mark.memory(peak="8GiB", gpu="l4")
def test_it_fits(memory):
    memory(my_model.Net, batch=8, inputs="int64:512")
"""
LOG = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total "
    "capacity of 21.96 GiB of which 1.10 GiB is free. Of the allocated memory 19.50 GiB is "
    "allocated by PyTorch, and 1.00 GiB is reserved by PyTorch but unallocated.\n"
)
STEP = "my_model.py:Net --input int64:512 --batch"
PATHS = {
    "student": [
        "harness predict --depth 8 --width 256 --batch 512",
        "harness measure --depth 8 --width 256 --batch 512",
        "harness sweep depth_batch --quick --out run",
        "harness report run",
        "python docs/scripts/trace_the_note.py",
    ],
    "engineer": [
        "harness doctor",
        f"harness predict {STEP} 8 --gpu l4 --optimizer adamw",
        f"harness predict {STEP} 8 --gpu all",
        f"harness measure {STEP} 8 --html step.html",
        f"harness plan {STEP} 256 --gpu l4 --optimizer adamw",
        "harness dry-run --gpu l4 -- examples/train_gpt.py --batch 16",
        "harness predict torchvision:resnet50 --gpu l4",
    ],
    "researcher": [
        "harness sweep activations --quick --out variant",
        "harness report variant",
        "harness reproduce --literature --quick",
    ],
    "ci": [
        f"harness predict {STEP} 8 --gpu l4 --check --json",
        "python -m pytest -q test_memory.py --memory-update",
        "python -m pytest -q test_memory.py",
    ],
    "on-call": [
        "harness explain oom.log",
        "harness explain oom.log --html oom.html",
        f"harness plan {STEP} 64 --gpu l4",
    ],
}
QUESTIONS = [
    ("gpus", {}),
    ("predict", {"target": "torchvision:resnet18", "gpu": "g5.xlarge"}),
    ("predict", {"target": "my_model.py:Net", "batch": 8, "options": ["--input", "int64:512"]}),
    ("plan", {"target": "torchvision:resnet18", "batch": 512, "gpu": "t4"}),
    ("explain", {"text": LOG}),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("repository")
    parser.add_argument("folder", nargs="?", type=Path, default=None)
    parser.add_argument("--only", nargs="*", default=[*PATHS, "agent"])
    given = parser.parse_args()
    folder = (given.folder or Path(tempfile.mkdtemp()) / "clone").absolute()
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors, {folder}")
    python = folder / ".venv" / "bin" / "python"
    if not folder.exists():
        installed = time.monotonic()
        subprocess.run(["git", "clone", "-q", given.repository, folder], check=True)
        subprocess.run([sys.executable, "-m", "venv", folder / ".venv"], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", f"{folder}[mcp,test]"], check=True)
        print(f"installed in {time.monotonic() - installed:.0f} s")
    for name, text in (("my_model.py", NETWORK), ("test_memory.py", TEST), ("oom.log", LOG)):
        (folder / name).write_text(text)
    for persona, commands in PATHS.items():
        if persona in given.only:
            print(
                f"\n{persona}: {sum(timed(folder, command) for command in commands):.0f} s in all"
            )
    if "agent" in given.only:
        print(f"\nagent: {asyncio.run(asked(folder, python)):.0f} s in all")


def timed(folder: Path, command: str) -> float:
    """Run a command in the clone, print its outcome and return its seconds."""
    path = f"{folder / '.venv' / 'bin'}:{os.environ['PATH']}"
    started = time.monotonic()
    done = subprocess.run(
        command, shell=True, cwd=folder, env=os.environ | {"PATH": path},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        check=False,
    )  # fmt: skip
    seconds = time.monotonic() - started
    last = (done.stdout.strip().splitlines() or [""])[-1][:90]
    print(f"{seconds:7.1f} s  exit code {done.returncode}  {command}\n           {last}")
    return seconds


async def asked(folder: Path, python: Path) -> float:
    """Call the tools of ``harness mcp`` and return the seconds of all questions."""
    from mcp import Client, StdioServerParameters  # of the interpreter that runs this file

    started = time.monotonic()
    server = StdioServerParameters(command=str(python), args=["-m", "harness", "mcp"], cwd=folder)
    async with Client(server) as client:
        print(f"\n{time.monotonic() - started:7.1f} s  start")
        for tool, arguments in QUESTIONS:
            begun = time.monotonic()
            answer = (await client.call_tool(tool, arguments)).structured_content or {}
            verdict = answer.get("verdict") or answer.get("error")
            print(f"{time.monotonic() - begun:7.1f} s  {tool} {verdict}"[:110])
    return time.monotonic() - started


if __name__ == "__main__":
    main()
