"""Models of transformers under the dry run: followed values against answers taken from the CPU.

    python -m benchmarks.validation.dry_run_values [MODEL ...]

Each model trains two steps in six ways: without a mask, with one of ones, padded right, padded
left, without a cache, with checkpointing. Once its values are followed; once every value that it
reads is replaced by what the same program read on the CPU. The peaks must be equal. The table goes
to standard output. Needs transformers, which is no dependency of the project.
"""

import importlib
import sys
from collections.abc import Iterator
from typing import Any

from harness.dry_run.run import dry_run

MODELS = (
    *("GPT2", "Llama", "Mistral", "Qwen3", "Gemma3Text", "Phi3", "OPT", "Bert", "Falcon", "Bloom"),
    *("T5", "DistilBert", "Qwen2"),
)
_READS = ("__bool__", "item", "tolist", "__int__", "__float__", "__index__")
_HEADS = {
    "Bert": "BertForMaskedLM",
    "DistilBert": "DistilBertForMaskedLM",
    "GPT2": "GPT2LMHeadModel",
    "T5": "T5ForConditionalGeneration",
    "Gemma3Text": "Gemma3ForCausalLM",
}
_SIZES = {
    "hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 256,
    "n_embd": 128, "n_layer": 2, "n_head": 4, "n_positions": 2048, "n_layers": 2, "n_heads": 4,
    "dim": 128, "hidden_dim": 256, "ffn_dim": 256, "word_embed_proj_dim": 128, "d_model": 128,
    "d_kv": 32, "d_ff": 256, "num_layers": 2, "num_heads": 4, "num_key_value_heads": 2,
    "head_dim": 32, "sliding_window": 256, "max_position_embeddings": 2048, "vocab_size": 512,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


def _model(name: str) -> Any:
    transformers: Any = importlib.import_module("transformers")
    default = getattr(transformers, f"{name}Config")()
    known = {key: value for key, value in _SIZES.items() if key in default.to_dict()}
    config = type(default)(**known)
    return getattr(transformers, _HEADS.get(name, f"{name}ForCausalLM"))(config)


def _ways(torch: Any) -> Iterator[tuple[Any, dict[str, bool], bool]]:
    ones = torch.ones(4, 1024, dtype=torch.int64)
    right, left = ones.clone(), ones.clone()
    right[1, 700:] = left[2, :300] = 0
    yield from ((mask, {}, False) for mask in (None, ones, right, left))
    yield None, {"use_cache": False}, False
    yield ones, {}, True


def peaks(name: str, told: bool) -> list[list[int]]:
    """Return the allocated and reserved peak of each way's second step."""
    torch: Any = importlib.import_module("torch")
    if told:
        _tell(torch.Tensor, lambda: _train(torch, name, "cpu"))
    return _train(torch, name, "cuda")


def _train(torch: Any, name: str, device: str) -> list[list[int]]:
    found = []
    for mask, named, checkpointing in _ways(torch):
        torch.manual_seed(0)
        model = _model(name).to(device).train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        tokens = torch.randint(3, 512, (4, 1024))
        for _ in range(2):
            if device == "cuda":
                torch.cuda.reset_peak_memory_stats()
            given = {"input_ids": tokens.to(device), "labels": tokens.to(device)}
            given |= {} if "Bert" in name else named
            if mask is not None:
                given["attention_mask"] = mask.to(device)
            model(**given).loss.backward()
            model.zero_grad()
        if device == "cuda":
            found.append([torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()])
        del model, given
    return found


def _tell(tensor: Any, train_on_cpu: Any) -> None:
    """Note what the program reads on the CPU, and let tensors on the GPU read that in turn."""
    real = {name: getattr(tensor, name) for name in _READS}
    noted: list[Any] = []

    def noting(name: str) -> Any:
        def read(one: Any, *arguments: Any) -> Any:
            noted.append(real[name](one, *arguments))
            return noted[-1]

        return read

    for name in _READS:
        setattr(tensor, name, noting(name))
    train_on_cpu()
    in_turn = iter(list(noted))

    def telling(name: str) -> Any:
        return lambda one, *arguments: next(in_turn) if one.is_cuda else real[name](one, *arguments)

    for name in _READS:
        setattr(tensor, name, telling(name))


def main() -> int:
    """Print the table; return 1 if a peak differs."""
    wrong = 0
    print("| model | values read, known | ways with equal peaks |\n|---|---:|---:|")
    for name in sys.argv[1:] or MODELS:
        followed, told = (
            dry_run(peaks, name, told, gpu="a100-40gb", quiet=True) for told in (False, True)
        )
        pairs = list(zip(followed.returned or [], told.returned or [], strict=True))  # type: ignore[call-overload]
        equal = sum(one == other for one, other in pairs)
        wrong += equal < 6
        known = sum(read.known for read in followed.value_reads)
        count = sum(read.count for read in followed.value_reads)
        print(f"| {name} | {count}, {known} | {equal} of {len(pairs)} |", flush=True)
        if equal < 6:
            print(followed.evidence, told.evidence, pairs, file=sys.stderr)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
