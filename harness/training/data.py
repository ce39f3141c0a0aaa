"""Batches of Fashion-MNIST's shape and type: synthetic, or the real images.

Both fill the same two preallocated tensors, so the memory of a step cannot depend on which
is used; the real data set is loaded before anything is measured.
"""

import contextlib
import gzip
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from harness.schema.errors import HarnessError
from harness.schema.user_cache import cache_folders
from harness.schema.workload import Workload

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
FOLDER_VARIABLE = "HARNESS_DATA"
_UNSIGNED_BYTES = 8
"""The type of an idx file's values (yann.lecun.com/exdb/mnist)."""

Fill = Callable[[Tensor, Tensor | None], None]
"""Fills examples (batch, in_features) and, where given, int64 labels (batch,) in place."""


class DataError(HarnessError):
    """The real images cannot be had; the message names the ways to get them."""


def source(workload: Workload) -> Fill:
    """Return the function that fills a batch for ``workload``; real images are read now."""
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

    Looked for in the folder that $HARNESS_DATA names; without one, where Debian's package
    ``dataset-fashion-mnist`` puts it, then downloaded by torchvision.
    """
    if FOLDER_VARIABLE in os.environ:
        named = Path(os.environ[FOLDER_VARIABLE])
        images = _load(named / "FashionMNIST" / "raw", train) or _load(named, train)
        missing = f"{str(named)!r}: holds no Fashion-MNIST"
    else:
        images = _load(DEBIAN_FOLDER, train) or _download(train)
        missing = "'fashion-mnist': not on this machine"
    if images is None:
        raise DataError(f"data: {missing}; {_WAYS}")
    return images


_WAYS = (
    f"name a folder with its files in ${FOLDER_VARIABLE}, or install Debian's package "
    "dataset-fashion-mnist, or go online once so that torchvision can download it"
)


def _load(folder: Path, train: bool) -> tuple[Tensor, Tensor] | None:
    """Read a folder of idx files, gzipped or not; nothing is unpacked to a disk."""
    part = "train" if train else "t10k"
    images = _read_idx(folder, f"{part}-images-idx3-ubyte")
    labels = _read_idx(folder, f"{part}-labels-idx1-ubyte")
    if images is None or labels is None or len(images) != len(labels):
        return None
    return images.reshape(len(images), -1), labels.to(torch.int64)


def _read_idx(folder: Path, name: str) -> Tensor | None:
    """Read one file of bytes: a magic number, a count of dimensions, their sizes, the bytes."""
    try:
        packed = folder / f"{name}.gz"
        data = gzip.decompress(packed.read_bytes()) if packed.is_file() else None
        data = (folder / name).read_bytes() if data is None else data
        kind, dimensions = data[2], data[3]
        shape = struct.unpack_from(f">{dimensions}I", data, 4)
        values = torch.frombuffer(bytearray(data), dtype=torch.uint8, offset=4 + 4 * dimensions)
        return values.reshape(shape) if kind == _UNSIGNED_BYTES else None
    except (OSError, EOFError, ValueError, IndexError, RuntimeError, struct.error, zlib.error):
        return None


def _download(train: bool) -> tuple[Tensor, Tensor] | None:
    """Let torchvision download into the user's cache; None if that fails (offline)."""
    from torchvision.datasets import FashionMNIST

    with contextlib.suppress(RuntimeError, OSError):
        return _load(Path(FashionMNIST(next(cache_folders()), download=True).raw_folder), train)
    return None
