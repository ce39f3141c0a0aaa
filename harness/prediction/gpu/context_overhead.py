"""The part of a GPU's memory that is outside the allocator: the driver's context and libraries.

No counter of PyTorch's shows it and no model predicts it; it differs with the driver, the GPU and
the kernels that were loaded. Reports of single processes, without NCCL: 274 MiB with lazy
loading and 636 MiB without (pytorch/pytorch #86509), 426 MiB on torch 2.10 and CUDA 13
(unslothai/unsloth-zoo #1053), 300 to 400 MiB since CUDA 11.7 (pytorch/pytorch #107667, #109888).
"""

MIB = 1 << 20

LEAST_BYTES = 274 * MIB
MOST_BYTES = 768 * MIB
"""The highest report and a fifth, since no GPU of the table has a report of its own."""
