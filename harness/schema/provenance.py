"""Surroundings of a record and evidence of a failure: typed keys, and any others.

Type checkers know the keys that this version writes. A line of another version, or of another
program, may hold further keys; they are read, kept and written back as they are.
"""

from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    Json = str | int | float | bool | None | list["Json"] | dict[str, "Json"]

    class Environment(TypedDict, total=False):
        """Versions, machine and settings of a run; the second part is known only on a GPU."""

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
        """Evidence of a failure; a key that is not known is left out."""

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
