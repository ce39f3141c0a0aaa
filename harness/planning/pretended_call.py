"""A call of a function under the dry run, on a GPU of any size.

The GPU is given more memory than any has, and then, only where that leaves the verdict open, its
own.
"""

from collections.abc import Callable
from dataclasses import dataclass

from harness.dry_run.build import build as build_stub
from harness.dry_run.dry_run_report import DryRunReport
from harness.dry_run.dry_run_request import DryRunError
from harness.dry_run.pretended_gpu import pretended_gpu
from harness.dry_run.run import dry_run
from harness.dry_run.sent_function import pickled
from harness.dry_run.toolchain import DryRunUnavailableError, torch_build
from harness.prediction.gpu import context_overhead
from harness.prediction.gpu.catalogue import Gpu
from harness.prediction.module.module_prediction import UnsupportedModuleError
from harness.schema.prediction import Fit

ENDLESS_BYTES = 1 << 46


@dataclass(frozen=True, kw_only=True)
class PretendedCall:
    """What is called, and on which GPU.

    Attributes:
        function: called in a process of its own.
        arguments: what it is called with.
        gpu: the GPU to pretend.
        settings: as in PYTORCH_ALLOC_CONF.

    """

    function: Callable[..., object]
    arguments: tuple[object, ...]
    gpu: Gpu
    settings: str

    def why_not_here(self) -> str | None:
        """Return why this machine cannot do it; None where it can."""
        try:
            build_stub(torch_build())
            pickled((self.function, self.arguments))
        except (DryRunUnavailableError, DryRunError) as error:
            return str(error)
        return None

    def run(self, total_bytes: int = ENDLESS_BYTES, outside_bytes: int = 1) -> DryRunReport:
        """Return the report on a GPU of this size, of which some bytes are others'.

        Raises:
            UnsupportedModuleError: the call ends otherwise than well or out of memory.

        """
        settings = self.settings
        names = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
        report = dry_run(
            self.function,
            *self.arguments,
            gpu=pretended_gpu(self.gpu, memory_bytes=total_bytes, outside_bytes=outside_bytes),
            environment=dict.fromkeys(names, settings) if settings else {},
            quiet=True,
        )
        if report.outcome not in ("ok", "oom"):
            raise UnsupportedModuleError(f"unsupported: the dry run ended: {report.evidence}")
        return report

    def verdict(self, allocated_bytes: int, reserved_bytes: int) -> Fit | None:
        """Return whether it fits, given its peaks on the endless GPU; None for an unknown size."""
        total = self.gpu.total_bytes
        if total is None:
            return None
        least, most = context_overhead.LEAST_BYTES, context_overhead.MOST_BYTES
        if reserved_bytes + most <= total:
            return "fits"
        if allocated_bytes + least > total:
            return "does not fit"
        if self.run(total, most).outcome == "ok":
            return "fits"
        return "close call" if self.run(total, least).outcome == "ok" else "does not fit"
