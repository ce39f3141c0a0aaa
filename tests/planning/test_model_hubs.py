"""``hf:``, ``timm:`` and ``torchvision:``: networks by the name that a hub gives them."""

import json
from pathlib import Path
from typing import Any

import pytest

import harness
from harness.planning.model_hubs import named_step
from harness.schema.errors import StepError
from tests.commands import Ask

TINY = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 64,
    "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 500,
    "max_position_embeddings": 256, "torch_dtype": "bfloat16",
}  # fmt: skip
BY_HAND = """
import json, torch
from transformers import AutoModelForCausalLM, LlamaConfig

def network():
    config = LlamaConfig(**json.load(open("config.json")))
    return AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("transformers")
    (tmp_path / "config.json").write_text(json.dumps(TINY))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_config_gives_tokens_labels_loss_and_type(folder: Path) -> None:
    step, notes = named_step(harness.Step(f"hf:{folder}", 4))
    assert [str(spec) for spec in step.specs] == [
        "input_ids=int64:256", "labels=int64:256",
    ]  # fmt: skip
    assert step.loss == "model"
    assert "LlamaForCausalLM" in notes[0]
    assert "bfloat16 weights" in notes[0]
    without, _ = named_step(harness.Step("hf:./config.json", 4, mode="inference"))
    assert [spec.name for spec in without.specs] == ["input_ids"]


@pytest.mark.slow
def test_it_is_the_network_that_one_builds_by_hand(folder: Path, ask: Ask) -> None:
    (folder / "own.py").write_text(BY_HAND)

    def predicted(target: str, *more: str) -> dict[str, Any]:
        line = ["predict", target, "--batch", "2", "--gpu", "l4", "--optimizer", "adamw", "--json"]
        answer: dict[str, Any] = json.loads(ask([*line, *more]).out)
        return answer

    inputs = ["--input", "input_ids=int64:256", "--input", "labels=int64:256", "--loss", "model"]
    short, own = predicted("hf:."), predicted("own.py:network", *inputs)
    assert short["target"] == "hf:."
    for name in ("peak_live_bytes", "saved_bytes", "largest_batch"):
        assert short[name] == own[name]
    smaller = predicted("hf:.", "--arg", "num_hidden_layers=1")
    assert smaller["peak_live_bytes"] < short["peak_live_bytes"]
    wrong = ["predict", "hf:.", "--gpu", "l4", "--arg", "num_layer=1"]
    assert "did you mean num_hidden_layers?" in ask(wrong, code=2).err


def test_a_network_of_timm_or_torchvision_has_an_input() -> None:
    of_torchvision, _ = named_step(harness.Step("torchvision:resnet50", 4))
    assert (of_torchvision.target, of_torchvision.inputs) == (
        "torchvision.models:get_model", "3x224x224",
    )  # fmt: skip
    assert named_step(harness.Step("torchvision:swin_b_384", 4))[0].inputs == "3x384x384"
    own, notes = named_step(harness.Step("torchvision:resnet50", 4, inputs="3x64x64"))
    assert (own.inputs, notes) == ("3x64x64", ())


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("hf:Qwen/Qwen3-0.6B", "HF_HUB_OFFLINE is set; give a folder with its config.json"),
        ("hf:./nothing", "there is no file nothing"),
        ("hf:broken.json", "its config.json is no JSON"),
        ("hf:no_type.json", "names no model_type"),
        ("hf:unknown.json", "the inputs of a LlamaForFoo are not known; give --input"),
    ],
)
def test_what_cannot_be_had_is_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, target: str, message: str
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(folder))
    (folder / "broken.json").write_text("{")
    (folder / "no_type.json").write_text("{}")
    (folder / "unknown.json").write_text(json.dumps({**TINY, "architectures": ["LlamaForFoo"]}))
    with pytest.raises(StepError, match=message.replace("?", ".")) as caught:
        named_step(harness.Step(target, 4))
    assert "\n" not in str(caught.value)


def test_the_name_of_a_hub_alone_is_taken_for_hugging_face(ask: Ask) -> None:
    said = ask(["predict", "meta-llama/Llama-3.1-8B", "--gpu", "l4"], code=2).err
    assert "is written hf:meta-llama/Llama-3.1-8B" in said
