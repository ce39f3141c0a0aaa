"""pytorch#13246 and #5902: workers of a DataLoader copy a list of objects by reading it.

Reading an object counts a reference to it, which writes to its page. "fixed" keeps an array.
"""

import sys

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

COUNT = 4_000_000


class Words(Dataset[int]):
    """A data set of numbers, as Python objects or as an array."""

    def __init__(self) -> None:
        numbers = np.arange(COUNT) + (1 << 40)
        self.data = numbers if "fixed" in sys.argv else numbers.tolist()

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> int:
        return int(self.data[index])


weights = torch.ones(1000, device="cuda")
for _batch in DataLoader(Words(), batch_size=4000, num_workers=2):
    weights = weights + 1
