"""A CUDA build of PyTorch on a pretended GPU.

PyTorch's own allocator, dispatcher, autograd and optimizers run; only what lies below them (the
CUDA runtime, the driver, NVIDIA's libraries) is a stub that keeps the books and starts no kernel.
So the memory is that of a GPU, and a value read from the GPU is real only where it is known.

    stub/               the stub in C, one file per library
    toolchain.py        what is needed of the machine
    build.py            compiles the stub into the user's cache folder
    run.py              the function to call
    stub_cache.py       checks and repairs what is kept there
    child_process.py    starts the child process and waits for it
    supervisor.py       the process between both, which ends all that the script started
    child.py            the process that the user's code runs in
    ending.py           writes what was seen, however that process ends
    kept_files.py       the user's files that are not replaced (stub/file_*.c)
    recording.py        what is watched there
    known_values.py     which values are known, and how they are followed
    value_reads.py      what the code reads from the GPU, known and unknown
    assemble_report.py  the report of what was seen
"""

import sys
from types import ModuleType

from harness.dry_run.dry_run_report import DryRunReport
from harness.dry_run.dry_run_request import DryRunError
from harness.dry_run.pretended_gpu import PretendedGpu, pretended_gpu
from harness.dry_run.run import dry_run
from harness.dry_run.toolchain import DryRunUnavailableError

__all__ = [
    "DryRunError",
    "DryRunReport",
    "DryRunUnavailableError",
    "PretendedGpu",
    "dry_run",
    "pretended_gpu",
]


class _CallablePackage(ModuleType):
    """Lets ``harness.dry_run(...)`` be a call although ``harness.dry_run`` is this package."""

    __call__ = staticmethod(dry_run)


sys.modules[__name__].__class__ = _CallablePackage
