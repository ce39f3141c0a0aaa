"""Write the folder of a model on a hub from its configuration, with empty weights.

python empty_model.py FOLDER < config.json
"""

import json
import math
import struct
import sys
from pathlib import Path
from typing import Any, NamedTuple

import tokenizers
import torch
import transformers

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
_TEMPLATE = (
    "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant' }}{% endif %}"
)
_NF4 = {
    "quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4",
    "bnb_4bit_use_double_quant": True, "bnb_4bit_compute_dtype": "bfloat16",
}  # fmt: skip
_WIDTHS = {"bfloat16": ("BF16", 2), "float16": ("F16", 2), "float32": ("F32", 4)}


def write(folder: Path, config: dict[str, Any]) -> None:
    """Write configuration, weights and tokenizer, and further files for a sentence transformer."""
    folder.mkdir(parents=True)
    parts = {n: config.pop(n, "") for n in ("modules", "pooling", "processor", "quantized")}
    if parts["quantized"]:
        config["quantization_config"] = _NF4
    (folder / "config.json").write_text(json.dumps(config))
    with torch.device("meta"):
        kind = getattr(transformers, config["architectures"][0])
        model = kind(transformers.AutoConfig.from_pretrained(folder))
    _weights(folder, model, config["torch_dtype"], parts["quantized"])
    if parts["processor"]:
        _processor(folder, parts["processor"], config)
    else:
        _tokenizer(folder, has_types="type_vocab_size" in config)
    if parts["modules"]:
        _sentence_modules(folder, parts["modules"], parts["pooling"], config["hidden_size"])


def _tokenizer(folder: Path, *, has_types: bool) -> None:
    vocabulary = {word: index for index, word in enumerate(SPECIAL.values())}
    words = tokenizers.Tokenizer(
        tokenizers.models.WordLevel(vocabulary, unk_token=SPECIAL["unk_token"])
    )
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    inputs = ["input_ids", "attention_mask", *(["token_type_ids"] if has_types else [])]
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, model_max_length=32_768, chat_template=_TEMPLATE,
        model_input_names=inputs, **SPECIAL,
    ).save_pretrained(folder)  # fmt: skip


def _processor(folder: Path, name: str, config: dict[str, Any]) -> None:
    extractor = getattr(transformers, f"{name}FeatureExtractor")
    mel_bins = extractor(feature_size=config["num_mel_bins"], processor_class=f"{name}Processor")
    mel_bins.save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps({"<|endoftext|>": 0}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": f"{name}Tokenizer", "processor_class": f"{name}Processor"})
    )


def _weights(folder: Path, model: torch.nn.Module, dtype: str, quantized: str = "") -> None:
    """Write a sparse file of zeros, in which only the descriptions of weights use disk blocks."""
    names = {name for name, _ in (*model.named_parameters(), *model.named_buffers())}
    linear = {f"{name}.weight" for name, one in model.named_modules() if _is_quantized(name, one)}
    name, width = _WIDTHS[dtype]
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    contents: dict[int, bytes] = {}
    end = 0
    for key, value in model.state_dict().items():
        if key not in names:  # a tied weight has one name there, and two here
            continue
        parts = [Part("", name, list(value.shape), width)]
        if quantized and key in linear:
            parts = nf4_parts(list(value.shape), dtype)
        for part in parts:
            begin, end = end, end + math.prod(part.shape) * part.width
            header[key + part.ending] = {
                "dtype": part.dtype, "shape": part.shape, "data_offsets": [begin, end],
            }  # fmt: skip
            contents[begin] = part.content
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
        for begin, content in contents.items():
            file.seek(8 + len(text) + begin)
            file.write(content)


def _is_quantized(name: str, module: torch.nn.Module) -> bool:
    return isinstance(module, torch.nn.Linear) and name != "lm_head"


class Part(NamedTuple):
    """A tensor of a file of weights, i.e. a weight, or the description of a quantized weight."""

    ending: str
    dtype: str
    shape: list[int]
    width: int
    content: bytes = b""


def nf4_parts(shape: list[int], dtype: str) -> list[Part]:
    """Return the tensors that bitsandbytes keeps of a 4-bit weight with 8-bit scales.

    >>> [(part.ending, part.shape) for part in nf4_parts([64, 128], "bfloat16")][:2]
    [('', [4096, 1]), ('.absmax', [128])]
    """
    size = math.prod(shape)
    blocks = -(-size // 64)
    state = json.dumps({
        "quant_type": "nf4", "blocksize": 64, "dtype": dtype, "shape": shape,
        "nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": 0.0,
    }).encode()  # fmt: skip
    return [
        Part("", "U8", [size // 2, 1], 1),
        Part(".absmax", "U8", [blocks], 1),
        Part(".quant_map", "F32", [16], 4),
        Part(".nested_absmax", "F32", [-(-blocks // 256)], 4),
        Part(".nested_quant_map", "F32", [256], 4),
        Part(".quant_state.bitsandbytes__nf4", "U8", [len(state)], 1, state),
    ]


def _sentence_modules(folder: Path, modules: list[Any], pooling: str, width: int) -> None:
    kinds = ["Transformer", *(one if isinstance(one, str) else "Dense" for one in modules)]
    paths = ["", *(f"{index}_{kind}" for index, kind in enumerate(kinds) if index)]
    described = [
        {"idx": index, "name": str(index), "path": path,
         "type": f"sentence_transformers.models.{kind}"}
        for index, (kind, path) in enumerate(zip(kinds, paths, strict=True))
    ]  # fmt: skip
    (folder / "modules.json").write_text(json.dumps(described))
    for path, one in zip(paths[1:], modules, strict=True):
        (folder / path).mkdir()
        if not isinstance(one, str):
            dense = torch.nn.Linear(one[0], one[1], bias=False)
            _weights(folder / path, torch.nn.ModuleDict({"linear": dense}), "float32")
            settings = {"in_features": one[0], "out_features": one[1], "bias": False,
                        "activation_function": "torch.nn.modules.linear.Identity"}  # fmt: skip
        else:
            settings = {"word_embedding_dimension": width, f"pooling_mode_{pooling}": True}
        (folder / path / "config.json").write_text(json.dumps(settings))


if __name__ == "__main__":
    write(Path(sys.argv[1]), json.load(sys.stdin))
