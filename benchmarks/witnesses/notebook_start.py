"""Run the cells of an Unsloth notebook up to the memory that it prints before training.

python notebook_start.py NOTEBOOK.ipynb

Cells that make the model, the adapter and the trainer run unmodified. Cells that prepare data are
replaced by a stand-in, because data do not reach the GPU before training.
"""

import json
import os
import re
import sys
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "UNSLOTH_DISABLE_STATISTICS": "1"}
import unsloth  # noqa: F401 (first, because it patches the others)

# isort: split
import datasets

KEPT = re.compile(
    r"^model\b.*=.*\b(from_pretrained|get_peft_model)\(|^trainer = \w*Trainer\(|^def test_inference"
    r"|InformationRetrievalEvaluator|GB of memory reserved",
    re.MULTILINE,
)
END = "GB of memory reserved"
_ROWS = {
    "text": ["one two three four five six seven eight"] * 200,
    "question": ["one two three four five six seven eight"] * 200,
    "passage_text": ["word " * 1_500] * 200,  # longer than what a model takes
}
_DATA = ("dataset", "combined_dataset", "processed_ds", "train_dataset", "eval_dataset",
         "test_dataset")  # fmt: skip


def main(notebook: Path) -> None:
    """Run the cells; then print the number of the model's parameters."""
    data = datasets.Dataset.from_dict(_ROWS)
    names: dict[str, object] = {
        **dict.fromkeys(_DATA, data),
        "split_dataset": {"train": data, "test": data},
        "compute_metrics": None,
        "DataCollatorSpeechSeq2SeqWithPadding": lambda **_: None,
    }
    for cell in json.loads(notebook.read_text())["cells"]:
        code = "".join(cell["source"])
        if cell["cell_type"] == "code" and KEPT.search(code) and "pip install" not in code:
            _run(code, names)
            if END in code:
                break
    sizes = [(one.numel(), one.requires_grad) for one in names["model"].parameters()]  # type: ignore[attr-defined]
    trained = sum(size for size, grad in sizes if grad)
    print(f"Trainable parameters = {trained:,} of {sum(size for size, _ in sizes):,}")


def _run(code: str, names: dict[str, object]) -> None:
    """Run a cell; leave out a trainer that cannot be made here, which does not hold memory."""
    try:
        exec(compile(code, f"<{code.splitlines()[0]}>", "exec"), names)
    except ValueError as error:
        if not code.lstrip().startswith("from trl import"):
            raise
        print(f"trainer left out: {error}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
