"""Options that several commands share: a GPU, deadlines, a pretended GPU, ``--force``."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from harness.cli.parameter_types import SECONDS, SIZE

if TYPE_CHECKING:
    from harness.prediction.gpu.catalogue import Gpu

Command = Callable[..., Any]

_DESCRIPTION = (
    click.option(
        "--capability",
        metavar="M.N",
        help="Compute capability of a GPU that is not in the built-in list, e.g. 9.0.",
    ),
    click.option("--memory", type=SIZE, help="Total memory of that GPU, e.g. 80GiB."),
    click.option(
        "--alloc-conf",
        default="",
        metavar="SETTINGS",
        help="Settings of the CUDA allocator, as in PYTORCH_ALLOC_CONF.",
    ),
)


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
        """Return whether every GPU of the built-in list is asked for."""
        return self.gpu is not None and self.gpu.lower() == "all"

    def has_memory(self) -> bool:
        """Return whether they describe a GPU of known memory."""
        gpu = self.described()
        return gpu is not None and gpu.total_bytes is not None

    def described(self) -> "Gpu | None":
        """Return the GPU; None if no flag is given."""
        from harness.prediction.gpu.catalogue import described

        return described(self.gpu, self.capability, self.memory) if self.are_given() else None


def with_options(
    options: Sequence[Callable[[Command], Command]], kind: type, name: str, command: Command
) -> Command:
    """Add ``options`` to a command, which receives their values as one ``kind`` called ``name``."""

    @wraps(command)
    def called(**given: Any) -> Any:
        values = {item.name: given.pop(item.name) for item in fields(kind)}
        return command(**{name: kind(**values)}, **given)

    result: Command = called
    for option in reversed(options):
        result = option(result)
    return result


def gpu_description(command: Command) -> Command:
    """Add the options that describe a GPU; the command receives them as ``gpu_flags``."""
    return with_options(_DESCRIPTION, GpuFlags, "gpu_flags", command)


replay_deadline = click.option(
    "--deadline",
    type=SECONDS,
    default=60.0,
    show_default=True,
    help="Refuse a recording that takes longer than this many seconds.",
)


pretend_option = click.option(
    "--gpu",
    metavar="NAME",
    help="GPU to pretend in a dry run, for --device cuda; times are null then. Without this option"
    " a GPU is pretended only if the machine has none.  [a100-40gb]",
)

deadline_option = click.option(
    "--deadline",
    type=SECONDS,
    default=600,
    show_default=True,
    help="Seconds after which a worker process is stopped.",
)

force_option = click.option(
    "--force", is_flag=True, help="Try more memory than is available on this machine."
)
