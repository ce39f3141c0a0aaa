"""``hf:``, ``timm:`` and ``torchvision:``: networks by the name that a hub gives them."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import pytest

import harness
from harness.planning.model_hubs import named_step
from harness.schema.errors import StepError
from tests.commands import Ask, facts_of

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


def test_tokens_alone_are_labels_too_and_what_is_dropped_is_said(folder: Path) -> None:
    step, notes = named_step(harness.Step("hf:.", 4, inputs="int64:128"))
    assert [str(spec) for spec in step.specs] == ["input_ids=int64:128", "labels=int64:128"]
    assert step.loss == "model"
    assert "its tokens as labels, too" in notes[0]


def test_a_config_that_asks_for_quantized_weights_is_told_that_it_has_none(folder: Path) -> None:
    wanted = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (folder / "config.json").write_text(json.dumps({**TINY, "quantization_config": wanted}))
    step, notes = named_step(harness.Step(f"hf:{folder}", 4))
    assert "its quantization_config (bitsandbytes) is not applied" in notes[1]
    assert "all weights are bfloat16" in notes[1]
    assert "quantization_config" not in str(step.arguments)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["predict", "measure"])
def test_a_model_of_transformers_that_is_built_by_hand_gets_them_too(
    command: str, folder: Path, ask: Ask
) -> None:
    (folder / "own.py").write_text(BY_HAND)
    line = [command, "own.py:network", "--batch", "2", "--json", "--input"]
    alone = json.loads(ask([*line, "input_ids=int64:64"]).out)
    assert any("gets its tokens as labels, too" in note for note in alone["notes"])
    both = [*line, "input_ids=int64:64", "--input", "labels=int64:64", "--loss", "model"]
    given = json.loads(ask(both).out)
    assert alone["peak_live_bytes"] == given["peak_live_bytes"]


def predicted(ask: Ask, target: str, *more: str) -> dict[str, Any]:
    line = ["predict", target, "--batch", "2", "--gpu", "l4", "--optimizer", "adamw", "--json"]
    return facts_of(ask([*line, *more]).out.replace(target, "TARGET"))


@pytest.mark.slow
def test_it_is_the_network_that_one_builds_by_hand(folder: Path, ask: Ask) -> None:
    (folder / "own.py").write_text(BY_HAND)
    inputs = ["--input", "input_ids=int64:256", "--input", "labels=int64:256", "--loss", "model"]
    short, own = predicted(ask, "hf:."), predicted(ask, "own.py:network", *inputs)
    for name in ("peak_live_bytes", "saved_bytes", "largest_batch"):
        assert short[name] == own[name]
    smaller = predicted(ask, "hf:.", "--arg", "num_hidden_layers=1")
    assert smaller["peak_live_bytes"] < short["peak_live_bytes"]
    wrong = ["predict", "hf:.", "--gpu", "l4", "--arg", "num_layer=1"]
    assert "did you mean num_hidden_layers?" in ask(wrong, code=2).err


class Hub(BaseHTTPRequestHandler):
    """Answers as the hub does: it redirects on its own host, and an error has a code."""

    CONFIG = "/api/resolve-cache/models/org/tiny/0123/config.json"
    asked: ClassVar[list[tuple[str, str | None]]] = []

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers["Authorization"]))
        code, header, data = 403, ("X-Error-Code", self.path.split("/")[1]), b""
        if self.path == "/org/tiny/resolve/main/config.json":
            code, header = 307, ("Location", self.CONFIG)
        elif self.path == self.CONFIG:
            code, header, data = 200, ("ETag", '"1"'), json.dumps(TINY).encode()
        self.send_response(code)
        self.send_header(*header)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class's name
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, str | None]]]:
    """Serve Hugging Face's hub on this machine; yield each path that is asked and its token."""
    Hub.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}/")
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield Hub.asked
        server.shutdown()
        thread.join()


@pytest.mark.slow
def test_the_hub_is_asked_for_the_config_and_for_no_weights(
    folder: Path, hub: list[tuple[str, str | None]], ask: Ask
) -> None:
    of_hub = predicted(ask, "hf:org/tiny")
    token = "Bearer hf_secret"
    assert hub == [("/org/tiny/resolve/main/config.json", token), (Hub.CONFIG, token)]
    assert of_hub == predicted(ask, "hf:.")
    assert len(hub) == 2, "a folder asks nobody"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("RepoNotFound", "there is no such model, or it is private and needs HF_TOKEN or: hf auth"),
        ("GatedRepo", "accept its terms at http://127.0.0.1:[0-9]+/GatedRepo/x, then set HF_TOKEN"),
        ("EntryNotFound", "it has no config.json; give a folder with its config.json"),
        ("Other", "says 403 Forbidden"),
    ],
)
def test_what_the_hub_refuses_is_said_with_the_way_to_get_it(
    folder: Path, hub: list[tuple[str, str | None]], code: str, message: str
) -> None:
    with pytest.raises(StepError, match=f"hf:{code}/x: .*{message}"):
        named_step(harness.Step(f"hf:{code}/x", 4))
    assert len(hub) == 1


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
        ("hf:nested.json", "its config.json (is no JSON|has too many levels)"),
        ("hf:layers.json", "num_hidden_layers must be at most 10,000, got 10,000,000"),
        ("hf:strange.json", "the inputs of a model_type 'lama3' are not known; give --input"),
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
    (folder / "nested.json").write_text('{"model_type": ' * 20_000 + "1" + "}" * 20_000)
    (folder / "layers.json").write_text(json.dumps({**TINY, "num_hidden_layers": 10**7}))
    (folder / "unknown.json").write_text(json.dumps({**TINY, "architectures": ["LlamaForFoo"]}))
    (folder / "strange.json").write_text('{"model_type": "lama3"}')
    with pytest.raises(StepError, match=message.replace("?", ".")) as caught:
        named_step(harness.Step(target, 4))
    assert "\n" not in str(caught.value)


def test_the_name_of_a_hub_alone_is_taken_for_hugging_face(ask: Ask) -> None:
    said = ask(["predict", "meta-llama/Llama-3.1-8B", "--gpu", "l4"], code=2).err
    assert "is written hf:meta-llama/Llama-3.1-8B" in said
