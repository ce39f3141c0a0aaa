"""torchtitan's issue 929: Llama 3 8B in a clone at commit 9a2f5784 (the working folder), torch 2.8.

    export PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True
    harness dry-run --gpu h100-80gb --world-size 8 --steps 4 -- torchtitan_issue_929.py

Its arguments are options of ``torchtitan/train.py``. The texts are made here, and the tokenizer is
that of the tests, with as many words as Llama's.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path.cwd()))
ASSETS = Path("tests/assets")
ASSETS.joinpath("c4_test").mkdir(parents=True, exist_ok=True)
lines = [json.dumps({"text": f"Sentence {number} of a text. " * 400}) for number in range(400)]
ASSETS.joinpath("c4_test/data.json").write_text("\n".join(lines))

from torchtitan.config_manager import JobConfig  # noqa: E402
from torchtitan.datasets.tokenizer.tiktoken import TikTokenizer  # noqa: E402
from torchtitan.tools.logging import init_logger  # noqa: E402
from torchtitan.train import main  # noqa: E402

TikTokenizer.n_words = 128_256
init_logger()
config = JobConfig()
config.parse_args([
    "--job.config_file=torchtitan/models/llama/train_configs/llama3_8b.toml",
    f"--model.tokenizer_path={ASSETS}/test_tiktoken.model", "--training.dataset=c4_test",
    "--training.compile", *sys.argv[1:],
])  # fmt: skip
main(config)
