"""Computes the bytes that rank 0 keeps between two steps of Adam, from the network's shapes.

P is the size of all parameters in bytes, and N is the number of ranks:

    DDP: 4 P for parameters, gradients (as views of buckets) and two moments. ZeRO: 2 P for
    parameters and gradients, and two moments for the rank's share of the parameters. FSDP2: 4 P /
    N, because every tensor is divided along its rows.
"""

import heapq
from itertools import pairwise

from harness.prediction.mlp.formula import parameter_bytes
from harness.schema.workload import Workload

from .network import Strategy

FLOAT_BYTES = 4


def shapes(workload: Workload) -> list[tuple[int, int]]:
    """Return (rows, elements per row) of every weight and bias, layer by layer."""
    sizes = (workload.in_features, *workload.widths, workload.classes)
    layers = (((wide, narrow), (wide, 1)) for narrow, wide in pairwise(sizes))
    return [shape for layer in layers for shape in layer]


def held_bytes(workload: Workload, strategy: Strategy, world_size: int) -> int:
    """Return the bytes that rank 0 keeps between two steps, without the batch."""
    whole = parameter_bytes(workload)
    if strategy == "ddp":
        return 4 * whole
    if strategy == "zero":
        return 2 * whole + 2 * owned_bytes(workload, world_size)
    parts = (-(-rows // world_size) * row for rows, row in shapes(workload))
    return 4 * FLOAT_BYTES * sum(parts)


def owned_bytes(workload: Workload, world_size: int) -> int:
    """Return the bytes of the parameters whose moments ZeRO assigns to rank 0.

    ZeRO does not split a parameter. ZeRO assigns the parameters from the largest to the smallest,
    each to the rank with the fewest bytes.
    """
    ranks = [(0, rank) for rank in range(world_size)]
    for rows, row in sorted(shapes(workload), key=lambda shape: -shape[0] * shape[1]):
        size, rank = heapq.heappop(ranks)
        heapq.heappush(ranks, (size + FLOAT_BYTES * rows * row, rank))
    return next(size for size, rank in ranks if rank == 0)
