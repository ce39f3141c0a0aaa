"""GPUMemNet's 6,000 trainings of MLPs on an A100.

The network of a row is built from the list of layers that the row publishes. The repository has no
licence, so its scripts are described here and not copied.
"""

import ast
import contextlib
import csv
import functools
import io
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.witnesses.clones import CloneError, bytes_of, text_of
from benchmarks.witnesses.rows import MIB, Row, Source
from benchmarks.witnesses.training import Training

COMMIT = "f01eb05"
EXAMPLES = 4_096
MOST_STEPS = 8
"""Largest number of full batches that are run per epoch; the published runs took a minute."""
PATHS = ("Datasets/MLP/mlp_data_step1.csv", "Datasets/MLP/mlp_data_step2.csv")
NAMED = re.compile(r"input:(\d+)_output:(\d+)_depth:(\d+)_arch:([a-z]+)_batch:(\d+)")
DROPOUT = re.compile(r"_dropout:([\d.]+)_dropout:")
CLASSIFIER = "Ensemble/trained_models/mlp4mlp/mlp4mlp.ckpt"
ACTIVATIONS = (
    "ELU", "GELU", "Identity", "LeakyReLU", "Mish", "PReLU", "ReLU", "SELU", "SiLU", "Softplus",
    "Tanh",
)  # fmt: skip
NUMBERS = (
    "Depth", "Batch Size", "Total Parameters", "Total Activations", "Batch Normalization Layers",
    "Dropout Layers",
)  # fmt: skip
"""Inputs of GPUMemNet's classifier, which encodes the activation function as an angle."""
Layers = tuple[tuple[str, int, int], ...]
"""Kind, outputs and parameters of each layer."""


def rows(clone: Path) -> list[Row]:
    """Return every row, beginning with the first table."""
    return [row for path in PATHS for row in _table(clone, path)]


def _table(clone: Path, path: str) -> Iterator[Row]:
    second = path == PATHS[1]
    lines = list(csv.DictReader(io.StringIO(text_of(clone, COMMIT, path))))
    classes = _classes(clone, lines) if second else []
    for number, line in enumerate(lines):
        named = NAMED.match(line["Filename"])
        assert named, line["Filename"]
        inputs, outputs, depth, batch = (int(named[group]) for group in (1, 2, 3, 5))
        dropout = DROPOUT.search(line["Filename"])
        rate = float(dropout[1].rstrip(".")) if dropout else 0.0
        layers: Layers = tuple(ast.literal_eval(line["Activations-Params"]))
        yield Row(
            source=SOURCE.name,
            name=line["Filename"].removesuffix(".out"),
            metric="nvidia-smi",
            measured_bytes=int(line["Max GPU Memory (MiB)"]) * MIB,
            training=functools.partial(
                _training, layers, inputs, outputs, rate, batch, second=second
            ),
            traits={
                "inputs": inputs,
                "classes": outputs,
                "depth": depth,
                "batch": batch,
                "architecture": named[4],
                "parameters": sum(parameters for _, _, parameters in layers),
                "table": 2 if second else 1,
            },
            published={"GPUMemNet": classes[number]} if classes else {},
        )


def _classes(clone: Path, lines: Sequence[dict[str, str]]) -> list[int]:
    """Return the upper end of GPUMemNet's class of 1,000 MiB for each row."""
    with contextlib.suppress(CloneError):
        file = io.BytesIO(bytes_of(clone, COMMIT, CLASSIFIER))
        state = torch.load(file, weights_only=True, map_location="cpu")["state_dict"]
        angles = [
            ACTIVATIONS.index(line["Activation Function"]) * math.pi / len(ACTIVATIONS)
            for line in lines
        ]
        features = torch.tensor(
            [
                [*(float(line[name]) for name in NUMBERS), math.sin(angle), math.cos(angle)]
                for line, angle in zip(lines, angles, strict=True)
            ]
        )
        members = sorted({name.split(".model.")[0] for name in state})
        logits = sum(_member(state, f"{member}.model.")(features) for member in members)
        return [(int(number) + 2) * 1_000 * MIB for number in logits.argmax(1)]
    return []


def _member(state: dict[str, Tensor], prefix: str) -> nn.Sequential:
    """Return one network of the ensemble, whose linear layers except the last are normalized."""
    own = {name.removeprefix(prefix): one for name, one in state.items() if name.startswith(prefix)}
    made: list[nn.Module] = []
    for name, weight in own.items():
        if name.endswith(".weight"):
            if weight.dim() == 2:
                made.append(nn.Linear(weight.shape[1], weight.shape[0]))
            else:
                made += [nn.BatchNorm1d(weight.shape[0]), nn.ReLU()]
    network = nn.Sequential(*made).eval()
    network.load_state_dict(own)
    return network.requires_grad_(requires_grad=False)


def _training(
    layers: Layers, inputs: int, outputs: int, rate: float, batch: int, *, second: bool
) -> Training:
    last = EXAMPLES % batch
    epoch = (batch,) * min(EXAMPLES // batch, MOST_STEPS) + ((last,) if last else ())
    return Training(
        network=functools.partial(_network, layers, inputs, rate, flattens=second),
        shape=(inputs,),
        classes=outputs,
        batch=batch,
        batches=2 * epoch + 2 * (batch,),
        summary_shape=(2, 1, inputs),
        binary=outputs == 1,
        reshapes=second,
    )


def _network(layers: Layers, inputs: int, rate: float, *, flattens: bool) -> nn.Sequential:
    made: list[nn.Module] = [nn.Flatten()] if flattens else []
    width = inputs
    for kind, outputs, parameters in layers:
        if kind == "linear":
            assert parameters == (width + 1) * outputs, (kind, width, outputs, parameters)
            made.append(nn.Linear(width, outputs))
            width = outputs
        elif kind == "batch_normalization":
            made.append(nn.BatchNorm1d(outputs))
        elif kind == "dropout":
            made.append(nn.Dropout(rate))
        else:
            made.append(nn.Softmax(dim=1) if kind == "Softmax" else getattr(nn, kind)())
    return nn.Sequential(*made)


SOURCE = Source(
    name="gpumemnet-mlps",
    repository="https://github.com/itu-rad/GPUMemNet",
    commit=COMMIT,
    paths=PATHS,
    licence="none",
    made="A100-SXM4-40GB, torch of 2024: Adam, float32, 60 to 75 s of training; the largest"
    " nvidia-smi value at 1 Hz",
    gpu="a100-40gb",
    rows=rows,
)
