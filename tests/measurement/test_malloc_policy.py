"""The environment is what the record says: malloc is the C library's, or named."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.measurement import malloc_policy
from harness.measurement.measure import measure
from harness.measurement.process.launcher import ForkLauncher
from harness.measurement.process.messages import Job
from harness.schema.errors import HarnessError
from harness.schema.workload import Workload
from harness.thresholds.find_threshold import threshold

TINY = Workload(width=8, in_features=8, batch=4)
REPLACEMENTS = [
    path
    for folder in (Path("/usr/lib"), Path("/usr/lib/x86_64-linux-gnu"), Path("/usr/lib64"))
    for name in ("libjemalloc.so.*", "libtcmalloc*.so.*", "libmimalloc.so.*")
    for path in folder.glob(name)
]


@pytest.fixture
def replaced(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[ForkLauncher, str]]:
    """A launcher whose processes have another malloc, and that library's name."""
    if not REPLACEMENTS:
        pytest.skip("no other allocator is installed (libjemalloc2)")
    monkeypatch.setenv("LD_PRELOAD", str(REPLACEMENTS[0]))
    own = ForkLauncher("pinned")
    yield own, REPLACEMENTS[0].name
    own.close()


def test_the_c_librarys_own_malloc_is_no_replacement() -> None:
    assert malloc_policy.replacement() is None
    malloc_policy.refuse_replacement()


SYSTEM_PYTHONS = sorted(Path("/usr/bin").glob("python3.1[1-9]"))
"""Debian's lies at a fixed address, and takes the address of malloc: a stub of its own."""


@pytest.mark.parametrize("python", [Path(sys.executable), *SYSTEM_PYTHONS], ids=str)
@pytest.mark.parametrize("preloaded", [None, *REPLACEMENTS], ids=str)
def test_malloc_is_found_from_every_interpreter(python: Path, preloaded: Path | None) -> None:
    code = "from harness.measurement import malloc_policy as m; print(m.replacement())"
    done = subprocess.run(
        [python, "-c", code],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"LD_PRELOAD": str(preloaded or "")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == (preloaded.name if preloaded else "None")


@pytest.mark.slow
def test_a_replaced_malloc_is_what_the_record_says(replaced: tuple[ForkLauncher, str]) -> None:
    launcher, library = replaced
    record = measure(TINY, launcher=launcher)
    assert record.environment["malloc"] == f"replaced by {library}"
    assert record.peak_live_bytes == measure(TINY).peak_live_bytes


@pytest.mark.slow
def test_no_budget_is_enforced_under_a_replaced_malloc(replaced: tuple[ForkLauncher, str]) -> None:
    launcher, library = replaced
    with pytest.raises(HarnessError, match=f"no budget can be enforced under {library}"):
        threshold(Workload(width=64), budget_bytes=64 << 20, launcher=launcher)


@pytest.mark.slow
def test_tunables_change_no_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the strip every block of the step would lie in the heap."""
    workload = Workload(width=64, batch=2000)
    needed = []
    for tunables in ("", "glibc.malloc.mmap_max=0:glibc.malloc.top_pad=67108864"):
        monkeypatch.setenv("GLIBC_TUNABLES", tunables)
        own = ForkLauncher("pinned")
        job = Job(kind="probe", workload=workload, budget_bytes=1 << 28)
        ended = own.launch(job, 60)
        own.close()
        needed.append((ended.result or {})["needed_bytes"])
    assert needed[0] == needed[1], os.environ["GLIBC_TUNABLES"]
