"""Makes random images, words and tokens in the files that public scripts read.

These stand-ins have the sizes and formats that decide memory, and the same bytes each time.
"""

import pickle
import random
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

DIFFERENT_WORDS = 2000
_TOKENIZER = '''"""Stand-in for tiktoken: a token of GPT-2's vocabulary for each four characters."""

import zlib


class Encoding:
    def encode(self, text, allowed_special=()):
        parts = (text[begin : begin + 4] for begin in range(0, len(text), 4))
        return [zlib.crc32(part.encode()) % 50257 for part in parts]

    def decode(self, tokens):
        return " ".join(map(str, tokens))


def get_encoding(name):
    return Encoding()
'''


def make(root: Path, data: Mapping[str, Any]) -> None:
    """Make a stand-in of ``scripts.toml`` below a folder."""
    given = {name: value for name, value in data.items() if name not in ("make", "into")}
    place = root / data["into"]
    place.parent.mkdir(parents=True, exist_ok=True)
    MAKERS[data["make"]](place, **given)


def mnist(folder: Path, train: int = 6000, test: int = 1000) -> None:
    """Write MNIST's files of images and labels, as torchvision keeps them."""
    pixels = np.random.default_rng(0)
    raw = folder / "MNIST/raw"
    raw.mkdir(parents=True)
    for name, count in (("train", train), ("t10k", test)):
        images = pixels.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = pixels.integers(0, 10, count, dtype=np.uint8)
        header = struct.pack(">IIII", 0x803, count, 28, 28)
        (raw / f"{name}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        header = struct.pack(">II", 0x801, count)
        (raw / f"{name}-labels-idx1-ubyte").write_bytes(header + labels.tobytes())


def images(folder: Path, count: int, size: tuple[int, int], classes: int = 0) -> None:
    """Write ``count`` JPEG files of a width and height, in total or for each class."""
    pixels = np.random.default_rng(0)
    for place in [folder / str(one) for one in range(classes)] or [folder]:
        place.mkdir(parents=True)
        for number in range(count):
            image = pixels.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
            Image.fromarray(image).save(place / f"{number}.jpg")


def masks(folder: Path, count: int, size: tuple[int, int]) -> None:
    """Write GIF files of two values, named after their images."""
    pixels = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for number in range(count):
        mask = pixels.integers(0, 2, (size[1], size[0]), dtype=np.uint8)
        Image.fromarray(mask).save(folder / f"{number}_mask.gif")


def words(file: Path, count: int, first: str = "") -> None:
    """Write a first text, then random words in lines of about twenty."""
    pick = random.Random(0)
    said = (
        f"w{pick.randrange(DIFFERENT_WORDS)}" + ("\n" if pick.random() < 0.05 else "")
        for _ in range(count)
    )
    file.write_text(" ".join([first, *said] if first else said))


def tokens(file: Path, count: int, vocabulary: int) -> None:
    """Write random tokens of 16 bits."""
    np.random.default_rng(0).integers(0, vocabulary, count).astype(np.uint16).tofile(file)


def alphabet(file: Path, vocabulary: int) -> None:
    """Write nanoGPT's table of characters and their tokens."""
    letters = {number: chr(48 + number) for number in range(vocabulary)}
    numbers = {letter: number for number, letter in letters.items()}
    table = {"vocab_size": vocabulary, "itos": letters, "stoi": numbers}
    file.write_bytes(pickle.dumps(table))


def tokenizer(file: Path) -> None:
    """Write a module in place of tiktoken, which would load its vocabulary from the network."""
    file.write_text(_TOKENIZER)


MAKERS: Mapping[str, Callable[..., None]] = {
    one.__name__: one for one in (mnist, images, masks, words, tokens, alphabet, tokenizer)
}
