"""Fills batches in the shape of Fashion-MNIST with random values or with the real images.

Random values and images are written into the same preallocated tensors, so the source of the values
does not affect memory. The real images are loaded before memory is measured.
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
"""Function that writes examples (batch, in_features) and labels (batch,) into two tensors."""


def source(workload: Workload) -> Fill:
    """Return a function that fills a batch; if ``workload`` uses real images, load them first."""
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
    """Copy the images, multiplied by ``scale``; repeat images if the batch exceeds the data set."""
    for start in range(0, len(x), len(images)):
        rows = x[start : start + len(images)]
        rows.copy_(images[: len(rows)])
        if y is not None:
            y[start : start + len(images)].copy_(labels[: len(rows)])
    x.mul_(scale)


def load_fashion_mnist(*, train: bool) -> tuple[Tensor, Tensor]:
    """Return the images as uint8 (n, 784) and the labels as int64 (n,).

    The files are read from the folder $HARNESS_DATA if this variable is set, else from Debian's
    package ``dataset-fashion-mnist``, from the user's cache or from a download by torchvision.
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
    """Download the files into the user's cache with torchvision; return None if that fails."""
    with contextlib.suppress(ImportError, RuntimeError, OSError):
        from torchvision.datasets import FashionMNIST

        folder = FashionMNIST(next(cache_folders()), download=True).raw_folder
        return images_in(Path(folder), train)
    return None
