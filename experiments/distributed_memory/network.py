"""The network that every rank trains, and the strategies that distribute its training."""

from typing import Literal

from harness.schema.workload import Workload

NETWORK = Workload(depth=8, width=2048, batch=512, optimizer="adamw", device="cuda")
"""Network that every rank trains; ``batch`` is the number of examples per rank."""

GPU = "a100-40gb"
"""GPU that is pretended for a rank unless the user selects another GPU."""

Strategy = Literal["ddp", "zero", "fsdp2"]
"""``ddp`` is DistributedDataParallel, and ``zero`` adds ZeroRedundancyOptimizer. ``fsdp2`` applies
``fully_shard`` to every linear layer and to the network."""

NAMES: dict[Strategy, str] = {"ddp": "DDP", "zero": "ZeRO", "fsdp2": "FSDP2"}
