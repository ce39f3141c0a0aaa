"""memsave_torch's memory after a forward pass of networks with some trained parameters.

Its own script runs here. The source does not name the GPU; a GPU of capability 8.6 with 48 GiB is
pretended. T5 and Mistral are made from configurations, with sparse files as weights. These facts
were inferred before a row was run:

- the package at the commit that added the table, because later ones lack its layers for ``Linear``
  and for norms (CNNs were first run with the last commit, whose ``Dropout`` fails; what it answered
  is the same);
- batches and the length of 256 from ``experiments/paper_demo.py`` of that commit;
- Transformers 4.43.3, the last version before that commit (31 July 2024).
"""

import functools
import io
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.witnesses.clones import extract, text_of
from benchmarks.witnesses.printed import output_of
from benchmarks.witnesses.rows import RefusedError, Row, Sizes, Source

TABLE = "results/paper/poster.csv"
CNNS = ("efficientnet_v2_l", "resnet101", "resnext101_64x4d")
"""Names of torchvision's models."""
CONFIGURATIONS: dict[str, tuple[str, int, dict[str, Any]]] = {
    "t5": ("google-t5/t5-base", 64, {
        "architectures": ["T5ForConditionalGeneration"], "model_type": "t5",
        "torch_dtype": "float32", "d_model": 768, "d_ff": 3072, "d_kv": 64, "num_heads": 12,
        "num_layers": 12, "vocab_size": 32128, "n_positions": 512,
        "relative_attention_num_buckets": 32, "dropout_rate": 0.1, "is_encoder_decoder": True,
        "decoder_start_token_id": 0, "eos_token_id": 1, "pad_token_id": 0,
    }),
    "mistral-7b": ("mistralai/Mistral-7B-v0.1", 16, {
        "architectures": ["MistralForCausalLM"], "model_type": "mistral",
        "torch_dtype": "bfloat16", "hidden_size": 4096, "intermediate_size": 14336,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
        "vocab_size": 32000, "max_position_embeddings": 32768, "sliding_window": 4096,
        "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "tie_word_embeddings": False,
    }),
}  # fmt: skip
"""Name, batch and configuration of models that the script loads from the hub."""
_FROZEN = [f"no_grad_{kind}_{part}" for kind in ("conv", "linear") for part in ("weights", "bias")]
CASES = {
    "All": [],
    "Input": ["grad_input", *_FROZEN, "no_grad_norm_weights", "no_grad_norm_bias"],
    "Norm": _FROZEN,
    "Surgical": ["surgical_first"],
}


def rows(clone: Path) -> list[Row]:
    """Return a row for each model, with PyTorch's layers and with the package's layers."""
    table = pd.read_csv(io.StringIO(text_of(clone, SOURCE.commit, TABLE)))
    return [
        Row(
            source=SOURCE.name,
            name=f"{model}, {case}",
            metric="allocated",
            measured_bytes=round(gib * (1 << 30)),
            resolution_bytes=1,
            run=functools.partial(_sizes, clone, model, case),
            traits={"model": model, "case": case},
        )
        for model, case, gib in zip(
            table["model"], table["case"], table["Memory Usage (GB)"], strict=True
        )
    ]


def _sizes(clone: Path, model: str, case: str) -> Sizes:
    plain, (name, _, evaluates) = model.removeprefix("memsave_"), case.partition(" (BN Eval")
    with tempfile.TemporaryDirectory() as folder:
        if plain in CNNS:
            words = ["--architecture=conv", "-B=64", "-C_in=3", "-HW=224", "-n_class=1000"]
        else:
            hub, batch, configuration = CONFIGURATIONS[plain]
            words = ["--architecture=transformer", f"-B={batch}", "-HW=256"]
            _write_model(Path(folder, hub), configuration)
        extract(clone, SOURCE.commit, ["experiments", "memsave_torch"], folder)
        Path(folder, "results").mkdir()
        words += [f"--model={model}", "--estimate=memory", "--device=cuda", "--print"]
        words += ["--bn_eval"] if evaluates else []
        words += ["--case", *CASES[name]] if CASES[name] else []
        script = Path(folder, "start.py")
        script.write_text(_START)
        said = output_of(script, SOURCE.gpu, ["--memory=48GiB"], words)
    numbers = [line for line in said.splitlines() if line.replace(".", "").isdigit()]
    if not numbers:
        raise RefusedError("its script prints no number")
    return {"allocated": round(float(numbers[0]) * (1 << 20))}


def _write_model(folder: Path, configuration: Mapping[str, Any]) -> None:
    from benchmarks.witnesses.empty_model import write  # Transformers is installed here

    write(folder, dict(configuration))


_START = """
import runpy, sys, torch
torch.nn.Parameter.__deepcopy__ = lambda one, memo: memo.setdefault(
    id(one), torch.nn.Parameter(torch.empty_like(one), one.requires_grad)
)  # the package copies a model on the host: Mistral's values would take 29 GB there
sys.path.insert(0, "")
import experiments
experiments.__path__ = ["experiments"]  # another package has this name, too
runpy.run_path("experiments/util/estimate.py", run_name="__main__")
"""

SOURCE = Source(
    name="memsave-torch",
    repository="https://github.com/plutonium-239/memsave_torch",
    commit="7854aac",
    paths=(TABLE,),
    licence="MIT",
    made="a GPU that is not named, torch of 2024: torch.cuda.max_memory_allocated",
    gpu="a10",
    rows=rows,
    scripts=True,
)
