"""The dry run on torch 2.4, with which the trainings of GPUMemNet were measured.

The harness needs torch 2.7. ``torch_2_4/README.md`` says what of it runs on 2.4, and how.
"""

from importlib.metadata import version

from benchmarks.witnesses.predictors import dry_run
from benchmarks.witnesses.rows import RefusedError, Row

NEEDS_GPU = True


def predict(row: Row) -> int:
    """Return what the dry run returns."""
    if not version("torch").startswith("2.4."):
        raise RefusedError("needs torch 2.4")
    return dry_run.predict(row)
