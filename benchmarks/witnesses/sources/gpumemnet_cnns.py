"""GPUMemNet's six CNNs on an A100, ImageNet's shapes; the 18 rows are cited here."""

import functools
from pathlib import Path

from torch import nn

from benchmarks.witnesses.rows import MIB, RefusedError, Row, Source
from benchmarks.witnesses.training import Training

EXAMPLES, EVALUATED = 1_281_167, 50_000
MEASURED = {
    "vgg16": (8_222, 13_642, 24_408),
    "resnet50": (5_262, 8_536, 15_120),
    "xception": (7_202, 11_520, 22_978),
    "mobilenet_v2": (4_544, 7_224, 12_578),
    "efficientnet_b0": (4_958, 7_844, 13_832),
    "inception_v3": (6_346, 10_560, 19_018),
}
"""Published MiB (Sheet1, column C) at the batches 32, 64 and 128."""
CLASSES = {
    "vgg16": (1, 1, 2), "resnet50": (1, 1, 2), "xception": (1, 1, 2), "mobilenet_v2": (0, 1, 1),
    "efficientnet_b0": (0, 1, 1), "inception_v3": (0, 1, 1),
}  # fmt: skip
"""GPUMemNet's class (column D), which stands for (class + 1) x 8,000 MiB."""


def rows(_clone: Path) -> list[Row]:
    """Return the 18 rows."""
    return [
        Row(
            source=SOURCE.name,
            name=f"{network}, batch {batch}",
            metric="nvidia-smi",
            measured_bytes=measured * MIB,
            training=functools.partial(_training, network, batch),
            traits={"network": network, "batch": batch},
            published={"GPUMemNet": (known + 1) * 8_000 * MIB},
        )
        for network in MEASURED
        for batch, measured, known in zip(
            (32, 64, 128), MEASURED[network], CLASSES[network], strict=True
        )
    ]


def _training(network: str, batch: int) -> Training:
    side = 299 if network == "inception_v3" else 224
    return Training(
        network=functools.partial(_network, network),
        shape=(3, side, side),
        classes=1_000,
        batch=batch,
        batches=(batch,) * 3 + (EXAMPLES % batch,),
        evaluated=(batch,) * 2 + (EVALUATED % batch,),
        summary_shape=(2, 3, side, side),
    )


def _network(name: str) -> nn.Module:
    if name == "xception":
        try:
            import timm
        except ImportError as error:
            raise RefusedError("needs timm") from error
        made: nn.Module = timm.create_model("legacy_xception", num_classes=1_000)
        return made
    from torchvision import models

    options = {"aux_logits": False, "init_weights": False} if name == "inception_v3" else {}
    network: nn.Module = getattr(models, name)(weights=None, **options)
    return network


SOURCE = Source(
    name="gpumemnet-cnns",
    repository="https://github.com/itu-rad/GPUMemNet",
    commit="f01eb05",
    paths=("Test_Pipeline/GPUMemNet_CNN.xlsx",),
    licence="none",
    made="A100-SXM4-40GB, torch of 2024: Adam, float32; the largest nvidia-smi value",
    gpu="a100-40gb",
    rows=rows,
    cited=True,
)
