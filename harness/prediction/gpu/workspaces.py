"""Computes the sizes of cuBLAS workspaces, which are blocks of PyTorch's allocator.

Up to PyTorch 2.14, each thread that runs a matmul keeps one workspace. The main thread allocates
its workspace in the first forward pass, and autograd's thread allocates its workspace in the first
backward pass. The library cuBLASLt, which runs ``addmm`` with a bias, uses the same workspaces.

PyTorch 2.15 allocates a workspace for each matmul and frees it afterwards. In 2.15, cuBLASLt has
its own workspace of 1 MiB for every capability. ``WORKSPACES_FREED`` describes the change in 2.15.

Source: aten/src/ATen/cuda/CublasHandlePool.cpp (``parseChosenWorkspaceSize``). The sizes were
observed in dry runs on capabilities 8.0, 8.9 and 9.0, and with 2.15 also on 7.5, 10.0 and 12.0.
"""

import os
import re

from harness.prediction.gpu.catalogue import VARIABLE
from harness.prediction.versions import WORKSPACES_FREED
from harness.schema.errors import HarnessError

KIB = 1 << 10

SMALL_BYTES = 8_519_680
"""Size of a cuBLAS workspace up to capability 8.9, in bytes."""
LARGE_BYTES = 33_554_432
"""Size of a cuBLAS workspace from capability 9.0 on, in bytes."""

LT_WORKSPACE_BYTES = 1 << 20
"""Size of cuBLASLt's own workspace since PyTorch 2.15, unless CUBLASLT_WORKSPACE_SIZE is set."""
_NOT_FOLLOWED = ("CUBLASLT_WORKSPACE_SIZE", "TORCH_CUBLAS_WORKSPACE_CACHE")

_MOST_BYTES = 2**63 - 1


class WorkspaceConfigError(HarnessError, ValueError):
    """CUBLAS_WORKSPACE_CONFIG contains a number that is too large for PyTorch."""


def workspace_bytes(capability: tuple[int, int], config: str | None = None) -> int:
    """Return the size of one workspace; ``config`` is the value of CUBLAS_WORKSPACE_CONFIG.

    Like PyTorch, this function adds up all pairs in ``config``. If ``config`` contains no pair, the
    default size for ``capability`` is returned. ``:0:0`` means no workspace.
    """
    pairs = re.findall(":([0-9]+):([0-9]+)", config or "")
    if not pairs:
        return LARGE_BYTES if capability >= (9, 0) else SMALL_BYTES
    longest = max(len(number) for pair in pairs for number in pair)
    total = _MOST_BYTES + 1 if longest > 20 else sum(int(k) * KIB * int(n) for k, n in pairs)
    if total > _MOST_BYTES:
        raise WorkspaceConfigError(
            f"{VARIABLE} must be at most {_MOST_BYTES} bytes, got {_short(config)}"
        )
    return total


def are_kept() -> bool:
    """Return whether the version of PyTorch that predictions describe keeps its workspaces."""
    return not WORKSPACES_FREED.holds()


def is_lt_matmul(k: int, n: int) -> bool:
    """Return whether cuBLASLt runs ``addmm`` of a bias and matrices (m, k) and (k, n)."""
    return k > 1 and n > 1


def notes_on(capability: tuple[int, int], config: str | None) -> list[str]:
    """Return notes on environment variables that set the workspaces."""
    notes = []
    if not are_kept():
        said = [name for name in _NOT_FOLLOWED if os.environ.get(name)]
        notes = [f"{name}: not followed; workspaces are those without it" for name in said]
    if not config:
        return notes
    size = workspace_bytes(capability, config)
    note = f"{VARIABLE} {_short(config)}: a cuBLAS workspace has {size:,} bytes"
    if not re.search(":[0-9]+:[0-9]+", config):
        note += ", as if it were unset: no pair :KiB:count in it"
    return [note, *notes]


def _short(config: str | None) -> str:
    text = config or ""
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
