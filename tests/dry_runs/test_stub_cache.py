import os
import shutil
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.dry_runs import build, child_process, toolchain
from harness.dry_runs.stub_cache import kept
from harness.dry_runs.toolchain import DryRunUnavailableError
from harness.schema.user_cache import cache_folders, temporary_cache_folder
from tests.dry_runs.scripts import run

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs the rights to give files away")


def make(folder: Path) -> None:
    """Stand in for the compiler."""
    (folder / "library").write_text("built")
    (folder / "link").symlink_to("library")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of the cache below which ``kept`` keeps."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    return tmp_path / "xdg" / "mlp-memory-harness" / "dry-run"


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "truncated": lambda folder: (folder / "library").write_text("bui"),
    "foreign": lambda folder: (folder / "library").write_text("other"),
    "deleted": lambda folder: (folder / "library").unlink(),
    "a folder": lambda folder: replace_by_folder(folder / "link"),
    "writable by others": lambda folder: (folder / "library").chmod(0o666),
    "without its manifest": lambda folder: (folder / "built.json").unlink(),
    "with another manifest": lambda folder: (folder / "built.json").write_text("{}"),
    "without anything": shutil.rmtree,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_cache_is_built_again(cache: Path, damage: Callable[[Path], object]) -> None:
    folder = kept("stub", make)
    assert folder == cache / "stub"
    damage(folder)
    assert kept("stub", make) == folder
    assert (folder / "link").read_text() == "built"
    assert not stat.S_IMODE((folder / "library").stat().st_mode) & 0o022


def test_what_a_killed_build_left_is_removed(cache: Path) -> None:
    cache.mkdir(parents=True)
    own, old, other = (cache / f".building-{name}" for name in ("stub-1", "else-1", "else-2"))
    for left in (own, old, other):
        left.mkdir()
    long_ago = time.time() - 7200
    os.utime(old, (long_ago, long_ago))
    kept("stub", make)
    assert [left.exists() for left in (own, old, other)] == [False, False, True]


def test_folders_are_the_user_s_alone(cache: Path) -> None:
    cache.mkdir(parents=True)
    cache.chmod(0o777)
    kept("stub", make)
    for folder in (cache, cache / "stub"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@needs_root
@pytest.mark.parametrize("planted", ["", "..", "stub", "stub/library"])
def test_what_another_user_planted_is_never_loaded(cache: Path, planted: str) -> None:
    kept("stub", make)
    path = cache / planted
    os.chown(path, 12345, 12345)
    if path.is_dir():
        with pytest.raises(DryRunUnavailableError, match="belongs to user 12345, who could put"):
            kept("stub", make)
    else:
        assert kept("stub", make) == cache / "stub"
        assert path.stat().st_uid == os.geteuid()


def test_a_cache_below_a_folder_that_everybody_can_change_is_refused(cache: Path) -> None:
    cache.parents[1].mkdir()
    cache.parents[1].chmod(0o777)
    with pytest.raises(DryRunUnavailableError, match="can be written to by everybody"):
        kept("stub", make)
    cache.parents[1].chmod(0o1777)
    assert kept("stub", make) == cache / "stub"
    mode = stat.S_IMODE(cache.parents[1].stat().st_mode)
    assert mode == 0o1777, "as /tmp is, which others need"


def test_a_relative_cache_folder_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/of/a/user")
    assert next(cache_folders()) == Path("/home/of/a/user/.cache/mlp-memory-harness")


@pytest.mark.parametrize("home", ["relative", "/proc/no/home", None])
def test_without_a_home_the_temporary_folder_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: str | None
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("HOME", raising=False)
    if home is not None:
        monkeypatch.setenv("HOME", home)
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)  # a user without a name
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = tmp_path / f"mlp-memory-harness-{os.geteuid()}"
    assert kept("stub", make) == folder / "dry-run" / "stub"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@needs_root
def test_where_nothing_can_be_executed_the_temporary_folder_is_used(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = cache.parents[1]
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "noexec,mode=700", "none", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a file system cannot be mounted here")
    try:
        assert not kept("stub", make).is_relative_to(folder)
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("name", ["with a blank:and a colon", "$ORIGIN\t;é"])
def test_a_path_that_the_linker_would_split_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert kept("stub", make).is_relative_to(temporary_cache_folder(str(tmp_path)))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / name))
    with pytest.raises(DryRunUnavailableError, match="the dynamic linker splits its path"):
        kept("stub", make)


@pytest.mark.quick
@pytest.mark.usefixtures("cuda_build")
@pytest.mark.parametrize("content", [b"", b"\x7fELF" + bytes(2000), b"text", None])
def test_a_script_is_not_run_where_the_stub_was_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    stub, ran = tmp_path / "stub", tmp_path / "ran"
    stub.mkdir()
    if content is not None:
        (stub / build.LIBRARY).write_bytes(content)
    monkeypatch.setattr(child_process, "build", lambda _: stub)
    with pytest.raises(DryRunUnavailableError, match=f"the stub was not loaded from {stub}"):
        run(tmp_path, f"open({str(ran)!r}, 'w')")
    assert not ran.exists()


@pytest.mark.usefixtures("cuda_build")
@pytest.mark.parametrize(
    ("compiler", "why"),
    [
        ("while :; do :; done", "no end after 1 seconds of processor time"),
        ("yes error >&2", "the stub cannot be compiled: error"),
        ("exit 0", "made no library"),
        ("printf '\\377 error \\377' >&2; exit 1", "cannot be compiled: . error ."),
        ("exit 7", "exit code 7"),
    ],
)
@pytest.mark.usefixtures("cache")
def test_a_compiler_that_misbehaves_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiler: str, why: str
) -> None:
    broken = tmp_path / "cc"
    broken.write_text(f"#!/bin/sh\n{compiler}\n")
    broken.chmod(0o700)
    for name in ("CC", "CXX"):
        monkeypatch.setenv(name, str(broken))
    monkeypatch.setattr(build, "COMPILER_SECONDS", 1 if "while" in compiler else 60)
    monkeypatch.setattr(build, "MOST_BLOCKS", 1 << 7)
    with pytest.raises(DryRunUnavailableError, match=why):
        build.build(toolchain.torch_build())
