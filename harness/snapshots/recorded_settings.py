"""The allocator's settings as a recording states them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from harness.allocator import AllocatorConfig, AllocatorConfigError
from harness.allocator.config import UNLIMITED
from harness.snapshots.snapshot import Snapshot


def recorded_config(snapshot: Snapshot) -> tuple[AllocatorConfig, list[str]]:
    """Return the settings of a recording, and what had to be assumed."""
    notes = []
    if not snapshot.flags:
        notes.append("the recording holds no settings (before PyTorch 2.3): defaults are assumed")
    try:
        config = AllocatorConfig.from_settings(snapshot.settings, total_bytes=1)
    except AllocatorConfigError as error:
        notes.append(f"{error}; it is ignored")
        config = AllocatorConfig()
    # How large the GPU was, and so what a fraction of it is, is in no recording.
    fields: dict[str, Any] = {"total_bytes": None, "memory_fraction": 1.0}
    fields.update(_understood(snapshot.flags))
    try:
        return replace(config, **fields), notes
    except AllocatorConfigError as error:
        notes.append(f"{error}; it is ignored")
        return AllocatorConfig(), notes


def _understood(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that the allocator itself reported, which later calls may have set."""
    fields: dict[str, Any] = {}
    expandable = flags.get("expandable_segments")
    if isinstance(expandable, bool):
        fields["expandable_segments"] = expandable
    limit = flags.get("max_split_size")
    if isinstance(limit, int):
        fields["max_split_size_bytes"] = limit if limit > 0 else UNLIMITED
    divisions = flags.get("roundup_power2_divisions")
    if isinstance(divisions, dict) and len(divisions) == 16:
        table = tuple(divisions.values())
        if all(isinstance(entry, int) for entry in table):
            fields["roundup_power2_divisions"] = table
    return fields
