"""The prediction for CUDA as its reader sees it: names, ranges, verdicts, notes, errors."""

import json

import msgspec
import pytest

from harness.prediction.gpu.fit import ENDLESS
from harness.prediction.mlp import cuda_fit
from harness.prediction.predict_workload import predict
from harness.schema.memory_fit import GpuFit
from harness.schema.workload import Workload
from tests.commands import Ask
from tests.known import known

WORKLOAD = Workload(device="cuda", depth=2, batch=512, optimizer="adam")


@pytest.fixture(autouse=True)
def no_workspace_config(monkeypatch: pytest.MonkeyPatch) -> None:
    """The metrics are those of the default workspaces, whatever the developer's shell says."""
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)


@pytest.mark.usefixtures("rules_of_2_13")
def test_the_metrics_are_those_measured_under_the_dry_run() -> None:
    """``harness measure --device cuda --depth 2 --batch 512 --optimizer adam``, torch 2.13."""
    cuda = msgspec.to_builtins(predict(WORKLOAD, gpu="a100-40gb"))["cuda"]
    peaks = {
        "requested_peak_bytes": 24_035_528, "allocated_peak_bytes": 24_037_888,
        "active_peak_bytes": 24_037_888, "reserved_peak_bytes": 29_360_128,
        "workspace_bytes": 2 * 8_519_680, "steady_after": 3,
    }  # fmt: skip
    assert cuda | peaks == cuda
    assert cuda["first_step"]["reserved_peak_bytes"] == 27_262_976
    assert cuda["phases"]["build"]["reserved_peak_bytes"] == 23_068_672
    assert cuda["phases"]["forward"]["requested_peak_bytes"] == 23_453_816


def test_a_gpu_gets_a_verdict_and_the_largest_batch() -> None:
    def fit(batch: int) -> GpuFit:
        return known(predict(WORKLOAD.replace(batch=batch), gpu="t4").fit)

    here = fit(512)
    assert here.verdict == "fits"
    assert (here.largest_batch or 0) < (here.largest_batch_at_best or 0)
    assert fit((here.largest_batch or 0) + 1).verdict == "close call"
    assert fit((here.largest_batch_at_best or 0) + 1).verdict == "does not fit"


@pytest.mark.usefixtures("rules_of_2_13")
def test_where_the_driver_places_segments_is_a_range_but_for_expandable_ones() -> None:
    ties = Workload(device="cuda", depth=4, width=1024, batch=333, optimizer="momentum")
    predicted = predict(ties, gpu="l4")
    low, high = predicted.fit.allocated_peak_bytes  # type: ignore[union-attr]
    assert low < high
    assert low <= (known(predicted.cuda).allocated_peak_bytes or 0) <= high
    assert any("by where the driver places segments" in note for note in predicted.notes)
    one = predict(ties, gpu="l4", allocator_settings="expandable_segments:True")
    for name in ("allocated_peak_bytes", "reserved_peak_bytes"):
        least, most = getattr(one.fit, name)
        assert least == most


def test_a_budget_is_what_the_allocator_may_reserve() -> None:
    needed = 29_360_128
    predicted = known(predict(WORKLOAD, budget_bytes=needed).budget)
    assert (predicted.needed_bytes, predicted.fits) == (needed, True)
    assert (predicted.largest_batch or 0) >= 512
    # Less still runs as long as unused segments can be released for it.
    without = predict(WORKLOAD, budget_bytes=24_000_000, torch="2.7")
    assert without.fits is False
    assert without.fit is None
    assert any("no GPU was given" in note for note in without.notes)
    assert "torch 2.7: CUDA kernels and workspaces are those of 2.13, 2.14, 2.15" in without.notes


def test_a_limit_that_is_too_small_is_noted() -> None:
    settings = "per_process_memory_fraction:0.0001"
    predicted = predict(WORKLOAD, gpu="l4", allocator_settings=settings)
    assert ENDLESS in predicted.notes
    assert known(predicted.fit).verdict == "does not fit"


def test_the_command_line_prints_verdict_and_batch(ask: Ask) -> None:
    flags = ["--capability", "9.0", "--memory", "80GiB", "--depth", "2"]
    text = ask(["predict", *flags]).out
    answer, largest, *_ = text.splitlines()
    assert answer.startswith("fits on capability 9.0: reserves ")
    assert answer.endswith(" of 80 GiB, with 274–768 MiB for the CUDA context")
    assert largest.startswith(("largest batch ", "safe up to batch "))
    assert json.loads(ask(["predict", *flags, "--json"]).out)["fit"]["capability"] == "9.0"


@pytest.mark.parametrize("mode", ["train", "inference"])
@pytest.mark.parametrize("budget_bytes", [1, 2**20, 2**21, 8 * 2**20, 2**30])
def test_an_answer_without_a_search_is_the_answer_of_the_search(
    budget_bytes: int, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = Workload(depth=40, width=64, batch=100, device="cuda", mode=mode)
    full = predict(deep, budget_bytes=budget_bytes, gpu="l4")
    monkeypatch.setattr(cuda_fit, "MOST_EVENTS", 10)
    short = predict(deep, budget_bytes=budget_bytes, gpu="l4")
    assert (short.cuda, short.peak_live_bytes) == (full.cuda, full.peak_live_bytes)
    assert short.categories_at_peak == full.categories_at_peak
    if short.budget is None:
        assert any(line.startswith("budget: no answer") for line in short.unanswered)
    else:
        for budget in (known(full.budget), short.budget):
            assert (budget.fits, budget.largest_batch) == (False, None)
    assert short.fit is None
    assert any(line.startswith("gpu: no answer") for line in short.unanswered)
    assert any("simulated once" in note for note in short.notes)


def test_wide_layers_fit_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their parameters take more than the GPU, as those of 65,536 layers of 256 units nearly do."""
    monkeypatch.setattr(cuda_fit, "MOST_EVENTS", 10)
    wide = Workload(depth=8, width=32_768, device="cuda")
    result = predict(wide, budget_bytes=2**33, gpu="l4")
    budget, fit = known(result.budget), known(result.fit)
    assert (budget.fits, budget.largest_batch) == (False, None)
    assert (fit.verdict, fit.largest_batch_text) == ("does not fit", "no batch fits")
    assert result.unanswered == ()
    assert any("simulated once" in note for note in result.notes)
