"""Decodes and runs a workload's job in a worker, and adds the worker's environment."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec
import torch

from harness.processes import gpu, malloc_policy
from harness.processes.messages import Describe, OfWorkload
from harness.schema.provenance import Environment
from harness.training.module_step import Phase

Job = TypeVar("Job", bound=OfWorkload[Any])


def doing(
    kind: type[Job],
) -> Callable[
    [Callable[[Job, Phase], Mapping[str, Any]]], Callable[[bytes, Phase], dict[str, Any]]
]:
    """Decorate a function for a job of type ``kind``, so that a worker can call it with JSON."""

    def as_called(function: Callable[[Job, Phase], Mapping[str, Any]]) -> Any:
        def do(request: bytes, announce: Phase) -> dict[str, Any]:
            job = msgspec.json.decode(request, type=kind)
            torch.set_num_threads(job.workload.threads)
            environment = _environment(job.workload.device)
            return {**function(job, announce), "environment": environment}

        return do

    return as_called


@doing(Describe)
def described(job: Describe, announce: Phase) -> Mapping[str, Any]:
    """Return an empty result, to which the decorator ``doing`` adds the environment."""
    del job, announce
    return {}


def _environment(device: str) -> Environment:
    """Return the part of the environment that only a process with torch can determine."""
    facts: Environment = {"torch": str(torch.__version__), "threads": torch.get_num_threads()}
    facts["cpu_capability"] = torch.backends.cpu.get_cpu_capability()
    if (library := malloc_policy.replacement()) is not None:
        facts["malloc"] = f"replaced by {library}"
    return facts | (gpu.start() if device == "cuda" else {})
