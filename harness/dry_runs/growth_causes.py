"""Finds the variables of the script that keep more and more memory alive."""

import dataclasses
import gc
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from harness.schema.growth import LEAST_STEPS, Growth
from harness.schema.units import format_bytes

if TYPE_CHECKING:
    from harness.dry_runs.kept_tensors import Held  # it needs PyTorch

_LOOKS = frozenset(1 << power for power in range(2, 40))
"""Optimizer steps after which the objects in the script's variables are counted."""


class GrowthCauses:
    """Counts the objects in the script's variables to find the causes of memory growth."""

    def __init__(self) -> None:
        self._held: list[Held] = []
        self._at_end: Held | None = None
        self._in_cycles_bytes: int | None = None

    def look(self, step: int, *, is_last: bool) -> None:
        """Count objects in the script's variables if the step is the last or one of ``_LOOKS``."""
        if is_last or step in _LOOKS:
            from harness.dry_runs.kept_tensors import held_by_names

            self._held.append(held_by_names(step))

    def look_at_end(self, step: int) -> None:
        """Count the objects in the module-level variables that exist when the script ends."""
        if step >= LEAST_STEPS:
            from harness.dry_runs.kept_tensors import held_by_names

            self._at_end = held_by_names(step)

    def named(self, growth: Growth) -> Growth:
        """Return a GPU's memory growth, with the variables that keep the growing memory alive."""
        if growth.kind != "leak" or not self._held:
            return growth
        from harness.dry_runs.kept_tensors import causes

        found = tuple(self._found(causes))
        return dataclasses.replace(growth, causes=growth.causes + found or self._cycles(growth))

    def named_on_host(self, growth: Growth, steps_grow: bool) -> Growth:
        """Return the host's memory growth, with the variables that keep the growing memory alive.

        The kind of growth is ``unknown`` if variables contain larger but not more objects than
        before, or if later steps allocate more on the GPU.
        """
        if growth.kind != "leak" or not self._held:
            return growth
        from harness.dry_runs.kept_tensors import host_causes, larger_on_host

        names = self._found(larger_on_host)
        if names or steps_grow:
            inside = f"{' and '.join(names)} held larger things, not more" if names else ""
            reason = f"{inside or 'each step allocates more on the GPU'}: longer batches, perhaps"
            return dataclasses.replace(growth, kind="unknown", reason=reason, per_step_bytes=0)
        return dataclasses.replace(growth, causes=tuple(self._found(host_causes)))

    def _found(self, seek: "Callable[[Held, Held], Iterable[str]]") -> list[str]:
        """Return the causes that the last two counts show; if none, the causes since then."""
        found = list(seek(*self._held[-2:])) if len(self._held) > 1 else []
        if not found and self._at_end is not None and self._at_end.step > self._held[-1].step:
            found = list(seek(self._held[-1], self._at_end))  # it began since
        return found

    def _cycles(self, growth: Growth) -> tuple[str, ...]:
        """Return reference cycles as the cause if they keep at least half of the growth alive."""
        if self._in_cycles_bytes is None:
            self._in_cycles_bytes = _collected_bytes()
        size = self._in_cycles_bytes
        if 2 * size < sum(added for _, added in growth.places):
            return ()
        return (f"objects in cycles hold {format_bytes(size)}, which gc.collect() frees",)


def _collected_bytes() -> int:
    """Run Python's garbage collector; return the bytes of GPU memory that it freed."""
    import torch

    devices = range(torch.cuda.device_count())
    before = sum(torch.cuda.memory_allocated(device) for device in devices)
    gc.collect()
    return before - sum(torch.cuda.memory_allocated(device) for device in devices)
