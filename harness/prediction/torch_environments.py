"""Creates virtual environments for versions of PyTorch other than the installed version.

The environments are in the user's cache. A path file (.pth) adds the packages of this interpreter
after the environment's own packages. This module needs only the standard library.
"""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from harness.prediction.versions import KNOWN, TorchVersion, known_version, torch_version
from harness.schema.errors import UnavailableError
from harness.schema.user_cache import cache_folders

ON_DISK_BYTES = 7 << 30
"""Disk space of PyTorch with NVIDIA's libraries, in bytes."""
COST = "pip downloads about 3 GB for it and unpacks 7 GB, which takes 3 to 10 minutes"
INSTALL_SECONDS = 1800
_TORCHVISION_PINNED = TorchVersion(2, 14)
"""Last version with this rule: torch 2.7 needs torchvision 0.22, torch 2.8 needs 0.23, etc."""


class InstallError(UnavailableError):
    """A version of PyTorch is not installed and cannot be installed; the message says why."""


def versions_between(first: str | None, last: str | None, named: Iterable[str]) -> list[str]:
    """Return ``named`` and all versions from ``first`` to ``last``, sorted; all must be known."""
    between: list[TorchVersion] = []
    if first is not None or last is not None:
        low, high = (
            known_version(text) for text in (first or str(KNOWN[0]), last or str(KNOWN[-1]))
        )
        between = [version for version in KNOWN if low <= version <= high]
    return [str(version) for version in sorted({*map(known_version, named), *between})]


def python_of(version: str, *, offline: bool) -> str:
    """Return the path of an interpreter with a PyTorch version; pip installs it if needed."""
    installed = torch_version()
    if installed is not None and str(TorchVersion.parse(installed)) == version:
        return sys.executable
    folder = next(cache_folders()) / f"torch-{version}"
    python = folder / "bin" / "python"
    if not (folder / ".installed").exists():
        if offline:
            raise InstallError(f"torch {version} is not in {folder}; without --offline {COST}")
        _install(folder, version)
    others = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    packages = next(folder.glob("lib/python*/site-packages"))
    (packages / "others.pth").write_text("\n".join(others))
    return str(python)


def _install(folder: Path, version: str) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    if (free := shutil.disk_usage(folder.parent).free) < 2 * ON_DISK_BYTES:
        raise InstallError(f"torch {version} needs 14 GB in {folder.parent}, {free >> 30} GiB free")
    print(f"torch {version} is installed into {folder}: {COST}", file=sys.stderr, flush=True)
    with folder.with_suffix(f"{folder.suffix}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        make_environment(folder, version, [], seconds=INSTALL_SECONDS)


def make_environment(folder: Path, version: str, more: Sequence[str], *, seconds: float) -> Path:
    """Return the path of an environment's Python; create the environment if needed."""
    python = folder / "bin" / "python"
    done = folder / ".installed"
    if not done.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        torch = "torch" if version == "latest" else f"torch=={version}.*"
        install = [str(python), "-m", "pip", "install", "--quiet", torch, torchvision_for(version)]
        environment = without_local_configuration()
        try:
            subprocess.run([*install, *more], env=environment, check=True, timeout=seconds)
        except subprocess.CalledProcessError as error:
            raise InstallError(f"pip ended with exit code {error.returncode}") from None
        except subprocess.TimeoutExpired:
            raise InstallError(f"pip took over {seconds} s") from None
        done.touch()
    return python


def torchvision_for(text: str) -> str:
    """Return the pip requirement of the torchvision that matches a version of torch."""
    if text == "latest" or TorchVersion.parse(text) > _TORCHVISION_PINNED:
        return "torchvision"
    return f"torchvision==0.{TorchVersion.parse(text).minor + 15}.*"


def without_local_configuration() -> dict[str, str]:
    """Return the environment variables without local settings of pip."""
    local = ("PIP_FIND_LINKS", "PIP_CONSTRAINT")
    kept = {name: value for name, value in os.environ.items() if name not in local}
    return kept | {"PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
