"""Predict modules for CUDA on a CPU-only build and hold them against the dry run.

    python -m benchmarks.validation.compare_module_predictions --out FOLDER

Writes ``module-predictions.md`` and ``.csv``; exit code 1 if a requested peak differs, or a
reserved one by more than a segment.
"""

import json
import os
import sys
from itertools import product
from pathlib import Path

from benchmarks.validation.compare_predictions import CARDS, PEAKS, SEGMENT_BYTES, gpu_of
from benchmarks.validation.dry_run import DryRun, StubCard, parser, write_table
from benchmarks.validation.modules import MODULES, Module
from harness.dry_run.toolchain import torch_build
from harness.prediction.module.predict_module import predict_module

RECORDER = Path(__file__).with_name("record_modules.py")
ROOT = Path(__file__).parents[2]
Pairs = dict[str, tuple[int, int]]
"""By counter: the peak of the steady step, measured and predicted."""


def compare(name: str, case: Module, card: StubCard, dry_run: DryRun) -> Pairs:
    """Measure and predict the steady step."""
    os.environ["PYTHONPATH"] = str(ROOT)  # the recorder imports its modules from the tests
    measured = json.loads(dry_run.run([RECORDER, name], card).stdout)
    assert measured[-1] == measured[-2], "the step is steady"
    predicted = predict_module(
        case.build,
        case.batch,
        input_shape=case.input_shape,
        optimizer=case.optimizer,
        loss=case.loss,
        device="cuda",
        gpu=gpu_of(card),
        cudnn=False,
    ).cuda
    keys = {counter: f"{counter}_peak_bytes" for counter in PEAKS}
    return {c: (measured[-1][key], getattr(predicted, key)) for c, key in keys.items()}


def acceptable(pairs: Pairs) -> bool:
    """Return whether the requested peak is equal and the reserved one within a segment."""
    requested, reserved = pairs["requested"], pairs["reserved"]
    return requested[0] == requested[1] and abs(reserved[0] - reserved[1]) <= SEGMENT_BYTES


def main() -> int:
    """Measure, predict and write; return the exit code."""
    arguments = parser(__doc__).parse_args()
    dry_run = DryRun()
    rows, good = [], True
    for (name, case), card in [*product(MODULES.items(), CARDS)][:: arguments.every]:
        pairs = compare(name, case, card, dry_run)
        good = good and acceptable(pairs)
        cells = [f"{m}" if m == p else f"{m} ({p})" for m, p in pairs.values()]
        rows.append([name, case.optimizer, str(case.batch), card.capability, *cells])
        print(name, card.capability, pairs, flush=True)
    summary = (
        f"Peaks of the steady step of public modules on torch {torch_build().version} under the"
        " dry run, and what "
        '`harness.predict(..., device="cuda", cudnn=False)` says on a CPU-only build. Bytes; '
        "where they differ the prediction stands in brackets. Not predicted: the scratch of "
        "attention's backward pass, and where the engine adds two gradients in place. Written by "
        "`benchmarks/validation/compare_module_predictions.py`."
    )
    heads = ["module", "optimizer", "batch", "capability", *(f"{name} peak" for name in PEAKS)]
    write_table(
        arguments.out / "module-predictions",
        "Predictions of modules for CUDA",
        summary,
        heads,
        rows,
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
