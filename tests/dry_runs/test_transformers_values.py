"""Models of transformers decide by values of the GPU: the true ones, as read on the CPU."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from harness.dry_runs.own_code import is_own
from harness.dry_runs.run import dry_run

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cuda_build")]

MODELS = (
    "gpt2", "llama", "mistral", "qwen2", "qwen3", "gemma", "phi", "opt", "gpt_neox", "bert",
)  # fmt: skip
SIZE = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 160,
    "num_key_value_heads": 4, "intermediate_size": 128, "max_position_embeddings": 256,
    "head_dim": 16, "word_embed_proj_dim": 64, "ffn_dim": 128, "pad_token_id": 0,
}  # fmt: skip
CASES: dict[str, dict[str, Any]] = {
    "no mask": {},
    "no mask, checkpointing": {"checkpoint": True},
    "a mask of ones": {"padded": (0, 0)},
    "padded right": {"padded": (0, 3)},
    "padded left, cache": {"padded": (3, 0), "cache": True},
}


def peaks(case: dict[str, Any], device: str) -> dict[str, int]:
    """Return what each model requested at the peak of two training steps; nothing on the CPU."""
    torch: Any = importlib.import_module("torch")
    transformers: Any = importlib.import_module("transformers")
    requested = {}
    for name in MODELS:
        torch.manual_seed(0)
        config = transformers.CONFIG_MAPPING[name](**SIZE)
        kind = "AutoModelForMaskedLM" if name == "bert" else "AutoModelForCausalLM"
        model = getattr(transformers, kind).from_config(config).to(device).train()
        if case.get("checkpoint"):
            names = ("activation_checkpointing_enable", "gradient_checkpointing_enable")
            getattr(model, next(name for name in names if hasattr(model, name)))()
        tokens = torch.randint(1, 100, (2, 96))
        given = {"input_ids": tokens.to(device), "labels": tokens.to(device)}
        if "padded" in case:
            before, after = case["padded"]
            mask = torch.ones_like(tokens)
            mask[1, :before] = 0
            mask[1, 96 - after :] = 0
            given["attention_mask"] = mask.to(device)
        if name != "bert":
            given["use_cache"] = case.get("cache", False)
        for _ in range(2):
            model(**given).loss.backward()
        if device == "cuda":
            requested[name] = int(torch.cuda.memory_stats()["requested_bytes.all.peak"])
            del model, given
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
    return requested


@contextmanager
def read_values() -> Iterator[dict[str, set[float]]]:
    """Yield the values that Python reads of tensors, by the line that reads them."""
    import sys

    import torch

    seen: dict[str, set[float]] = {}
    kept = {name: getattr(torch.Tensor, name) for name in ("__bool__", "item", "__int__")}

    def reading(original: Any) -> Any:
        def read(tensor: Any, *arguments: Any) -> Any:
            value = original(tensor, *arguments)
            frame = sys._getframe(1)
            while frame.f_back is not None and is_own(frame.f_code.co_filename):
                frame = frame.f_back
            seen.setdefault(f"{frame.f_code.co_filename}:{frame.f_lineno}", set()).add(value)
            return value

        return read

    for name, original in kept.items():
        setattr(torch.Tensor, name, reading(original))
    try:
        yield seen
    finally:
        for name, original in kept.items():
            setattr(torch.Tensor, name, original)


@pytest.mark.parametrize("case", CASES)
def test_ten_models_take_what_they_take_with_the_answers_of_the_cpu(case: str) -> None:
    pytest.importorskip("transformers", reason="needs transformers")
    with read_values() as seen:
        peaks(CASES[case], "cpu")
    report = dry_run(peaks, CASES[case], "cuda", gpu="l4", quiet=True)
    assert report.outcome == "ok", report.evidence
    places = {read.place for read in report.value_reads if "transformers" in read.place}
    answers = {}
    for place in places & seen.keys():
        (value,) = seen[place]
        answers["/".join(Path(place).parts[-3:])] = float(value)
    told = dry_run(peaks, CASES[case], "cuda", gpu="l4", answers=answers, quiet=True)
    assert told.returned == report.returned
    assert isinstance(report.returned, dict)
    assert report.returned.keys() == set(MODELS)
