"""Names of the script that keep what grows, looked through after some of its steps."""

import dataclasses
from typing import TYPE_CHECKING

from harness.schema.growth import Growth

if TYPE_CHECKING:
    from harness.dry_runs.kept_tensors import Held  # it needs PyTorch

_LOOKS = frozenset(1 << power for power in range(2, 40))
"""Steps after which names are looked through for what they hold."""

NO_NAME = ("no variable of the script leads to more than before: a cycle of objects, perhaps",)


class GrowthCauses:
    """Names of the script after some of its steps, and what they lead to."""

    def __init__(self) -> None:
        self._held: list[Held] = []

    def look(self, step: int, *, is_last: bool) -> None:
        """Look through the names after some of the steps, and after the last one."""
        if is_last or step in _LOOKS:
            from harness.dry_runs.kept_tensors import held_by_names

            self._held.append(held_by_names(step))

    def named(self, growth: Growth, *, host: bool = False) -> Growth:
        """Return the growth with the names that keep what grows."""
        if growth.kind != "leak" or len(self._held) < 2:
            return growth
        from harness.dry_runs import kept_tensors

        causes = kept_tensors.host_causes if host else kept_tensors.causes
        found = (*growth.causes, *causes(*self._held[-2:])) or NO_NAME
        return dataclasses.replace(growth, causes=found)
