"""Which torch the figures are those of."""

import functools
import importlib.metadata

CHECKED_TORCH = ("2.7", "2.13")
"""Versions of torch against which every figure was compared with measurement, to the byte."""

CHECKED_ON_CUDA = "2.13"
"""The version whose kernels and workspaces the figures for CUDA are those of."""

SCRATCH_TORCH = (2, 13)
"""Since which version oneDNN's scratch is what ``matmul`` says; 2.7 has another, others unseen."""


@functools.cache
def torch_version() -> str | None:
    """Return the version of the installed torch, without importing it; None where absent."""
    try:
        return importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return None


def has_older_scratch(version: str | None) -> bool:
    """Tell whether ``version`` of torch comes before ``SCRATCH_TORCH``."""
    if version is None:
        return False
    major, minor = version.split(".")[:2]
    return (int(major), int(minor)) < SCRATCH_TORCH
