"""The network that every rank trains, and the ways to share the work."""

from harness.schema.rank_run import Strategy
from harness.schema.workload import Workload

NETWORK = Workload(depth=8, width=2048, batch=512, optimizer="adamw")
"""``batch`` is each rank's own."""

NAMES: dict[Strategy, str] = {"ddp": "DDP", "zero": "ZeRO", "fsdp2": "FSDP2"}
