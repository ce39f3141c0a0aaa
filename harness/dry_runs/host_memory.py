"""Memory of the host that a script and its workers take, sampled while it runs.

The supervisor reads what the kernel says of each process. A peak between two samples is missed.
"""

import contextlib
import time
from pathlib import Path

import msgspec

from harness.instruments.host_pages import MAIN, page_sums, shared_memory
from harness.schema.host import HostProcess

SAMPLES, ENDING = "host.json", "ending"
"""Files in the folder of a dry run: the samples; and the sign that the script has ended."""

_EVERY_SECONDS = 0.05
_SHARE = 20
"""A sample takes at most this part of the time."""
_INTERPRETER_BYTES = 3 << 20
"""Bytes of Python without the harness."""
_WORKER = "pt_data_worker"


class Samples(msgspec.Struct):
    """Highest samples: of all processes together, of files, shared memory, and each process."""

    own_bytes: int = 0
    together_bytes: int = 0
    file_bytes: int = 0
    shared_bytes: int = 0
    processes: dict[str, HostProcess] = {}


class HostSampler:
    """Samples the processes of a script from the process that waits for them."""

    def __init__(self, script: int, folder: Path) -> None:
        self._script = script
        self._folder = folder
        self._names: dict[int, str] = {}
        self._due = 0.0
        self._shared_before = shared_memory()[1]
        self._seen = Samples()
        with contextlib.suppress(OSError, KeyError):
            own = page_sums()["Pss_Anon"]
            self._seen.own_bytes = max(0, own - _INTERPRETER_BYTES)

    def sample(self) -> None:
        """Take a sample if one is due."""
        begin = time.thread_time()
        if time.monotonic() < self._due or (self._folder / ENDING).exists():
            return
        together = files = mapped = 0
        for pid in self._processes():
            with contextlib.suppress(OSError, KeyError):  # it has ended, or an old kernel
                parts = page_sums(pid)
                together += parts["Pss_Anon"]
                files += parts["Pss_File"]
                mapped += parts["Pss_Shmem"]
                self._note(self._name(pid), parts)
        shared = max(mapped, shared_memory()[1] - self._shared_before)
        seen = self._seen
        seen.together_bytes = max(seen.together_bytes, together + shared)
        seen.file_bytes = max(seen.file_bytes, files)
        seen.shared_bytes = max(seen.shared_bytes, shared)
        spent = time.thread_time() - begin  # not the time that a busy machine keeps it waiting
        self._due = time.monotonic() + max(_EVERY_SECONDS, _SHARE * spent)

    def write(self) -> None:
        """Write the samples into the folder."""
        with contextlib.suppress(OSError):
            (self._folder / SAMPLES).write_bytes(msgspec.json.encode(self._seen))

    def _processes(self) -> list[int]:
        import psutil

        with contextlib.suppress(psutil.Error):
            children = psutil.Process(self._script).children(recursive=True)
            return [self._script, *(child.pid for child in children)]
        return []

    def _name(self, pid: int) -> str:
        if pid not in self._names:
            kind = Path(f"/proc/{pid}/comm").read_text().strip()
            kind = "worker" if kind == _WORKER else kind
            number = sum(name.startswith(f"{kind} ") for name in self._names.values())
            self._names[pid] = MAIN if pid == self._script else f"{kind} {number}"
        return self._names[pid]

    def _note(self, name: str, parts: dict[str, int]) -> None:
        size, own = parts["Pss_Anon"] + parts["Pss_Shmem"], parts["Private_Dirty"]
        before = self._seen.processes.get(name)
        if before is None:
            before = HostProcess(name=name, peak_bytes=0, own_bytes=0, first_own_bytes=own)
        self._seen.processes[name] = msgspec.structs.replace(
            before,
            peak_bytes=max(before.peak_bytes, size),
            own_bytes=max(before.own_bytes, own),
        )
