"""The largest batches that ran on an RTX 3090 in timm's benchmark of training.

``benchmark.py`` begins with 512 examples and takes the next smaller batch of its ladder until one
fits. So a published batch ran, and the batch above it did not.
"""

import csv
import functools
import importlib
import io
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.witnesses.clones import extract, text_of
from benchmarks.witnesses.rows import MIB, RefusedError, Row, Sizes, Source

COMMIT = "c865028"
PATHS = tuple(
    f"results/benchmark-train-amp-{order}-pt112-cu113-rtx3090.csv" for order in ("nchw", "nhwc")
)
FIRST = 512
"""First batch of the ladder; a model that ran with it has no larger batch."""
FITTED = 40
"""Number of first rows that determined the constant; they are not scored."""
OUTSIDE_BYTES = 1_600 * MIB
"""Constant for memory outside of the allocator. It makes 72 of the 76 decisions on these rows
right. With 2,000 MiB 72 are right, with 1,200 MiB 69, and with the catalogue's range for a newer
torch 62."""


def rows(clone: Path) -> list[Row]:
    """Return the rows whose batch has a larger batch in the ladder."""
    return [
        _row(clone, line, channels_last="nhwc" in path)
        for path in PATHS
        for line in csv.DictReader(io.StringIO(text_of(clone, COMMIT, path)))
        if int(line["train_batch_size"]) < FIRST
    ]


def _row(clone: Path, line: dict[str, str], *, channels_last: bool) -> Row:
    return Row(
        source=SOURCE.name,
        name=f"{line['model']}, {'nhwc' if channels_last else 'nchw'}",
        metric="batch",
        measured_bytes=int(line["train_batch_size"]),
        resolution_bytes=1,
        run=functools.partial(_batch, clone, line, channels_last=channels_last),
        traits={"model": line["model"]},
    )


def _batch(clone: Path, line: dict[str, str], *, channels_last: bool) -> Sizes:
    """Go down the ladder from the batch above the published batch; return the first that fits."""
    from benchmarks.witnesses.training import emptied

    script = _script(clone)
    published = int(line["train_batch_size"])
    above, rung = FIRST, FIRST
    while rung > published:
        above, rung = rung, script.decay_batch_step(rung)
    words = ["--bench=train", "--amp", "--num-warm-iter=0", "--num-bench-iter=5"]
    options = vars(script.parser.parse_args([*words, *["--channels-last"] * channels_last]))
    options |= {"model_name": line["model"], "precision": "amp"}
    del options["model"], options["amp"], options["batch_size"]
    pixels = int(line["train_img_size"])
    ran = (rung for rung in (above, published) if _runs(script, options, rung, pixels))
    batch = next(ran, script.decay_batch_step(published))
    emptied()
    return {"batch": batch}


def _runs(script: Any, options: dict[str, Any], batch: int, pixels: int) -> bool:
    """Return whether a training of five steps fits."""
    import torch

    from benchmarks.witnesses.training import emptied

    emptied()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(1 - OUTSIDE_BYTES / total)
    try:
        runner = script.TrainBenchmarkRunner(**options, batch_size=batch)
        for group in runner.optimizer.param_groups:
            group["foreach"] = False  # as torch 1.12 did, one parameter after another
        shown = runner.run()
    except torch.OutOfMemoryError:
        return False
    if shown["img_size"] != pixels:
        raise RefusedError(f"images of {shown['img_size']} pixels")
    return True


@functools.cache
def _script(clone: Path) -> Any:
    """Import ``benchmark.py`` and its timm, 0.6.6."""
    from torch.optim import SGD

    from benchmarks.witnesses.training import hasten

    hasten()
    filling = functools.partialmethod(SGD.zero_grad, set_to_none=False)
    setattr(SGD, "zero_grad", filling)  # noqa: B010 (as torch 1.12 did)
    with tempfile.TemporaryDirectory() as folder:
        extract(clone, COMMIT, ["benchmark.py", "timm"], folder)
        sys.path.insert(0, folder)
        return importlib.import_module("benchmark")


SOURCE = Source(
    name="timm-ladder",
    repository="https://github.com/huggingface/pytorch-image-models",
    commit=COMMIT,
    paths=PATHS,
    licence="Apache-2.0",
    made="RTX 3090, torch 1.12, CUDA 11.3: SGD, AMP; the largest batch that ran",
    gpu="rtx3090",
    rows=rows,
)
