"""Reserved memory before training in notebooks of Unsloth, executed on Colab.

Unsloth runs here on a pretended GPU, with the notebook's own cells. Hubs cannot be reached, so a
model is made from its configuration, with a sparse file as weights. The environment has unsloth and
unsloth_zoo 2026.1, transformers 4.57, trl 0.22, peft 0.18, and sentence-transformers, bitsandbytes,
xformers and torchao of the same months.
"""

import functools
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from benchmarks.witnesses.clones import bytes_of
from benchmarks.witnesses.printed import output_of, published_output
from benchmarks.witnesses.rows import RefusedError, Row, Sizes, Source

COMMIT = "bdda2efc"
GIB = 1 << 30
FOLDER = Path(__file__).parent.parent
FILES = "unsloth_notebooks.toml", "unsloth_quantized.toml"
GPUS = {"Tesla T4": "t4", "NVIDIA L4": "l4"}
ANSWERS = ("tokenizer_utils.py:233=none", "tokenizer_utils.py:250=0")
"""Answers to reads of values; Unsloth searches untrained tokens, which the notebooks do not
have."""
_RESERVED = re.compile(r"([\d.]+) GB of memory reserved")
_PARAMETERS = re.compile(r"[Tt]rainable parameters = ([\d,]+)(?: of ([\d,]+))?")


def rows(clone: Path) -> list[Row]:
    """Return a row for each notebook without quantized weights."""
    return rows_of(clone, FILES[0], SOURCE.name)


def rows_of(clone: Path, file: str, source: str) -> list[Row]:
    """Return a row for each notebook of a file."""
    readings = tomllib.loads((FOLDER / file).read_text())["readings"]
    return [_row(clone, path, model, source) for path, model in readings.items()]


def _row(clone: Path, path: str, model: str, source: str) -> Row:
    text = published_output(bytes_of(clone, COMMIT, path))
    gpu = next(name for said, name in GPUS.items() if said in text)
    return Row(
        source=source,
        name=f"{Path(path).stem}, before training",
        metric="reserved",
        measured_bytes=reserved(text),
        resolution_bytes=GIB // 1000,
        run=functools.partial(_sizes, clone, path, model, gpu),
        traits={"model": model},
        gpu=gpu,
    )


def reserved(text: str) -> int:
    r"""Return the first reading that a notebook prints.

    >>> reserved("GPU = Tesla T4.\n0.832 GB of memory reserved.")
    893353198
    """
    found = _RESERVED.search(text)
    if not found:
        raise RefusedError("the notebook does not print the memory that is reserved")
    return round(float(found[1]) * GIB)


def config_of(model: str) -> dict[str, Any]:
    """Return the entries of a model's ``config.json`` that decide shapes."""
    files = (tomllib.loads((FOLDER / file).read_text()) for file in FILES)
    models = {name: each for file in files for name, each in file["models"].items()}
    one: dict[str, Any] = models[model]
    return models[one["same_as"]] if "same_as" in one else one


def _sizes(clone: Path, path: str, model: str, gpu: str) -> Sizes:
    notebook = bytes_of(clone, COMMIT, path)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "notebook.ipynb").write_bytes(notebook)
        made = [sys.executable, str(FOLDER / "empty_model.py"), f"{folder}/{model}"]
        subprocess.run(made, input=json.dumps(config_of(model)), text=True, check=True)
        script = Path(folder, "notebook_start.py")
        script.write_bytes((FOLDER / script.name).read_bytes())
        options = [f"--answer={one}" for one in ANSWERS]
        said = output_of(script, gpu, options, ["notebook.ipynb"])
    same_parameters(said, published_output(notebook))
    return {"reserved": reserved(said)}


def same_parameters(ours: str, theirs: str) -> None:
    """Refuse an answer if the model's number of parameters differs from the notebook's.

    >>> same_parameters("Trainable parameters = 8 of 9", "Number of trainable parameters = 8")
    """
    here, there = _PARAMETERS.search(ours), _PARAMETERS.search(theirs)
    pairs = zip(here.groups(), there.groups(), strict=True) if here and there else ()
    if any(one and other and one != other for one, other in pairs):
        raise RefusedError(f"{here and here[0]} here, and {there and there[0]} in the notebook")


SOURCE = Source(
    name="unsloth-notebooks",
    repository="https://github.com/unslothai/notebooks",
    commit=COMMIT,
    paths=("nb/*.ipynb",),
    licence="LGPL-3.0",
    made="T4 and L4, torch 2.6 to 2.9, Unsloth 2025.7 to 2026.1; predicted with torch 2.9.0+cu128",
    gpu="t4",
    rows=rows,
    scripts=True,
)
