"""Options that name or describe a GPU."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from harness.cli.parameter_types import SIZE, Completed
from harness.cli.shared_options import gathered

if TYPE_CHECKING:
    from harness.prediction.gpu.catalogue import Gpu

GPU = Completed("harness.prediction.gpu.catalogue:names")
GPU_OR_ALL = Completed("harness.prediction.gpu.catalogue:names", "all")


@dataclass(frozen=True, kw_only=True)
class GpuFlags:
    """The flags that describe a GPU and its allocator."""

    gpu: str | None
    capability: str | None
    memory: int | None
    alloc_conf: str

    def are_given(self) -> bool:
        """Return whether the flags name or describe a GPU."""
        return any(value is not None for value in (self.gpu, self.capability, self.memory))

    def mean_all(self) -> bool:
        """Return whether ``--gpu all`` was given, which means the most common GPUs."""
        return self.gpu is not None and self.gpu.lower() == "all"

    def has_memory(self) -> bool:
        """Return whether the flags describe a GPU whose memory is known."""
        gpu = self.described()
        return gpu is not None and gpu.total_bytes is not None

    def described(self) -> "Gpu | None":
        """Return the GPU that the flags describe; None if they describe no GPU."""
        from harness.prediction.gpu.catalogue import described

        return described(self.gpu, self.capability, self.memory) if self.are_given() else None


gpu_description = gathered(
    GpuFlags,
    "gpu_flags",
    click.option(
        "--capability",
        metavar="M.N",
        help="Compute capability of a GPU that is not in the built-in list, e.g. 9.0.",
    ),
    click.option("--memory", type=SIZE, help="Total memory of the GPU, e.g. 80GiB."),
    click.option(
        "--alloc-conf",
        default="",
        show_default=False,
        metavar="SETTINGS",
        help="Settings of the CUDA allocator, in the syntax of PYTORCH_ALLOC_CONF.",
    ),
)

pretend_option = click.option(
    "--gpu",
    metavar="NAME",
    help="Pretended GPU for --device cuda; times are then null. Without this option a GPU is"
    " pretended only if the machine has no GPU.  [a100-40gb]",
)
