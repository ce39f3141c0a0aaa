"""A CUDA build of PyTorch on a pretended GPU.

PyTorch's own allocator, dispatcher, autograd and optimizers run; only what lies below them (the
CUDA runtime, the driver, NVIDIA's libraries) is a stub that keeps the books and starts no kernel.
So the memory is that of a GPU, and a value read from the GPU is real only where it is known.
"""

from harness.dry_runs.dry_run_report import DryRunReport
from harness.dry_runs.dry_run_request import DryRunError
from harness.dry_runs.pretended_gpu import PretendedGpu, pretended_gpu
from harness.dry_runs.run import dry_run
from harness.dry_runs.toolchain import DryRunUnavailableError

__all__ = [
    "DryRunError",
    "DryRunReport",
    "DryRunUnavailableError",
    "PretendedGpu",
    "dry_run",
    "pretended_gpu",
]
