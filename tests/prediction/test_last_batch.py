"""A smaller last batch as the reader of a prediction sees it: metrics, verdicts, refusals."""

import json
from dataclasses import replace

import pytest

from harness.prediction.gpu.catalogue import GPUS
from harness.prediction.gpu.fit import GpuMemory
from harness.prediction.mlp.cuda_fit import Epoch, runs_of
from harness.prediction.predict_workload import predict
from harness.schema.step_choices import MOST_STEPS
from harness.schema.workload import Workload
from tests.commands import Ask
from tests.known import known

MIB = 1 << 20
RISING = Workload(device="cuda", hidden=(2000, 33, 256), batch=256, activation="gelu")
"""With a last batch of 89 it reserves one segment more: so PyTorch did under the dry run."""


def epoch(workload: Workload, examples: int) -> Epoch:
    return Epoch(workload=workload, gpu=GPUS["a100-40gb"], examples=examples)


@pytest.mark.usefixtures("rules_of_2_13")
def test_a_smaller_last_batch_can_reserve_more_than_whole_ones() -> None:
    predicted = predict(RISING, gpu="a100-40gb", examples=10 * 256 + 89)
    last = known(predicted.last_batch)
    assert (last.rows, last.steps_before) == (89, MOST_STEPS + 1)
    assert last.partial_step.reserved_peak_bytes == 44 * MIB
    assert last.next_step.reserved_peak_bytes == 44 * MIB
    assert last.reserved_rise_bytes == (2 * MIB, 2 * MIB)
    assert predicted.cuda is not None
    assert predicted.cuda.reserved_peak_bytes == 42 * MIB
    assert last.next_step.requested_peak_bytes == predicted.cuda.requested_peak_bytes
    whole, smaller = (known(s.requested_peak_bytes) for s in (last.next_step, last.partial_step))
    assert smaller < whole
    short = epoch(RISING, 2 * 256 + 5)
    assert (short.steps_before, short.rows) == (2, 5)
    even = predict(RISING, examples=1024)
    assert even.last_batch is None
    assert "examples: 1,024 fill whole batches, so no step is smaller" in even.notes


@pytest.mark.usefixtures("rules_of_2_13")
def test_the_verdicts_are_of_the_run_with_its_last_batch() -> None:
    """Under a limit of 42 MiB PyTorch ran whole steps, and not the one of 89 (dry run)."""
    run = epoch(RISING, 10 * 256 + 89)
    memory = GpuMemory(gpu=run.gpu, settings="", total_bytes=42 * MIB, outside_bytes=(0, 0))
    assert memory.verdict(*runs_of(RISING, run.gpu)) == "fits"
    assert memory.verdict(*runs_of(RISING, run.gpu, run)) == "does not fit"
    larger = replace(memory, total_bytes=44 * MIB)
    assert larger.verdict(*runs_of(RISING, run.gpu, run)) == "fits"
    for examples, needed in ((2560, 42 * MIB), (run.examples, 44 * MIB)):
        budget = known(predict(RISING, budget_bytes=42 * MIB, examples=examples).budget)
        assert (budget.needed_bytes, budget.fits) == (needed, needed == 42 * MIB)


@pytest.mark.usefixtures("rules_of_2_13")
def test_the_command_line_tells_of_the_last_batch(ask: Ask) -> None:
    flags = ["--hidden", "2000,33,256", "--activation", "gelu", "--examples", "2649"]
    command = ["predict", "--device", "cuda", *flags]
    text = ask(command).out
    assert "the last batch of 89 rows and the step after it reserve 2 MiB more" in text
    assert json.loads(ask([*command, "--json"]).out)["last_batch"]["rows"] == 89
