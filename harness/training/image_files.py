"""Finds and reads the files of Fashion-MNIST without importing torch.

An idx file (yann.lecun.com/exdb/mnist) contains the type of its values, the number of dimensions,
the size of each dimension, and the values. Gzipped files are unpacked in memory.
"""

import gzip
import math
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

from harness.schema.errors import HarnessError
from harness.schema.user_cache import cache_folders

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
FOLDER_VARIABLE = "HARNESS_DATA"
_UNSIGNED_BYTES = 8
"""Type code of unsigned bytes in an idx file."""
_WAYS = (
    f"name a folder with its files in ${FOLDER_VARIABLE}, or install Debian's package "
    "dataset-fashion-mnist, or go online once so that torchvision can download it"
)


class DataError(HarnessError):
    """The images of Fashion-MNIST were not found; the message explains how to get the images."""


@dataclass(frozen=True, kw_only=True)
class IdxFile:
    """The values of an idx file, and the shape of the array of values."""

    shape: tuple[int, ...]
    values: bytearray


def missing_images() -> DataError:
    """Return the error for missing images; the message explains how to get the images."""
    named = os.environ.get(FOLDER_VARIABLE)
    what = "'fashion-mnist': not on this machine"
    if named is not None:
        what = f"{str(Path(named))!r}: holds no Fashion-MNIST"
    return DataError(f"data: {what}; {_WAYS}")


def images_here(train: bool) -> tuple[IdxFile, IdxFile] | None:
    """Return images and labels from the first folder that has them; None if no folder has them."""
    return next(filter(None, (images_in(folder, train) for folder in _folders())), None)


def _folders() -> list[Path]:
    """Return the folders to search; $HARNESS_DATA, if it is set, replaces the default folders."""
    if FOLDER_VARIABLE in os.environ:
        named = Path(os.environ[FOLDER_VARIABLE])
        return [named / "FashionMNIST" / "raw", named]
    return [DEBIAN_FOLDER, next(cache_folders()) / "FashionMNIST" / "raw"]


def images_in(folder: Path, train: bool) -> tuple[IdxFile, IdxFile] | None:
    """Return the images and labels in ``folder``; None if a file is missing or damaged."""
    part = "train" if train else "t10k"
    images = _read(folder, f"{part}-images-idx3-ubyte")
    labels = _read(folder, f"{part}-labels-idx1-ubyte")
    if images is None or labels is None or images.shape[:1] != labels.shape:
        return None
    return images, labels


def _read(folder: Path, name: str) -> IdxFile | None:
    try:
        packed = folder / f"{name}.gz"
        data = gzip.decompress(packed.read_bytes()) if packed.is_file() else None
        data = (folder / name).read_bytes() if data is None else data
        kind, dimensions = data[2], data[3]
        shape = struct.unpack_from(f">{dimensions}I", data, 4)
        values = bytearray(data[4 + 4 * dimensions :])
    except (OSError, EOFError, ValueError, IndexError, struct.error, zlib.error):
        return None
    is_whole = kind == _UNSIGNED_BYTES and len(values) == math.prod(shape) > 0
    return IdxFile(shape=shape, values=values) if is_whole else None
