"""Typed dictionaries for the environment of a record and for the evidence of a failure.

Type checkers know the keys that this version writes. A record of another version may have more
keys, and the harness preserves them.
"""

from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    Json = str | int | float | bool | None | list["Json"] | dict[str, "Json"]

    class Environment(TypedDict, total=False):
        """Versions, machine and settings of a run; ``device`` and later keys are only for a GPU."""

        harness: str
        time: str
        python: str
        torch: str
        transformers: str
        triton: str
        system: str
        kernel: str
        libc: str | None
        machine: str
        cpu: str
        cpu_bfloat16: str
        cpu_count: int | None
        cpu_capability: str
        memory_bytes: int | None
        git_commit: str | None
        code: str
        launcher: str
        fork_server: str | None
        malloc: str
        threads: int
        seed: int
        rss_source: str | None
        executor: str
        jobs: int

        device: str
        gpu: str
        gpu_memory_bytes: int
        gpu_capability: str
        gpu_multiprocessors: int
        gpu_threads_per_multiprocessor: int
        gpu_used_before_bytes: int
        cuda: str | None
        driver: str | None
        allocator: str
        allocator_settings: str
        cublas_workspace_config: str

    class FailureEvidence(TypedDict, total=False):
        """Facts about a failure; keys of unknown facts are left out."""

        message: str
        type: str
        phase: str | None
        seconds: float
        stderr: str
        signal: str
        oom_kills: int
        gpu_memory: dict[str, int]
        job: str
        worker: str
        value: int
        needed_bytes: int
        room_bytes: int

else:  # msgspec would drop a TypedDict's unknown keys, and knows no recursive alias
    Json = str | int | float | bool | None | list[object] | dict[str, object]
    Environment = FailureEvidence = dict[str, Json]
