"""``harness predict TARGET``: a user's own network from the command line."""

import json
from pathlib import Path
from typing import Any

import pytest

from harness.prediction.gpu.catalogue import GPUS
from tests.commands import Ask

MODEL = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, depth, width=32):
        super().__init__()
        self.embed = nn.Embedding(100, width)
        self.layers = nn.Sequential(*[nn.Linear(width, width) for _ in range(depth)])
    def forward(self, tokens, mask=None):
        return {"logits": self.layers(self.embed(tokens)).mean(1)}

MODEL = "a text"

def loss(output, labels):
    return nn.functional.cross_entropy(output["logits"], labels)

def optimizer(parameters):
    return torch.optim.RMSprop(parameters)

def inputs(batch):
    return torch.zeros(batch, 16, dtype=torch.int64), torch.zeros(batch, dtype=torch.int64)
"""


BAD = {
    "missing": "import no_such_package",
    "relative": "from . import layers",
    "opens": "\nopen('train.csv')",
    "unclosed": "x = (",
    "raises": "raise RuntimeError('mine')",
}
"""Files that cannot be imported."""


@pytest.fixture
def model(here: Path) -> str:
    (here / "my_model.py").write_text(MODEL)
    for name, text in BAD.items():
        (here / f"{name}.py").write_text(f"{text}\nNet = None\n")
    return "my_model.py:Net"


@pytest.mark.usefixtures("cuda_build")
def test_a_file_with_arguments_inputs_loss_and_optimizer(model: str, ask: Ask) -> None:
    flags = ["--arg", "depth=3", "--batch", "4", "--json"]
    flags += ["--loss", "my_model.py:loss", "--optimizer", "my_model.py:optimizer"]
    shape = ["--input", "int64:16"]

    def predicted(*more: str) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(ask(["predict", model, *more, *flags]).out)
        return answer

    on_gpu = predicted(*shape, "--gpu", "l4", "--memory", "800MiB")
    assert on_gpu["outcome"] == "predicted"
    assert on_gpu["fit"]["verdict"] == "fits"
    assert on_gpu["largest_batch"] > 4
    names = [layer["name"] for layer in on_gpu["layers"]]
    assert names[:4] == ["", "embed", "layers", "layers.0"]
    parameters = sum(layer["parameter_bytes"] for layer in on_gpu["layers"])
    assert parameters == 4 * (100 * 32 + 3 * (32 * 32 + 32))
    by_function = predicted("--inputs", "my_model.py:inputs")
    assert by_function["peak_live_bytes"] == predicted(*shape)["peak_live_bytes"]
    predicted("--input", "tokens=int64:16", "--input", "mask=bool:16")


@pytest.mark.slow
def test_the_answer_comes_first(model: str, monkeypatch: pytest.MonkeyPatch, ask: Ask) -> None:
    some = {name: GPUS[name] for name in ("v100-32gb", "t4")}
    monkeypatch.setattr("harness.planning.predict_step.USUAL", some)
    flags = ["--input", "int64:16", "--arg", "depth=1", "--loss", "my_model.py:loss"]
    lines = ask(["predict", model, *flags, "--gpu", "l4", "--memory", "800MiB"]).out.splitlines()
    assert lines[0].startswith("fits on l4: reserves ")
    assert lines[1].startswith("safe up to batch ")
    lines = ask(["predict", model, *flags, "--gpu", "all"]).out.splitlines()
    count = sum(" fits " in line for line in lines[2:])
    assert count >= 1, "the newest PyTorch has no kernels for the oldest GPU"
    assert f"fits on {count} of {count} GPUs; the smallest is t4" in lines[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["my_model.py:Net", "--input", "int64:16"], "if it is an object, write a function"),
        (["my_model.py:Net", "--input", "16", "--arg", "dept=1"], "'dept' (did you mean depth?)"),
        (["my_model.py:MODEL", "--input", "16"], "str cannot be called"),
        (["my_model.py:Net", "--arg", "depth=1"], "give --input SHAPE"),
        (["my_model.py:Net", "--arg", "depth", "--input", "16"], "--arg must be NAME=VALUE"),
        (["my_model.py:Net", "--arg", "depth=1", "--input", "3xq"], "3x224x224"),
        (["my_model.py:Net", "--input", "16", "--depth", "4"], "--depth cannot be given with a"),
        (["--input", "16"], "--input needs a TARGET"),
        (["notes.ipynb:Net", "--input", "16"], "jupyter nbconvert --to script"),
        (["model.pt:Net", "--input", "16"], "a file of weights has no network"),
        (["my_model.Net", "--input", "16"], "here my_model:Net"),
        (
            ["my_model.py:Net", "--input", "16", "--budget", "1GiB"],
            "GPU's memory, --memory 24GiB",
        ),
        (["my_model.py:Net", "--input", "16", "--torch", "2.13"], "--torch cannot be given"),
        (["my_model.py:Net", "--input", "16", "--autocast", "fp16"], "did you mean float16?"),
        (["my_model.py:Net", "--input", "float:16"], "did you mean float32?"),
        (["my_model.py:Net", "--input", "a=16", "--input", "16"], "all of them a name, or none"),
        (["my_model.py:Net", "--input", "16", "--answer", "foo"], "ANSWER is a number"),
        (["my_model.py:Net", "--inputs", "other.py:f"], "there is no file other.py"),
        (["my_model.py:Net", "--input", "16", "--html", "no/x.html"], "there is no folder no"),
        (["my_model.py:Net", "--input", "x=int64:16", "--arg", "depth=1"], "--inputs FILE.py:FUN"),
        (["missing.py:Net", "--input", "4"], "'no_such_package' (missing.py:1); install it into"),
        (["relative.py:Net", "--input", "4"], "write PACKAGE.MODULE:CALLABLE; here relative:Net"),
        (["opens.py:Net", "--input", "4"], "(opens.py:2); put what a script does under if __name"),
        (["unclosed.py:Net", "--input", "4"], "'(' was never closed (unclosed.py, line 1)"),
        (["raises.py:Net", "--input", "4"], "its import fails: RuntimeError: mine (raises.py:1)"),
    ],
)
@pytest.mark.usefixtures("model")
def test_a_mistake_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, ask: Ask
) -> None:
    error = ask(["predict", *arguments], 2).err
    assert message in error
    assert len(error.splitlines()) == 1


@pytest.mark.usefixtures("cuda_build")
def test_the_search_for_the_largest_batch_can_be_left_out(ask: Ask) -> None:
    step = ["predict", "mlp:2x64", "--gpu", "l4", "--json"]
    for more, is_searched in (([], True), (["--no-largest"], False)):
        fit = json.loads(ask([*step, *more]).out)["fit"]
        assert (fit["verdict"], fit["is_searched"]) == ("fits", is_searched)
        assert (fit["largest_batch"] is None) != is_searched
