"""Memory and time stay in proportion to the file, and genuine recordings are admitted."""

import gzip
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from harness.snapshots.file_bytes import SnapshotError, read_bytes
from tests.child_process import run
from tests.commands import Ask
from tests.snapshots.test_replay import MIB, SNAPSHOTS, by_hand, entry, freed, written


def test_a_bomb_of_zeros_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.gz"
    with gzip.open(path, "wb", compresslevel=9) as file:
        for _ in range(256):
            file.write(bytes(1 << 20))
    assert path.stat().st_size < 300_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(SnapshotError, match="more than 100 times its size"):
        read_bytes(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


def limited(kilobytes: int, path: Path, *more: str) -> subprocess.CompletedProcess[str]:
    words = " ".join((sys.executable, "-m", "harness", "explain", str(path), *more))
    return run("bash", "-c", f"ulimit -v {kilobytes}; exec {words}")


@pytest.mark.usefixtures("cuda_build")
def test_where_pytorch_cannot_be_loaded_a_recording_is_explained_without_what_ifs() -> None:
    path = SNAPSHOTS / "resnet18-start.pickle.gz"
    done = limited(2 << 20, path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "note: no what-ifs: PyTorch's allocator cannot be asked" in done.stdout
    assert "what if\n" not in done.stdout
    replayed = limited(2 << 20, path, "--what-if", "expandable_segments:True")
    assert replayed.returncode == 2
    assert replayed.stderr.startswith("harness: PyTorch's allocator cannot be asked: ")
    assert replayed.stderr.count("\n") == 1


def test_too_little_memory_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "long.pickle"
    path.write_bytes(b"\x80\x04]" + b"X\x00\x00\x01\x00" + bytes(65536) + bytes(500 << 20))
    done = limited(500_000, path)
    assert done.returncode == 2
    assert "not enough memory" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_time_is_limited_and_the_option_named(ask: Ask, tmp_path: Path) -> None:
    raw, size = by_hand(), 11 * MIB
    for _ in range(20_000):
        raw["device_traces"][0] += [*freed(1, size), entry("alloc", 1, size)]
    path = written(tmp_path, raw)
    said = ask(["explain", str(path), "--deadline", "0.1"], 2).err
    assert "takes longer than 0.1 s; allow more with --deadline" in said
