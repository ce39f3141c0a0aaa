"""cuBLAS's workspaces: blocks of the caching allocator that PyTorch hands to the library.

One for each thread that multiplies, since each has a handle of its own: the thread of the
training loop gets its in the first forward pass, autograd's in the first backward pass. They
stay. In PyTorch 2.13 cuBLASLt, which runs ``addmm`` with a bias, shares them.

Source: aten/src/ATen/cuda/CublasHandlePool.cpp (``parseChosenWorkspaceSize``). Seen on
capabilities 8.0, 8.9 and 9.0 under the dry run.
"""

KIB = 1 << 10

_SMALL_BYTES = 2 * 4096 * KIB + 8 * 16 * KIB
_LARGE_BYTES = 8 * 4096 * KIB


def workspace_bytes(capability: tuple[int, int]) -> int:
    """Return the bytes of one workspace where CUBLAS_WORKSPACE_CONFIG says nothing."""
    return _LARGE_BYTES if capability >= (9, 0) else _SMALL_BYTES
