import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness.dry_runs import build, toolchain
from harness.dry_runs.toolchain import DryRunUnavailableError


def test_a_cpu_build_of_torch_is_named_with_the_command_that_replaces_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").touch()
    (tmp_path / "torch" / "version.py").write_text(
        "__version__ = '2.15.0+cpu'\ncuda: str | None = None\n"
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    with pytest.raises(DryRunUnavailableError) as refused:
        toolchain.torch_build()
    assert "torch 2.15.0+cpu is not a CUDA build" in str(refused.value)
    assert f"{sys.executable} -m pip install" in str(refused.value)


def test_a_missing_compiler_is_named_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(DryRunUnavailableError, match="apt-get install gcc"):
        toolchain.compiler()


@pytest.mark.usefixtures("cuda_build")
def test_processes_that_build_together_get_one_stub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    torch = toolchain.torch_build()
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(build.build, [torch, torch])
    assert first == second
    assert build.needed(torch.libraries) <= build.symbols([first / build.LIBRARY], "defined")
    assert [p.name for p in first.parent.iterdir() if p.name.startswith(".building")] == []
