"""Batches with the shape and type of Fashion-MNIST, synthetic or of the real images.

Both kinds fill the same two preallocated tensors, so the memory of a step does not depend on the
kind. The real images are loaded before the measurement.
"""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from harness.schema.user_cache import cache_folders
from harness.schema.workload import Workload
from harness.training.image_files import (
    FOLDER_VARIABLE,
    IdxFile,
    images_here,
    images_in,
    missing_images,
)

Fill = Callable[[Tensor, Tensor | None], None]
"""Fills examples (batch, in_features) and, if given, int64 labels (batch,) in place."""


def source(workload: Workload) -> Fill:
    """Return the function that fills a batch for ``workload``, after real images are read."""
    if workload.data == "synthetic":
        return lambda x, y: _fill_synthetic(x, y, workload.classes)
    images, labels = load_fashion_mnist(train=True)
    # A number would become two small blocks inside the build; this tensor is made before it.
    scale = torch.tensor(1 / 255, dtype=getattr(torch, workload.dtype))
    return lambda x, y: _fill_real(x, y, images, labels, scale)


def _fill_synthetic(x: Tensor, y: Tensor | None, classes: int) -> None:
    x.uniform_()
    if y is not None:
        y.random_(0, classes)


def _fill_real(x: Tensor, y: Tensor | None, images: Tensor, labels: Tensor, scale: Tensor) -> None:
    """Copy images times ``scale``, starting over if the batch is larger than the set."""
    for start in range(0, len(x), len(images)):
        rows = x[start : start + len(images)]
        rows.copy_(images[: len(rows)])
        if y is not None:
            y[start : start + len(images)].copy_(labels[: len(rows)])
    x.mul_(scale)


def load_fashion_mnist(*, train: bool) -> tuple[Tensor, Tensor]:
    """Return (images, labels): uint8 (n, 784) and int64 (n,).

    The files are in the folder $HARNESS_DATA. If it is not set, they are in the folder of Debian's
    ``dataset-fashion-mnist`` or of torchvision's downloads, or are downloaded.
    """
    found = images_here(train)
    if found is None and FOLDER_VARIABLE not in os.environ:
        found = _download(train)
    if found is None:
        raise missing_images()
    images, labels = (
        torch.frombuffer(one.values, dtype=torch.uint8).reshape(one.shape) for one in found
    )
    return images.reshape(len(images), -1), labels.to(torch.int64)


def _download(train: bool) -> tuple[IdxFile, IdxFile] | None:
    """Let torchvision download into the user's cache; None if that fails (offline)."""
    with contextlib.suppress(ImportError, RuntimeError, OSError):
        from torchvision.datasets import FashionMNIST

        folder = FashionMNIST(next(cache_folders()), download=True).raw_folder
        return images_in(Path(folder), train)
    return None
