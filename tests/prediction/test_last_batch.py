"""A smaller last batch as the reader of a prediction sees it: metrics, verdicts, refusals."""

import json
from dataclasses import replace

import pytest

from harness.allocator import CachingAllocator
from harness.cli.app import main
from harness.prediction.gpu.catalogue import GPUS
from harness.prediction.gpu.fit import GpuMemory
from harness.prediction.gpu.peaks import ENDLESS
from harness.prediction.gpu.simulation import MOST_STEPS
from harness.prediction.mlp.cuda_fit import runs_of
from harness.prediction.mlp.cuda_trace import CudaSteps
from harness.prediction.mlp.last_batch import Epoch, ExamplesError
from harness.prediction.predict_workload import predict
from harness.schema.verdict import DOES_NOT_FIT, FITS
from harness.schema.workload import Workload

MIB = 1 << 20
RISING = Workload(device="cuda", hidden=(2000, 33, 256), batch=256, activation="gelu")
"""With a last batch of 89 it reserves one segment more: so PyTorch did under the dry run."""


def epoch(workload: Workload, examples: int) -> Epoch:
    return Epoch(workload=workload, gpu=GPUS["a100-40gb"], examples=examples)


@pytest.mark.usefixtures("rules_of_2_13")
def test_a_smaller_last_batch_can_reserve_more_than_whole_ones() -> None:
    predicted = predict(RISING, gpu="a100-40gb", examples=10 * 256 + 89)
    last = predicted.last_batch
    assert last is not None
    assert (last.rows, last.steps_before) == (89, MOST_STEPS + 1)
    assert last.partial_step.reserved_peak_bytes == 44 * MIB
    assert last.next_step.reserved_peak_bytes == 44 * MIB
    assert last.reserved_rise_bytes == (2 * MIB, 2 * MIB)
    assert predicted.cuda is not None
    assert predicted.cuda.reserved_peak_bytes == 42 * MIB
    assert last.next_step.requested_peak_bytes == predicted.cuda.requested_peak_bytes
    whole, smaller = (step.requested_peak_bytes for step in (last.next_step, last.partial_step))
    assert whole is not None
    assert smaller is not None
    assert smaller < whole


@pytest.mark.usefixtures("rules_of_2_13")
def test_the_verdicts_are_of_the_run_with_its_last_batch() -> None:
    """Under a limit of 42 MiB PyTorch ran whole steps, and not the one of 89 (dry run)."""
    run = epoch(RISING, 10 * 256 + 89)
    memory = GpuMemory(gpu=run.gpu, settings="", total_bytes=42 * MIB, outside_bytes=(0, 0))
    assert memory.verdict(*runs_of(RISING, run.gpu)) == FITS
    assert memory.verdict(*runs_of(RISING, run.gpu, run)) == DOES_NOT_FIT
    larger = replace(memory, total_bytes=44 * MIB)
    assert larger.verdict(*runs_of(RISING, run.gpu, run)) == FITS
    for examples, needed in ((2560, 42 * MIB), (run.examples, 44 * MIB)):
        budget = predict(RISING, budget_bytes=42 * MIB, examples=examples).budget
        assert budget is not None
        assert (budget.needed_bytes, budget.fits) == (needed, needed == 42 * MIB)


def test_a_limit_that_only_the_last_batch_meets_is_noted() -> None:
    gpu = replace(GPUS["a100-40gb"], total_bytes=43 * MIB * 10)
    for examples, noted in ((2560, 0), (2649, 1)):
        settings = "per_process_memory_fraction:0.1"
        predicted = predict(RISING, gpu=gpu, allocator_settings=settings, examples=examples)
        assert predicted.notes.count(ENDLESS) == noted


def test_a_short_run_has_few_whole_steps_before_its_last() -> None:
    short = epoch(RISING, 2 * 256 + 5)
    assert (short.steps_before, short.rows) == (2, 5)
    rows = [_rows_of_step(short, step) for step in range(1, 5)]
    assert rows == [256, 256, 5, 256]


def _rows_of_step(run: Epoch, step: int) -> int:
    """Rows by the size of the loss's log-softmax, of ten classes in float32."""
    events = run.script.trace(run.steps_before + 2).events
    (logits,) = {
        e.size_bytes
        for e in events
        if e.step == step and e.size_bytes > 0 and "log_softmax" in e.operator.split("/")[-1]
    } or {0}
    return logits // 40


def test_steps_after_the_smaller_one_are_as_before() -> None:
    """As many blocks, all gradients returned, nothing left over."""
    workload = Workload(device="cuda", depth=3, batch=100, optimizer="adam", accumulate=2)
    script = CudaSteps(workload, GPUS["l4"], rows_of={4: 33})
    alive = 0
    after = []
    for step in range(8):
        for _, requests in script.requests(step):
            alive += sum(size for size, _ in requests)
        after.append(alive)
    assert len(set(after[1:])) == 1
    whole = [[[size for size, _ in r] for _, r in script.requests(step)] for step in (3, 5, 6, 7)]
    assert all(one == whole[0] for one in whole)


def test_whole_batches_alone_are_noted() -> None:
    predicted = predict(RISING, examples=1024)
    assert predicted.last_batch is None
    assert "examples: 1,024 fill whole batches, so no step is smaller" in predicted.notes


def test_a_run_without_a_gpu_has_peaks_and_no_verdict() -> None:
    predicted = predict(RISING, examples=300)
    assert predicted.fit is None
    assert predicted.last_batch is not None


def test_batch_normalization_needs_two_rows_of_the_last_batch_too() -> None:
    normed = Workload(device="cuda", batch=64, norm="batch")
    assert epoch(normed, 66).rows == 2
    with pytest.raises(
        ExamplesError, match="examples must leave a last batch of at least 2 rows, got 65"
    ):
        epoch(normed, 65)
    simulated = epoch(normed.replace(mode="inference"), 65).simulate(CachingAllocator())
    assert simulated.partial.requested < simulated.before.requested


@pytest.mark.usefixtures("rules_of_2_13")
def test_the_command_line_tells_of_the_last_batch(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--hidden", "2000,33,256", "--activation", "gelu", "--examples", "2649"]
    command = ["predict", "--device", "cuda", *flags]
    assert main(command) == 0
    text = capsys.readouterr().out
    assert "the last batch of 89 rows and the step after it reserve 2 MiB more" in text
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["last_batch"]["rows"] == 89
