"""torchtitan: Llama 3 in a clone of torchtitan (the working folder), on texts that are made here.

    harness dry-run --gpu h100-80gb --world-size 8 -- torchtitan_llama3.py llama3_debugmodel

Further arguments go to ``torchtitan.train``.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path.cwd()))
sys.modules["torchao"] = None  # a kernel of version 0.18 cannot be defined with Triton 3.9
CONFIG, *OPTIONS = sys.argv[1:]
ASSETS = Path("tests/assets")

ASSETS.joinpath("c4_test").mkdir(parents=True, exist_ok=True)
lines = [json.dumps({"text": f"Sentence {number} of a text. " * 400}) for number in range(400)]
ASSETS.joinpath("c4_test/data.json").write_text("\n".join(lines))

from torchtitan.config import CompileConfig  # noqa: E402
from torchtitan.hf_datasets.text_datasets import DATASETS  # noqa: E402
from torchtitan.models.llama3 import config_registry as configs  # noqa: E402
from torchtitan.train import main  # noqa: E402


def llama3_8b_of_issue_929():
    """Return the settings of March 2025: layers compiled, one loss over all tokens, no graphs."""
    config = configs.llama3_8b()
    config.loss = config.loss.loss_fn
    config.compile = CompileConfig(enable=True, components=["model"])
    config.training.disable_cuda_graphs = True
    return config


configs.llama3_8b_of_issue_929 = llama3_8b_of_issue_929

DATASETS["c4"] = DATASETS["c4_validation"] = DATASETS["c4_test"]  # no download
sys.argv[1:] = ["--module", "llama3", "--config", CONFIG, "--hf_assets_path", f"{ASSETS}/tokenizer"]
sys.argv += ["--metrics.no-enable-tensorboard", *OPTIONS]
main()
