import gzip
import struct
import sys
from pathlib import Path

import pytest
import torch

from harness.schema import user_cache
from harness.schema.workload import Workload
from harness.training import data, image_files


def write_images(folder: Path, count: int) -> None:
    """Write a tiny data set in the idx format of the real one."""
    for part in ("train", "t10k"):
        images = struct.pack(">iiii", 2051, count, 28, 28) + bytes(range(count)) * 784
        labels = struct.pack(">ii", 2049, count) + bytes(i % 10 for i in range(count))
        for name, content in (("images-idx3", images), ("labels-idx1", labels)):
            path = folder / f"{part}-{name}-ubyte.gz"
            path.write_bytes(gzip.compress(content))


def test_images_come_from_the_folder_that_the_user_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path, 5)
    monkeypatch.setenv(image_files.FOLDER_VARIABLE, str(tmp_path))
    fill = data.source(Workload(data="fashion-mnist"))
    x, y = torch.empty(12, 784), torch.empty(12, dtype=torch.int64)
    fill(x, y)
    assert y.tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1]  # starts over past its end
    assert float(x.max()) == pytest.approx(4 / 255)


def test_offline_without_images_is_one_line_with_the_three_ways(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(image_files.FOLDER_VARIABLE, raising=False)
    monkeypatch.setattr(image_files, "DEBIAN_FOLDER", tmp_path / "none")
    monkeypatch.setattr(data, "_download", lambda train: None)
    with pytest.raises(image_files.DataError) as caught:
        data.source(Workload(data="fashion-mnist"))
    message = str(caught.value)
    for place in (image_files.FOLDER_VARIABLE, "dataset-fashion-mnist", "torchvision"):
        assert place in message
    assert "\n" not in message
    monkeypatch.setenv(image_files.FOLDER_VARIABLE, str(tmp_path))
    with pytest.raises(image_files.DataError, match="holds no Fashion-MNIST"):
        data.source(Workload(data="fashion-mnist"))


def test_a_download_of_the_past_is_found_without_torchvision_and_half_a_file_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / user_cache.NAME / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    write_images(folder, 5)
    monkeypatch.delenv(image_files.FOLDER_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(image_files, "DEBIAN_FOLDER", tmp_path / "none")
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    images, labels = data.load_fashion_mnist(train=False)
    assert (images.shape, labels.tolist()) == ((5, 784), [0, 1, 2, 3, 4])
    packed = folder / "t10k-images-idx3-ubyte.gz"
    packed.write_bytes(gzip.compress(gzip.decompress(packed.read_bytes())[:-1]))
    with pytest.raises(image_files.DataError, match="not on this machine"):
        data.load_fashion_mnist(train=False)
