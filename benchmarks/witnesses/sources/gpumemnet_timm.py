"""GPUMemNet's trainings of timm's models on an A100, by timm's own ``train.py``.

The options are not published. timm 1.0.9 is the first version with all models of the table, so its
script is run with its defaults, i.e. float32, SGD with momentum, and pictures of the model's own
size.
"""

import functools
import importlib
import io
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.witnesses.clones import bytes_of, extract
from benchmarks.witnesses.rows import MIB, Row, Sizes, Source

PATH = "Related_works/FakeTensor/fake_tensor.xlsx"
SCRIPT_COMMIT = "07278333"
"""Commit of timm 1.0.9."""
FULL_MIB = 40_000
"""MiB from which the table does not distinguish runs that fit from runs out of memory."""


class _EndedError(Exception):
    """The script is about to write its first checkpoint."""


def rows(clone: Path) -> list[Row]:
    """Return the rows that left memory free."""
    import pandas as pd

    table = pd.read_excel(io.BytesIO(bytes_of(clone, SOURCE.commit, PATH)))
    return [
        _row(clone, str(name).rpartition("_")[0], int(batch), int(mib))
        for name, batch, mib in table.iloc[:, :3].itertuples(index=False)
        if mib < FULL_MIB
    ]


def _row(clone: Path, model: str, batch: int, mib: int) -> Row:
    return Row(
        source=SOURCE.name,
        name=f"{model}, batch {batch}",
        metric="nvidia-smi",
        measured_bytes=mib * MIB,
        run=functools.partial(_sizes, clone, model, batch),
        traits={"model": model, "batch": batch},
    )


def _sizes(clone: Path, model: str, batch: int) -> Sizes:
    """Train with two batches and validate with one batch."""
    import torch

    from benchmarks.witnesses.training import emptied, peaks

    script = _script(clone)
    emptied()
    with tempfile.TemporaryDirectory() as folder:
        _pictures(Path(folder), {"train": 2 * batch, "validation": batch})
        words = [folder, "--model", model, "-b", str(batch), "--output", folder, "-j", "1"]
        with (
            mock.patch.object(sys, "argv", ["train.py", *words]),
            mock.patch.object(torch, "save", side_effect=_EndedError),
        ):
            try:
                script.main()
            except _EndedError:
                return peaks()
    raise RuntimeError("no checkpoint")


def _pictures(folder: Path, counts: dict[str, int]) -> None:
    from PIL import Image

    for split, count in counts.items():
        (folder / split / "one class").mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", (64, 64)).save(folder / split / "one class" / f"{number}.jpg")


@functools.cache
def _script(clone: Path) -> Any:
    """Import ``train.py`` and its version of timm."""
    from benchmarks.witnesses.training import hasten

    hasten()
    with tempfile.TemporaryDirectory() as folder:
        extract(clone, SCRIPT_COMMIT, ["train.py", "timm"], folder)
        sys.path.insert(0, folder)
        return importlib.import_module("train")


SOURCE = Source(
    name="gpumemnet-timm",
    repository="https://github.com/itu-rad/GPUMemNet",
    commit="f01eb05",
    paths=(PATH,),
    licence="none",
    made="A100-40GB, torch of 2024: timm's `train.py`; the largest nvidia-smi value",
    gpu="a100-40gb",
    rows=rows,
    also=("https://github.com/huggingface/pytorch-image-models",),
)
