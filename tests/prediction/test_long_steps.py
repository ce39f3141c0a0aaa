"""Very deep networks on CUDA: simulated once, and never searched."""

import pytest

from harness.prediction.mlp import cuda_fit
from harness.prediction.predict_workload import predict
from harness.schema.workload import Workload

DEEP = Workload(depth=40, width=64, batch=100, device="cuda")
BUDGETS = (1, 2**20, 2**21, 8 * 2**20, 2**30)


@pytest.mark.parametrize("mode", ["train", "inference"])
@pytest.mark.parametrize("budget_bytes", BUDGETS)
def test_an_answer_without_a_search_is_the_answer_of_the_search(
    budget_bytes: int, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = DEEP.replace(mode=mode)
    full = predict(deep, budget_bytes=budget_bytes, gpu="l4")
    monkeypatch.setattr(cuda_fit, "MOST_EVENTS", 10)
    short = predict(deep, budget_bytes=budget_bytes, gpu="l4")
    assert (short.cuda, short.peak_live_bytes) == (full.cuda, full.peak_live_bytes)
    assert short.categories_at_peak == full.categories_at_peak
    assert full.budget is not None
    if short.budget is None:
        assert any(line.startswith("budget: no answer") for line in short.unanswered)
    else:
        assert (full.budget.fits, full.budget.largest_batch) == (False, None)
        assert (short.budget.fits, short.budget.largest_batch) == (False, None)
    assert short.fit is None
    assert any(line.startswith("gpu: no answer") for line in short.unanswered)
    assert any("simulated once" in note for note in short.notes)


def test_wide_layers_fit_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their parameters take more than the GPU, as those of 65,536 layers of 256 units nearly do."""
    monkeypatch.setattr(cuda_fit, "MOST_EVENTS", 10)
    wide = Workload(depth=8, width=32_768, device="cuda")
    result = predict(wide, budget_bytes=2**33, gpu="l4")
    assert result.budget is not None
    assert result.fit is not None
    assert (result.budget.fits, result.budget.largest_batch) == (False, None)
    assert (result.fit.verdict, result.fit.largest_batch_text) == ("does not fit", "no batch fits")
    assert result.unanswered == ()
    assert any("simulated once" in note for note in result.notes)
