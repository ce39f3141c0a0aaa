"""The network that every rank trains, and the strategies to share the work."""

from typing import Literal

from harness.schema.workload import Workload

NETWORK = Workload(depth=8, width=2048, batch=512, optimizer="adamw", device="cuda")
"""Network of each rank; ``batch`` is the batch of one rank."""

GPU = "a100-40gb"
"""Default GPU of a rank."""

Strategy = Literal["ddp", "zero", "fsdp2"]
"""DistributedDataParallel, without and with ZeroRedundancyOptimizer, or ``fully_shard`` of every
linear layer and of the network."""

NAMES: dict[Strategy, str] = {"ddp": "DDP", "zero": "ZeRO", "fsdp2": "FSDP2"}
