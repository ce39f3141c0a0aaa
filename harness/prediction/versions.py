"""Selects the version of PyTorch that a prediction describes.

By default, predictions describe the installed version, or the nearest known version if the
installed version is not known. ``describing`` selects another version. ``CHANGES`` lists all rules
that differ between versions. ``harness doctor --check-model`` compares the model with the installed
version, and ``results/torch-versions.md`` compares it with all known versions.
"""

import functools
import importlib.metadata
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import NamedTuple

from harness.schema.errors import HarnessError


class TorchVersionError(HarnessError, ValueError):
    """No rules are known for this version of PyTorch."""


class TorchVersion(NamedTuple):
    """A major and minor version of PyTorch; no patch release has changed a rule."""

    major: int
    minor: int

    def __str__(self) -> str:
        """Return the version as text, such as ``2.13``."""
        return f"{self.major}.{self.minor}"

    @classmethod
    def parse(cls, text: str) -> "TorchVersion":
        """Return the major and minor version of ``text``, such as ``2.13.0+cpu``."""
        match = re.match(r"(\d+)\.(\d+)(?![0-9])", text)
        if match is None:
            raise TorchVersionError(f"torch must be a version such as {NEWEST}, got {text!r}")
        return cls(int(match[1]), int(match[2]))


KNOWN = tuple(TorchVersion(2, minor) for minor in range(7, 16))
"""Versions whose events were compared with predictions to the byte; see
``results/torch-versions.md``."""
OLDEST, NEWEST = KNOWN[0], KNOWN[-1]

_chosen: ContextVar[TorchVersion | None] = ContextVar("chosen torch version", default=None)


@functools.cache
def installed_version(package: str) -> str | None:
    """Return the version of an installed package without importing it; None if absent."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def torch_version() -> str | None:
    """Return the version of the installed torch; None if absent."""
    return installed_version("torch")


def described_version() -> TorchVersion:
    """Return the version of PyTorch that predictions describe in this context."""
    return _chosen.get() or nearest_known(torch_version())


def nearest_known(version: str | None) -> TorchVersion:
    """Return the known version nearest to ``version``; the newest if ``version`` is None."""
    if version is None:
        return NEWEST
    return min(max(TorchVersion.parse(version), OLDEST), NEWEST)


def known_version(text: str) -> TorchVersion:
    """Return ``text`` as a known version; raise an error if the version is not known."""
    version = TorchVersion.parse(text)
    if version not in KNOWN:
        raise TorchVersionError(f"torch must be a version from {OLDEST} to {NEWEST}, got {text}")
    return version


def is_newer_than_known(version: str | None) -> bool:
    """Return whether ``version`` is newer than every known version."""
    return version is not None and TorchVersion.parse(version) > NEWEST


@contextmanager
def describing(version: TorchVersion | None) -> Iterator[None]:
    """Let predictions in a ``with`` block describe ``version``; None means the installed version.

    The version is not an argument, because many functions would only pass the version on.
    """
    before = _chosen.set(version)
    try:
        yield
    finally:
        _chosen.reset(before)


def version_notes() -> Iterator[str]:
    """Yield a note if predictions describe another version than the installed version."""
    installed, metrics = torch_version(), f"these are the metrics of torch {described_version()}"
    if installed is None:
        if _chosen.get() is None:
            yield f"torch is not installed; {metrics}"
        return
    if is_newer_than_known(installed):
        yield (
            f"torch {installed} is newer than {NEWEST}, the newest version whose rules are known; "
            f"{metrics}; 'harness doctor --check-model' names the events that differ"
        )
    elif TorchVersion.parse(installed) < OLDEST:
        rule = f"older than {OLDEST}, the oldest version whose rules are known"
        yield f"torch {installed} is {rule}; {metrics}"


@dataclass(frozen=True, kw_only=True)
class Change:
    """A rule that changed in one version of PyTorch, with its old and its new form.

    >>> MAXIMUM_COMPARES_FIRST.holds(TorchVersion(2, 13))
    False
    """

    since: TorchVersion
    before: str
    after: str

    def holds(self, version: TorchVersion | None = None) -> bool:
        """Return whether the new form applies to ``version`` (default: the described version)."""
        return (version or described_version()) >= self.since


MAXIMUM_COMPARES_FIRST = Change(
    since=TorchVersion(2, 14),
    before="it first halved the gradient, then computed == and selected elements, and computed < "
    "at the end (tools/autograd/derivatives.yaml)",
    after="the backward pass of torch.maximum first computes the comparison <; under a dispatch "
    "mode it fills a new tensor, which allocates one more block",
)
WORKSPACES_FREED = Change(
    since=TorchVersion(2, 15),
    before="each thread that ran matmuls kept a cuBLAS workspace, which cuBLASLt shared "
    "(aten/src/ATen/cuda/CublasHandlePool.cpp)",
    after="each matmul allocates a cuBLAS workspace and frees it afterwards; cuBLASLt has its own "
    "smaller workspace",
)
CHANGES = (MAXIMUM_COMPARES_FIRST, WORKSPACES_FREED)
"""All rules that differ between versions, verified with the events of PyTorch's own allocator."""
