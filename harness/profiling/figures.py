"""Saved bytes by module, from what autograd was seen to hold."""

from collections.abc import Collection, Sequence
from typing import Any

from harness.instruments.saved_tensors import Saved

ROOT = "(network)"
"""Name of the network itself among its modules."""


def saved_figures(
    held: Sequence[Saved], parameters: Collection[int], inputs: Collection[int]
) -> dict[str, Any]:
    """Return a record's ``saved_bytes`` figures; addresses tell parameters and inputs apart."""
    counted = [saved for saved in held if saved.address not in parameters]
    total = sum(saved.size_bytes for saved in counted)
    of_input = sum(saved.size_bytes for saved in counted if saved.address in inputs)
    modules: dict[str, int] = {}
    for saved in counted:
        name = saved.module or ROOT
        modules[name] = modules.get(name, 0) + saved.size_bytes
    return {
        "saved_bytes": total,
        "saved_input_bytes": of_input,
        "saved_activation_bytes": total - of_input,
        "modules": {name: {"saved_bytes": size} for name, size in modules.items()},
    }
