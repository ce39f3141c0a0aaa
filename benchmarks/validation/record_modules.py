"""Measure the steps of a module on the (pretended) GPU; print the allocator's peaks as JSON.

    python record_modules.py NAME    # on a pretended GPU

cuDNN is off: the dry run has none.
"""

import json
import sys

import torch

from benchmarks.validation.modules import MODULES
from harness.instruments.cuda_counters import cuda_peaks
from harness.training.module_step import Step, make_optimizer, run_step
from harness.training.training_step import no_phase

STEPS = 4


def main() -> None:
    """Build, run the steps, print the peaks of each."""
    torch.backends.cudnn.enabled = False
    case = MODULES[sys.argv[1]]
    with torch.device("cuda"):
        model = case.build()
        x = torch.empty(case.batch, *case.input_shape)
        y = torch.zeros(case.batch, dtype=torch.int64)
    optimizer = make_optimizer(case.optimizer, list(model.parameters()))
    step = Step(model=model, x=x, y=y, optimizer=optimizer, loss=case.loss, mode="train")
    found = []
    for _ in range(STEPS):
        with cuda_peaks() as peaks:
            run_step(step, no_phase)
        found.append(peaks.metrics)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
