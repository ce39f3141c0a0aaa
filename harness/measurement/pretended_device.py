"""A variable, set by ``harness.dry_run``, says that the GPU of this process is a pretended one.

Workers inherit it. What depends on values or time is then left out of records: kernels are not
run, and every value is zero.
"""

import os

VARIABLE = "HARNESS_DRY_RUN_NAME"


def pretended_device() -> str | None:
    """Return what a record says of a pretended GPU, e.g. ``dry run, a100-40gb``; None without."""
    name = os.environ.get(VARIABLE)
    return None if name is None else f"dry run, {name}"
