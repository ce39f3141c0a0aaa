"""Both ways to predict a network's CUDA step behind ``harness.predict``."""

import pytest
import torch
from torch import nn

import harness
from harness.cli.app import main
from harness.dry_run.toolchain import DryRunUnavailableError, compiler, torch_build

ASKED = {"inputs": (50,), "optimizer": "adam", "gpu": "l4"}


def build() -> nn.Module:
    return nn.Sequential(nn.Linear(50, 300), nn.ReLU(), nn.Linear(300, 10))


def train(batches: list[int]) -> None:
    model = build().cuda()
    optimizer = torch.optim.AdamW(model.parameters())
    for batch in batches:
        loss = model(torch.zeros(batch, 50, device="cuda")).square().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


def can_dry_run() -> bool:
    try:
        torch_build()
        compiler()
    except DryRunUnavailableError:
        return False
    return True


def test_the_rules_are_the_way_where_the_step_cannot_be_sent_to_another_process() -> None:
    found = harness.predict(lambda: build(), 64, **ASKED)  # type: ignore[call-overload]
    assert found.way == "simulated GPU"
    assert any("not by the dry run: " in note for note in found.notes)
    with pytest.raises(harness.HarnessError, match="method dry-run is not possible"):
        harness.predict(lambda: build(), 64, method="dry-run", **ASKED)  # type: ignore[call-overload]


def test_a_method_that_makes_no_sense_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(harness.ArgumentError, match="one of auto, rules, dry-run, got 'wet'"):
        harness.predict(build, 64, method="wet", **ASKED)  # type: ignore[call-overload]
    with pytest.raises(harness.ArgumentError, match="needs a CUDA device"):
        harness.predict(build, 64, method="dry-run", inputs=(50,))
    with pytest.raises(harness.ArgumentError, match="shapes must be a list"):
        harness.predict(run=train, shapes=3)  # type: ignore[call-overload]
    assert main(["predict", "--depth", "2", "--method", "rules"]) == 2
    assert "--method need a TARGET" in capsys.readouterr().err


@pytest.mark.skipif(not can_dry_run(), reason="needs a CUDA build of PyTorch and a C compiler")
def test_the_dry_run_is_the_way_where_it_works() -> None:
    exact = harness.predict(build, 64, **ASKED)  # type: ignore[call-overload]
    rules = harness.predict(build, 64, method="rules", **ASKED)  # type: ignore[call-overload]
    assert exact.way == "dry run"
    assert exact.card is not None
    assert exact.card.verdict == rules.card.verdict == "fits"
    assert exact.peak_live_bytes == exact.cuda.requested_peak_bytes
    assert any("requested peak" in note for note in exact.notes)


@pytest.mark.slow
@pytest.mark.skipif(not can_dry_run(), reason="needs a CUDA build of PyTorch and a C compiler")
def test_the_dry_run_is_the_way_of_a_whole_run_too() -> None:
    asked = {"run": train, "shapes": [64, 9_000, 100], "gpu": "l4"}
    exact = harness.predict(**asked)  # type: ignore[call-overload]
    rules = harness.predict(method="rules", **asked)  # type: ignore[call-overload]
    assert (exact.way, rules.way) == ("dry run", "simulated GPU")
    assert exact.peaks == rules.peaks
    assert (exact.steps, exact.verdict) == (rules.steps, rules.verdict) == (3, "fits")
    assert exact.phases == rules.phases


def test_a_run_that_cannot_be_sent_is_predicted_by_the_rules() -> None:
    asked = {"run": lambda: train([64]), "gpu": "l4"}
    found = harness.predict(**asked)  # type: ignore[call-overload]
    assert found.way == "simulated GPU"
    with pytest.raises(harness.HarnessError, match="method dry-run is not possible"):
        harness.predict(method="dry-run", **asked)  # type: ignore[call-overload]
