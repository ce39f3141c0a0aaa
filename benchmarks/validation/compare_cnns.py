"""Compare the reserved peak of CNNs by the estimate with the CUDA dry run, on several GPUs.

    python -m benchmarks.validation.compare_cnns > results/cuda-dry-run/cnns.csv

``compare_public_models`` compares on one GPU only, for which the rules of workspaces were made.
"""

import csv
import sys

import harness

NETWORKS = (
    ("alexnet", 64), ("vgg11", 64), ("resnet18", 64), ("squeezenet1_1", 64), ("resnet50", 64),
    ("googlenet", 64), ("video:mc3_18", 16), ("video:r3d_18", 16), ("vgg11", 8), ("alexnet", 8),
)  # fmt: skip
GPUS = ("t4", "l4", "h100-80gb", "rtx4090")


def main() -> None:
    """Write a row for each GPU, type and network."""
    rows = csv.writer(sys.stdout, lineterminator="\n")
    rows.writerow(["gpu", "autocast", "network", "batch", "dry run", "estimate"])
    for gpu in GPUS:
        for autocast in (None, "float16"):
            for network, batch in NETWORKS:
                peaks = _reserved(network, batch, gpu, autocast)
                rows.writerow([gpu, autocast or "", network, batch, *peaks])
                sys.stdout.flush()


def _reserved(network: str, batch: int, gpu: str, autocast: str | None) -> list[int | None]:
    """Return the reserved peak of a training step by the dry run and by the estimate, in bytes."""
    module, _, name = network.rpartition(":")
    step = harness.Step(
        f"torchvision.models{'.' * bool(module)}{module}:{name}",
        batch,
        inputs="3x8x112x112" if module else "3x224x224",
        loss="sum" if name == "googlenet" else "cross-entropy",  # its output is a tuple
        autocast=autocast,
    )
    reports = (harness.predict(step, gpu=gpu, method=by) for by in ("dry-run", "estimate"))
    return [None if one.cuda is None else one.cuda.reserved_peak_bytes for one in reports]


if __name__ == "__main__":
    main()
