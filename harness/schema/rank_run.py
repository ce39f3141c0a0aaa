"""Memory of one rank of many, or of one GPU through ``torch.compile``, while it trains, as JSON."""

from dataclasses import dataclass, fields
from functools import partial
from typing import ClassVar, Literal

from msgspec import Struct

from harness.schema.metrics import Bytes, CudaPeaks
from harness.schema.provenance import FailureEvidence
from harness.schema.record import Outcome, decode
from harness.schema.workload import Workload

RANK_RUNS = "rank_runs.jsonl"
"""Name of the file of a folder's rank runs."""

Strategy = Literal["ddp", "zero", "fsdp2", "eager", "compile"]
"""How the ranks share the work: DistributedDataParallel; the same with ZeroRedundancyOptimizer;
``fully_shard`` of every linear layer and of the whole network. One GPU alone: as it is written, or
through ``torch.compile``."""

ALONE: tuple[Strategy, ...] = ("eager", "compile")

Network = Literal["mlp", "transformer"]
"""The workload's own network; or ``depth`` blocks of a transformer on ``TOKENS`` tokens, where
``in_features`` is the width times ``TOKENS``."""

TOKENS = 128


@dataclass(frozen=True, kw_only=True)
class RankJob:
    """One network, trained by rank 0 of ``world_size`` ranks on a batch of its own."""

    workload: Workload
    strategy: Strategy
    world_size: int
    network: Network = "mlp"

    @property
    def cell_id(self) -> str:
        """Return a name that is equal for equal jobs."""
        other = "" if self.network == "mlp" else f"-{self.network}"
        return f"{self.workload.id}-{self.strategy}-{self.world_size}{other}"


class RankMemory(Struct, frozen=True, kw_only=True):
    """Bytes that the rank's allocator held."""

    held_requested_bytes: Bytes
    """Requested and alive between two steps, the batch and cuBLAS's workspaces left out."""
    cuda: CudaPeaks
    """Peaks over all steps; of the last step on one GPU alone."""
    kept_requested_bytes: Bytes | None = None
    """Of one GPU alone: requested by the last forward pass and alive at its end."""


class RankRun(Struct, frozen=True, kw_only=True):
    """One attempt at one rank run."""

    FILE: ClassVar = RANK_RUNS
    schema: Literal[1] = 1
    workload: Workload
    strategy: Strategy
    world_size: int
    network: Network = "mlp"
    rank: int = 0
    outcome: Outcome
    evidence: FailureEvidence = {}
    attempt: int = 1
    environment: dict[str, str] = {}
    memory: RankMemory | None = None

    @property
    def cell_id(self) -> str:
        """Name of its job."""
        return RankJob(**{one.name: getattr(self, one.name) for one in fields(RankJob)}).cell_id


from_json = partial(decode, RankRun)
