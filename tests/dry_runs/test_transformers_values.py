"""Models of transformers decide by values of the GPU, all of which the dry run knows."""

import importlib
from typing import Any

import pytest

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


def train(case: dict[str, Any]) -> None:
    """Take two training steps with each model."""
    torch: Any = importlib.import_module("torch")
    transformers: Any = importlib.import_module("transformers")
    for name in MODELS:
        torch.manual_seed(0)
        config = transformers.CONFIG_MAPPING[name](**SIZE)
        kind = "AutoModelForMaskedLM" if name == "bert" else "AutoModelForCausalLM"
        model = getattr(transformers, kind).from_config(config).cuda().train()
        if case.get("checkpoint"):
            names = ("activation_checkpointing_enable", "gradient_checkpointing_enable")
            getattr(model, next(name for name in names if hasattr(model, name)))()
        tokens = torch.randint(1, 100, (2, 96))
        given = {"input_ids": tokens.cuda(), "labels": tokens.cuda()}
        if "padded" in case:
            before, after = case["padded"]
            mask = torch.ones_like(tokens)
            mask[1, :before] = 0
            mask[1, 96 - after :] = 0
            given["attention_mask"] = mask.cuda()
        if name != "bert":
            given["use_cache"] = case.get("cache", False)
        for _ in range(2):
            model(**given).loss.backward()


@pytest.mark.parametrize("case", CASES)
def test_ten_models_ask_nothing_that_is_not_known(case: str) -> None:
    pytest.importorskip("transformers", reason="needs transformers")
    report = dry_run(train, CASES[case], gpu="l4", quiet=True)
    assert report.outcome == "ok", report.evidence
    reads = [read for read in report.value_reads if "transformers" in read.place]
    assert reads
    assert all(read.known == read.count for read in reads), reads
