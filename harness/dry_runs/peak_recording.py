"""Records a process's peaks, optimizer steps and failed allocations, but no live blocks.

The recording starts when the script initialises CUDA. Settings in the script's first lines still
take effect, and a script that never uses the GPU runs unchanged.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from harness.dry_runs.computing import ComputedSteps
from harness.dry_runs.dry_run_report import Device, OutOfMemory
from harness.dry_runs.highest_peaks import HighestPeaks
from harness.dry_runs.ranks import release_works
from harness.dry_runs.refused_requests import ran_while_handled, refused_request
from harness.dry_runs.value_reads import ValueReads
from harness.schema.growth import Growth

if TYPE_CHECKING:
    import torch  # ``start`` imports it: this module is loaded before the script's PyTorch is

    from harness.dry_runs.history import History


class EnoughStepsError(SystemExit):
    """Ends the script after the requested number of optimizer steps, like ``sys.exit``."""


class PeakRecording:
    """Records the peaks of one process; call ``start`` after PyTorch is imported."""

    def __init__(
        self,
        reads: ValueReads,
        most_steps: int | None,
        on_begin: Callable[[], object],
    ) -> None:
        self._reads = reads
        self._on_begin = on_begin
        self._most_steps = most_steps
        self._began = False
        self._highest = HighestPeaks()
        self._refused: list[OutOfMemory] = []
        self.optimizer_steps = 0
        self.computed_steps = ComputedSteps()
        self.histories: list[History] = []
        """The allocation history of each GPU; empty until the recording ends."""
        self.history_bytes = 0
        self.host_growth: Growth | None = None
        self.notes: dict[str, None] = {}
        """Notes for the report, without duplicates, in the order of their occurrence."""
        self._note = self.notes.setdefault

    def start(self, torch_module: object, *, at_once: bool = False) -> None:
        """Start recording when PyTorch initialises CUDA, or immediately if ``at_once``."""
        global torch
        import torch

        assert torch_module is torch
        if at_once:
            self._begin()
        else:
            torch.cuda._lazy_call(self._begin)  # type: ignore[no-untyped-call]

    def _begin(self) -> None:
        """Start recording, while the script's process initialises CUDA."""
        from torch.optim.optimizer import register_optimizer_step_post_hook

        backend = torch.cuda.get_allocator_backend()
        if backend != "native":
            self._note(f"the allocator {backend} keeps no history and no peaks")
            return
        if self._began:
            return
        self._began = True
        self._on_begin()
        self._highest.watch()
        bindings: Any = torch._C
        bindings._cuda_attach_out_of_memory_observer(self._on_refusal)
        register_optimizer_step_post_hook(self._after_step)
        self._reads.listen()
        self._begin_history()

    def _begin_history(self) -> None:
        """Do nothing; a subclass overrides this method to record the allocation history."""

    def _after_step(self, optimizer: "torch.optim.Optimizer", *_: object) -> None:
        if torch.compiler.is_compiling():  # or it would break the graph of a compiled step
            return
        if inside := ran_while_handled():
            self._note(inside)
        release_works()
        self.optimizer_steps += 1
        self.computed_steps.look(self.optimizer_steps)
        self._look(optimizer)
        if self._is_last_step():
            raise EnoughStepsError

    def _is_last_step(self) -> bool:
        return self.optimizer_steps == self._most_steps

    def _look(self, optimizer: "torch.optim.Optimizer") -> None:
        """Do nothing; a subclass overrides this method to record the memory after each step."""

    def _on_refusal(self, device: int, size: int, total: int, free: int) -> None:
        """Record a failed allocation while its Python stack still exists."""
        del total
        if inside := ran_while_handled():
            self._note(inside)
        self._refused.append(refused_request(device, size, free))

    def border(self) -> list[int]:
        """Return each device's number of allocations so far; an empty list without a history."""
        return []

    def mark_owners(self) -> None:
        """Do nothing; a subclass overrides this method to record the current owners of blocks."""

    def pinned_bytes(self) -> tuple[int, int] | None:
        """Return the peaks of pinned memory: bytes in use, and bytes reserved by PyTorch."""
        if not self._began:
            return None
        from harness.instruments.pinned_memory import pinned_bytes  # it needs PyTorch

        return pinned_bytes()

    def finish(self) -> tuple[list[Device], list[OutOfMemory]]:
        """Return the results of each device, and the failed allocations."""
        if not self._began:
            return [], []
        from harness.dry_runs.allocator_log import snapshot  # it needs PyTorch

        segments = snapshot()["segments"]
        count = torch.cuda.device_count()
        return [self._highest.device(index, segments) for index in range(count)], self._refused
