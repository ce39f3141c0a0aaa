"""Measures the scratch of bfloat16 matmuls; as a program, in a process of its own.

echo '[[64, 48, 32, "NT", 2]]' | python -m tests.prediction.matmul_cases
"""

import json
import sys
from typing import NamedTuple

import torch

from harness.instruments.allocation_trace import AllocationRecorder
from harness.prediction.mlp.matmul import Layout


class Product(NamedTuple):
    """A product (m, k) x (k, n) of factors stored so, in a number of threads."""

    m: int
    k: int
    n: int
    layout: Layout
    threads: int


def measured_scratch(products: list[Product]) -> list[list[int]]:
    """Return the bytes of each block that each product allocates in addition to its result."""
    factors = [_factors(product) for product in products]
    before = torch.get_num_threads()
    found = []
    try:
        for product, (left, right) in zip(products, factors, strict=True):
            torch.set_num_threads(product.threads)
            with AllocationRecorder(operators=False) as recorder:
                torch.mm(left, right)
            taken = [event.size_bytes for event in recorder.trace.events if event.size_bytes > 0]
            assert taken[0] == product.m * product.n * 2
            found.append(taken[1:])
    finally:
        torch.set_num_threads(before)
    return found


def _factors(product: Product) -> tuple[torch.Tensor, torch.Tensor]:
    m, k, n, layout, _ = product
    left = _zeros(m, k) if layout[0] == "N" else _zeros(k, m).t()
    right = _zeros(k, n) if layout[1] == "N" else _zeros(n, k).t()
    return left, right


def _zeros(rows: int, columns: int) -> torch.Tensor:
    return torch.zeros(rows, columns, dtype=torch.bfloat16)


def _main() -> None:
    products = [Product(*product) for product in json.load(sys.stdin)]
    json.dump(measured_scratch(products), sys.stdout)


if __name__ == "__main__":
    _main()
