"""The network that every rank trains, and the ways to share the work."""

from typing import Literal

from harness.schema.workload import Workload

NETWORK = Workload(depth=8, width=2048, batch=512, optimizer="adamw", device="cuda")
"""``batch`` is each rank's own."""

GPU = "a100-40gb"
"""The GPU of a rank if the sweep names no other GPU."""

Strategy = Literal["ddp", "zero", "fsdp2"]
"""DistributedDataParallel; the same with ZeroRedundancyOptimizer; ``fully_shard`` of every linear
layer and of the whole network."""

NAMES: dict[Strategy, str] = {"ddp": "DDP", "zero": "ZeRO", "fsdp2": "FSDP2"}
