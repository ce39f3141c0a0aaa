"""Finds what a dry run needs: a CUDA build of PyTorch, and a C and a C++ compiler.

This module reads PyTorch's files and never imports PyTorch, so the calling process stays small.
"""

import functools
import importlib.util
import os
import platform
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.schema.errors import UnavailableError


class DryRunUnavailableError(UnavailableError, RuntimeError):
    """Raised if a dry run cannot work here; the message says what is missing and how to get it.

    >>> import harness
    >>> try:
    ...     outcome = harness.dry_run(print, "hello", gpu="l4").outcome
    ... except harness.UnavailableError as error:
    ...     outcome = f"use harness.predict instead: {error}"
    """


@dataclass(frozen=True, kw_only=True)
class TorchBuild:
    """An installed CUDA build of PyTorch."""

    version: str
    cuda: str
    libraries: Path
    include: tuple[Path, ...]

    @functools.cache  # noqa: B019 - there are one or two builds
    def architectures(self) -> tuple[int, ...]:
        """Return the GPU architectures for which this build has kernels."""
        text = (self.libraries / "libtorch_python.so").read_bytes()
        match = re.search(rb"\0((?:sm_\d+[af]? ?)+(?:compute_\d+ ?)*)\0", text)
        return tuple(int(n) for n in re.findall(rb"sm_(\d+)", match[1])) if match else ()


INSTALL_CUDA_TORCH = f"{sys.executable} -m pip install --force-reinstall torch"
"""Command that installs a CUDA build of PyTorch, which is the default on Linux x86-64."""


_COMPILERS = {"C": ("CC", "cc", "gcc", "clang"), "C++": ("CXX", "c++", "g++", "clang++")}
"""For each language, the compiler's environment variable and the usual command names."""


def torch_build() -> TorchBuild:
    """Return the CUDA build of PyTorch that this interpreter would import."""
    system, machine = sys.platform, platform.machine()
    if (system, machine) != ("linux", "x86_64"):
        raise DryRunUnavailableError(
            f"the dry run needs Linux on x86-64, this machine is {system} on {machine}"
        )
    folder, version = _torch_folder(), torch_version() or "unknown"
    if folder is None:
        raise DryRunUnavailableError(f"PyTorch is not installed; run: {INSTALL_CUDA_TORCH}")
    cuda = _facts(folder).get("cuda")
    if cuda is None or not (folder / "lib/libtorch_cuda.so").exists():
        raise DryRunUnavailableError(
            f"torch {version} is not a CUDA build; run: {INSTALL_CUDA_TORCH}"
            " (without an index of CPU wheels)"
        )
    return TorchBuild(
        version=version, cuda=cuda, libraries=folder / "lib", include=_include(folder, cuda)
    )


def compiler(language: Literal["C", "C++"] = "C") -> str:
    """Return the path of the compiler: ``$CC`` or ``cc`` for C, ``$CXX`` or ``c++`` for C++."""
    variable, *names = _COMPILERS[language]
    for name in (os.environ.get(variable), *names):
        path = shutil.which(name) if name else None
        if path:
            return path
    raise DryRunUnavailableError(
        f"no {language} compiler; install one, e.g.: apt-get install gcc g++ libc6-dev"
        f" (or set {variable})"
    )


def _facts(torch: Path) -> dict[str, str | None]:
    """Return the variables in PyTorch's ``version.py``; this does not import PyTorch."""
    facts: dict[str, str | None] = {}
    exec((torch / "version.py").read_text(), facts)
    return facts


def _include(torch: Path, cuda: str) -> tuple[Path, ...]:
    """Return the header folders below ``nvidia/``, a folder that pip installs next to PyTorch."""
    nvidia = torch.parent / "nvidia"
    folders = tuple(sorted(nvidia.glob("*/include")))
    if not any((folder / "cudnn.h").exists() for folder in folders):
        raise DryRunUnavailableError(
            f"no headers are below {nvidia}: this torch {cuda} did not come from pip; run:"
            f" {INSTALL_CUDA_TORCH}"
        )
    return folders


def _torch_folder() -> Path | None:
    spec = importlib.util.find_spec("torch")
    places = spec.submodule_search_locations if spec is not None else None
    return Path(places[0]) if places else None


def torch_version() -> str | None:
    """Return the version of PyTorch that this interpreter would import; None without PyTorch."""
    folder = _torch_folder()
    return None if folder is None else _facts(folder).get("__version__")
