"""The environment is what the record says: malloc is the C library's, or named."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.measurement.measure import measure
from harness.processes.launch import environment_of_child
from harness.processes.launcher import ForkLauncher
from harness.schema.errors import HarnessError
from harness.schema.workload import Workload
from harness.thresholds.find_threshold import find_threshold

TINY = Workload(width=8, in_features=8, batch=4)
REPLACEMENTS = [
    path
    for folder in (Path("/usr/lib"), Path("/usr/lib/x86_64-linux-gnu"), Path("/usr/lib64"))
    for name in ("libjemalloc.so.*", "libtcmalloc*.so.*", "libmimalloc.so.*")
    for path in folder.glob(name)
]


SYSTEM_PYTHONS = sorted(Path("/usr/bin").glob("python3.1[1-9]"))
"""Debian's lies at a fixed address, and takes the address of malloc: a stub of its own."""


@pytest.mark.parametrize("python", [Path(sys.executable), *SYSTEM_PYTHONS], ids=str)
@pytest.mark.parametrize("preloaded", [None, *REPLACEMENTS], ids=str)
def test_malloc_is_found_from_every_interpreter(python: Path, preloaded: Path | None) -> None:
    code = "from harness.processes import malloc_policy as m; print(m.replacement())"
    done = subprocess.run(
        [python, "-c", code], cwd=Path(__file__).parents[2],
        env=os.environ | {"LD_PRELOAD": str(preloaded or "")}, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert done.stdout.strip() == (preloaded.name if preloaded else "None")


@pytest.mark.slow
def test_a_replaced_malloc_is_what_the_record_says_and_no_budget_is_enforced_under_it(
    own: ForkLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not REPLACEMENTS:
        pytest.skip("no other allocator is installed (libjemalloc2)")
    library = REPLACEMENTS[0].name
    monkeypatch.setenv("LD_PRELOAD", str(REPLACEMENTS[0]))
    record = measure(TINY, launcher=own)
    with pytest.raises(HarnessError, match=f"no budget can be enforced under {library}"):
        find_threshold(Workload(width=64), budget_bytes=64 << 20, launcher=own)
    assert record.environment["malloc"] == f"replaced by {library}"


@pytest.mark.parametrize("malloc", ["pinned", "system"])
@pytest.mark.parametrize("name", ["GLIBC_TUNABLES", "MALLOC_ARENA_MAX", "MALLOC_TOP_PAD_"])
def test_tunables_of_the_user_reach_no_worker(
    name: str, malloc: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With them every block of a step could lie in the heap."""
    monkeypatch.setenv(name, "glibc.malloc.mmap_max=0")
    assert environment_of_child(malloc).get(name) != "glibc.malloc.mmap_max=0"
