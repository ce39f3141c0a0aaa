"""Samples the host memory of a script and its workers while the script runs.

The supervisor reads the kernel's counters of each process. A peak between two samples is missed.
"""

import contextlib
import os
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from harness.dry_runs.status_page import STATUS, StatusPage
from harness.instruments.host_pages import MAIN, page_sums, shared_memory
from harness.schema.host import HostProcess

SAMPLES, ENDING, UNSEEN = "host.json", "ending", "unseen"
"""Names of three files: the samples, an empty file that exists once the script has ended, and a
list of programs that opened a real GPU without the stub."""

_EVERY_SECONDS = 0.05
_SHARE = 20
"""Sampling uses at most 1/20 of the CPU time of the script and its workers."""
_AT_LATEST_SECONDS = 0.3
"""Seconds between two samples of a sleeping script; longer if sampling is slow."""
_WORKER = "pt_data_worker"
_VALUES = "/memfd:harness-values"
"""File of memory in which the stub keeps the values of a pretended GPU (``stub/cuda/state.c``)."""
_DEVICE, _STUB = "/dev/nvidia", "libharness_dry_run"


class Samples(msgspec.Struct):
    """The highest samples so far, of all processes together and of each process.

    The modules that the harness imports hardly change the samples, because PyTorch imports nearly
    the same modules. A process with PyTorch uses 290 MiB in a real run and 287 MiB in a dry run.
    """

    together_bytes: int = 0
    with_left_out_bytes: int = 0
    """Highest sum of all processes' memory and the tensor bytes that are not yet written."""
    file_bytes: int = 0
    shared_bytes: int = 0
    processes: dict[str, HostProcess] = {}


class HostSampler:
    """Samples the host memory of a script's processes; the supervisor process uses this class."""

    def __init__(self, script: int, folder: Path) -> None:
        self._script = script
        self._folder = folder
        self._names: dict[int, str] = {}
        self._seconds: dict[int, float] = {}
        self._unseen = set[str]()
        self._due = self._due_at_latest = 0.0
        self._due_of_script = self._done_at_sample = 0.0
        self._shared_before = shared_memory()[1]
        self._seen = Samples()

    def sample(self) -> None:
        """Take a sample if the next sample is due."""
        begin = time.thread_time()
        if not self._is_due() or (self._folder / ENDING).exists():
            return
        together = files = mapped = 0
        aside = self._counted("aside")
        for pid in self._processes():
            with contextlib.suppress(OSError, KeyError):  # it has ended, or an old kernel
                opened = {one: os.readlink(one) for one in Path(f"/proc/{pid}/fd").iterdir()}  # noqa: PTH115
                self._look_for_a_gpu(pid, opened.values())
                parts = page_sums(pid)
                parts["Pss_Shmem"] -= _values_bytes(opened)
                if pid == self._script:
                    parts["Pss_Anon"] -= max(aside, self._counted("aside"))
                together += parts["Pss_Anon"]
                files += parts["Pss_File"]
                mapped += parts["Pss_Shmem"]
                self._note(self._name(pid), parts)
        shared = max(mapped, shared_memory()[1] - self._shared_before)
        seen = self._seen
        seen.together_bytes = max(seen.together_bytes, together + shared)
        with_left_out = together + shared + self._counted("left_out")
        seen.with_left_out_bytes = max(seen.with_left_out_bytes, with_left_out)
        seen.file_bytes = max(seen.file_bytes, files)
        seen.shared_bytes = max(seen.shared_bytes, shared)
        spent = time.thread_time() - begin
        now = time.monotonic()
        self._due = now + _EVERY_SECONDS
        self._due_at_latest = now + max(_AT_LATEST_SECONDS, _SHARE * spent)
        self._done_at_sample = self._script_seconds()
        self._due_of_script = self._done_at_sample + _SHARE * spent

    def _counted(self, name: str) -> int:
        """Return a number of the stub's status page, e.g. of the tensor bytes not yet written."""
        field = getattr(StatusPage, name)
        with contextlib.suppress(OSError), (self._folder / STATUS).open("rb") as page:
            page.seek(field.offset)
            return int.from_bytes(page.read(field.size), sys.byteorder)
        return 0

    def _is_due(self) -> bool:
        now, done = time.monotonic(), self._script_seconds()
        if now < self._due or done == self._done_at_sample:
            return False
        return done >= self._due_of_script or (now >= self._due_at_latest and self._waits())

    def _waits(self) -> bool:
        """Return whether the script sleeps; waiting for a busy CPU is not sleeping."""
        with contextlib.suppress(OSError):
            stat = Path(f"/proc/{self._script}/stat").read_text()
            return not stat.rpartition(")")[2].lstrip().startswith("R")
        return False

    def _script_seconds(self) -> float:
        """Return the total CPU time of all sampled processes."""
        for pid in {self._script, *self._names}:
            with contextlib.suppress(OSError):  # it has ended
                self._seconds[pid] = time.clock_gettime(~pid << 3 | 2)  # clock_getcpuclockid(3)
        return sum(self._seconds.values())

    def write(self) -> None:
        """Write the samples to the run's folder."""
        with contextlib.suppress(OSError):
            (self._folder / SAMPLES).write_bytes(msgspec.json.encode(self._seen))
            if self._unseen:
                (self._folder / UNSEEN).write_text(", ".join(sorted(self._unseen)))

    def _look_for_a_gpu(self, pid: int, opened: Iterable[str]) -> None:
        """Record a program that opened a real GPU without the stub, e.g. a static executable."""
        has_gpu = any(path.startswith(_DEVICE) for path in opened)
        if has_gpu and _STUB not in Path(f"/proc/{pid}/maps").read_text():
            self._unseen.add(os.readlink(f"/proc/{pid}/exe"))  # noqa: PTH115

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
        size = parts["Pss_Anon"] + parts["Pss_Shmem"]
        own = min(parts["Private_Dirty"], size)  # no values of a GPU, which are private, too
        before = self._seen.processes.get(name)
        if before is None:
            before = HostProcess(name=name, peak_bytes=0, own_bytes=0, first_own_bytes=own)
        self._seen.processes[name] = msgspec.structs.replace(
            before,
            peak_bytes=max(before.peak_bytes, size),
            own_bytes=max(before.own_bytes, own),
        )


def _values_bytes(opened: Mapping[Path, str]) -> int:
    """Return the bytes of a process's open files that hold values of a pretended GPU.

    A forked process shares the file, so it is only subtracted in the process that mapped it first.
    """
    files = (file for file, name in opened.items() if name.startswith(_VALUES))
    return sum(file.stat().st_blocks * 512 for file in files)
