"""Sizes of the blocks that PyTorch hands to cuBLAS where CUBLAS_WORKSPACE_CONFIG is not set."""

SMALL_BYTES = 8_519_680
"""Two of 4 MiB and eight of 16 KiB: below compute capability 9.0."""
LARGE_BYTES = 33_554_432
"""Eight of 4 MiB: from 9.0 on, and on each GPU under ``:4096:8``."""
