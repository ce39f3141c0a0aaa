"""Computes values in a worker on a pretended GPU that trains; runs when the worker imports PyTorch.

``stub/processes/bring_recorder.c`` executes this file, as it executes ``light_start.py`` in the
processes of a script. Workers that measure memory compute nothing, because no value moves a peak of
theirs.
"""


def _begin() -> None:
    import os
    import sys
    from types import FrameType

    import torch

    def trains() -> bool:
        """Return whether the job of this worker is a whole training run."""
        frame: FrameType | None = sys._getframe()
        while frame is not None:
            if any(type(value).__name__ == "Train" for value in frame.f_locals.values()):
                return True
            frame = frame.f_back
        return False

    def compute() -> None:
        if trains():
            from harness.dry_runs.begin_computing import begin_computing

            os.environ["HARNESS_COMPUTE"] = "all"
            begin_computing()

    torch.cuda._lazy_call(compute)  # type: ignore[no-untyped-call]


if __name__ == "harness_dry_run":
    _begin()
