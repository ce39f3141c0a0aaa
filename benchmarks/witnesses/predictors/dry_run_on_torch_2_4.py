"""The dry run on torch 2.4, with which the trainings of GPUMemNet were measured.

The harness needs torch 2.7. ``torch_2_4/README.md`` explains which parts run on 2.4.
"""

from importlib.metadata import version

from benchmarks.witnesses.predictors import dry_run
from benchmarks.witnesses.rows import RefusedError, Row

NEEDS_GPU = True


def predict(row: Row) -> int:
    """Return the answer of the dry run."""
    if not version("torch").startswith("2.4."):
        raise RefusedError("needs torch 2.4")
    return dry_run.predict(row)
