"""Decides if a dry run of ``torchrun`` runs all ranks as real processes, or one of them."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Final

from harness.cli.launched_script import TORCHRUN, LaunchedScript
from harness.processes.limits import machine_memory

RANKS_OF_PROCESSOR: Final = 2
RANK_BYTES: Final = 2 << 30
"""Free memory of the host that a rank should find: PyTorch takes 0.4 GiB, its values the rest."""
_OF_ONE_RANK = ("world_size", "ranks", "rank", "snapshot", "host_memory_bytes")
_MEETING = ("--standalone", "--master", "--rdzv")


def all_ranks(
    started: LaunchedScript, words: Sequence[str], request: Mapping[str, Any]
) -> LaunchedScript | None:
    """Return the command that starts all ranks of ``torchrun``; None if one rank is to run."""
    ranks = started.ranks_of_node or 1
    asks_one = any(request.get(name) for name in _OF_ONE_RANK) or request["compute"] == "none"
    if words[0] != "torchrun" or ranks == 1 or started.nodes > 1 or asks_one or not carries(ranks):
        return None
    options = words[1 : len(words) - len(started.words)]
    has_place = any(one.replace("_", "-").startswith(_MEETING) for one in options)
    meeting = () if has_place else ("--standalone",)  # runs side by side need two ports
    return LaunchedScript(words=(TORCHRUN, *meeting, *words[1:]), is_module=True)


def carries(ranks: int) -> bool:
    """Return whether this machine has processors and memory for this number of ranks."""
    most = RANKS_OF_PROCESSOR * len(os.sched_getaffinity(0))
    return ranks <= most and ranks * RANK_BYTES <= machine_memory.available().bytes
