"""The compiler's stand-in, each time in a process that has not loaded PyTorch."""

import subprocess
import sys

import pytest

BEGIN = """
import os, sys
from harness.processes import compiler_on_demand
compiler_on_demand.postpone()
import torch
from torch.optim import Optimizer

def is_loaded(): return "torch._dynamo.convert_frame" in sys.modules

def step(network):
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.ones(4, 8)).sum().backward()
    optimizer.step(); optimizer.zero_grad()

def in_fork(function):
    pid = os.fork()
    if not pid:
        os._exit(bool(function()))
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

network = torch.nn.Linear(8, 2)
step(network)
assert not is_loaded()
function = Optimizer.add_param_group.__wrapped__
assert function.__dynamo_disable is function
"""

USES = {
    "a part that is imported": "import torch._dynamo.config as part",
    "a function of it": "from torch._dynamo import allow_in_graph",
    "a function of a part": "from torch._dynamo.utils import counters",
    "a compiled network": "step(torch.compile(network, backend='eager'))",
}

END = """
import importlib, torch._dynamo, torch._dynamo.utils
assert is_loaded()
assert torch._dynamo is sys.modules["torch._dynamo"] and torch._dynamo.__spec__
for name in ("config", "utils", "eval_frame"):
    part = sys.modules[f"torch._dynamo.{name}"]
    assert getattr(torch._dynamo, name) is part is importlib.import_module(part.__name__), name
    assert part.__file__.endswith(f"{name}.py")
step(network)
function = Optimizer.add_param_group.__wrapped__
assert function.__dynamo_disable is not function
assert torch.compile(network, backend="eager")(torch.ones(4, 8)).shape == (4, 2)
assert torch._dynamo.utils.counters["stats"]["unique_graphs"]
"""


def passes(text: str) -> None:
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_what_the_stand_in_does_not_have_loads_the_compiler_once(use: str) -> None:
    passes(f"{BEGIN}{use}\n{END}")


@pytest.mark.slow
def test_a_fork_inherits_what_an_earlier_one_had_to_load() -> None:
    passes(
        f"{BEGIN}assert not in_fork(is_loaded)\n"
        "assert in_fork(lambda: torch.compiler.disable(print) and is_loaded())\n"
        "assert not is_loaded() and in_fork(is_loaded)\n"
        f"{END}"
    )
