from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from experiments.depth_batch.proportionality import Growth, growth_of
from experiments.depth_batch.verdicts import form_words, summary
from experiments.depth_batch.verdicts import proportionality as judged
from harness.analysis import AnalysisError
from harness.schema.events import CATEGORIES
from harness.schema.findings import Claim, Rule, Verdict
from tests.analysis import planted

CELLS = planted.CELLS


def _frame(law: Callable[[int, int], float], **columns: Any) -> pd.DataFrame:
    values = [round(law(depth, batch)) for depth, batch in CELLS]
    frame = pd.DataFrame(CELLS, columns=["depth", "batch"]).assign(outcome="ok", mode="train")
    return frame.assign(saved_bytes=pd.array(values, dtype="Int64"), **columns)


def proportionality(growth: Growth) -> Claim:
    label = "saved for backward" if growth.quantity == "saved_bytes" else "RSS rise"
    return judged(label, growth, {})


def test_saved_bytes_are_affine_in_depth_and_say_from_where_on() -> None:
    claim = proportionality(growth_of(_frame(planted.saved_bytes), "saved_bytes"))
    assert claim.words == "fails; holds only for depths from 16"
    assert claim.number == "16 of 48 squares"
    assert (
        "1,024·depth·batch + 3,184·batch + 4 gives the exact bytes in 63 of 63 cells"
        in claim.measured
    )
    assert "Doubling the depth multiplies the bytes by 1.243 to 1.911." in claim.measured
    assert "Doubling the batch multiplies the bytes by 2." in claim.measured


@pytest.mark.parametrize("most", [(64, 4096), (64, 1024), (16, 4096), (8, 256)])
def test_a_smaller_grid_of_true_data_never_turns_the_verdict(most: tuple[int, int]) -> None:
    frame = _frame(planted.peak_bytes)
    frame["predicted.saved_bytes"] = frame["saved_bytes"]
    outside = (frame["depth"] > most[0]) | (frame["batch"] > most[1])
    frame.loc[outside, "saved_bytes"] = pd.NA
    claim = proportionality(growth_of(frame, "saved_bytes"))
    assert claim.words == "fails; holds only for depths from 32 with batches from 2,048"
    if outside.any():
        assert f"{(~outside).sum()} of 63 cells were measured" in claim.measured
        frame["saved_bytes"] += frame["depth"] // 2  # no law of these cells any more
        other = proportionality(growth_of(frame, "saved_bytes"))
        assert "were measured" not in other.measured


def test_a_peak_of_two_moments_is_given_as_the_larger_of_two_sums_and_noise_is_not() -> None:
    result = growth_of(_frame(planted.peak_bytes), "saved_bytes")
    assert result.exact is None
    assert "In 63 of 63 cells the bytes are the larger of two sums" in form_words(result)
    law = [planted.peak_bytes(*cell) for cell in CELLS]
    assert list(result.at(result.depth, result.batch)) == law
    noisy = _frame(lambda depth, batch: planted.peak_bytes(depth, batch) + 37 * batch**2 % 101)
    assert "of two sums" not in form_words(growth_of(noisy, "saved_bytes"))


def test_failed_cells_and_missing_metrics_are_left_out() -> None:
    frame = _frame(planted.saved_bytes)
    frame.loc[0, "outcome"] = "oom"
    frame.loc[1, "saved_bytes"] = pd.NA
    result = growth_of(frame, "saved_bytes")
    assert len(result.values) == len(CELLS) - 2
    assert result.exact is not None


def test_too_few_cells_are_one_clear_line() -> None:
    frame = _frame(planted.saved_bytes)
    with pytest.raises(AnalysisError, match=r"18 cells with 2 depths and 9 batches have it"):
        growth_of(frame[frame["depth"] < 4], "saved_bytes")
    with pytest.raises(AnalysisError, match="several cells have one depth and batch"):
        growth_of(pd.concat([frame, frame]), "saved_bytes")


@pytest.mark.parametrize(
    ("law", "verdict"),
    [
        (lambda depth, batch: 2**24 * depth * batch, Verdict.SUPPORTED),
        (lambda depth, batch: 2**30 * batch + 2**24 * depth * batch, Verdict.REFUTED),
    ],
)
def test_a_noisy_quantity_gets_the_same_verdict_from_every_run(
    law: Callable[[int, int], float], verdict: Verdict
) -> None:
    answer = set()
    for seed in range(20):
        noise = np.random.default_rng(seed).normal(1, 0.002, (3, len(CELLS)))
        rises = np.sort(np.array([law(*cell) for cell in CELLS]) * noise, axis=0).round()
        frame = _frame(law).assign(
            rss_rise_bytes=pd.array(rises[1], dtype="Int64"),
            rss_rise_spread_bytes=pd.array(rises[2] - rises[0], dtype="Int64"),
        )
        answer.add(proportionality(growth_of(frame, "rss_rise_bytes")).verdict)
    assert answer <= {verdict, Verdict.OPEN}
    assert verdict in answer


@pytest.mark.parametrize(
    ("law", "words"),
    [
        (lambda d, b: 10**6 * d * b, "holds"),
        (lambda d, b: 10**6 * d * b**1.137, "fails; holds only for batch 128, 256 and 512"),
        (lambda d, b: 10**6 * d * b * (1.09 if int(np.log2(b)) % 2 else 1), "fails"),
    ],
    ids=["product", "a little more at each doubling", "up and down"],
)
def test_doublings_must_add_up_and_be_smooth(law: Callable[[int, int], float], words: str) -> None:
    claim = proportionality(growth_of(_frame(law), "saved_bytes"))
    assert claim.verdict is (Verdict.SUPPORTED if words == "holds" else Verdict.REFUTED)


WORKSPACE = 8_519_680
PEAK = " for the peak of a step: twice the depth or batch doubles the bytes in 12 squares"


def cells(led: dict[str, int], temporary: int, **environment: str) -> pd.DataFrame:
    """Return cells in which the categories lead that often; activations at a batch of 64."""
    rows = []
    for leader, count in led.items():
        for _ in range(count):
            sizes = {f"categories_at_peak.{name}": 1 for name in CATEGORIES}
            sizes[f"categories_at_peak.{leader}"] = temporary
            rows.append(
                {
                    "outcome": "ok",
                    "device": "cpu",
                    "batch": 64 if leader == "activation" else 8,
                    **sizes,
                }
            )
    return pd.DataFrame(rows).assign(
        **{f"environment.{name}": value for name, value in environment.items()}
    )


RULE = Rule(holds="it does", fails="it does not", open="nobody knows")


def answers(led: pd.DataFrame, verdict: Verdict = Verdict.OPEN, **parts: Any) -> tuple[str, ...]:
    claim = Claim(
        sentence="It grows.", rule=RULE, second="none", verdict=verdict, measured="",
        number="12 squares", **parts,
    )  # fmt: skip
    return summary({"peak live": claim}, led)


@pytest.mark.parametrize(
    ("verdict", "parts", "sentence"),
    [
        ("holds", {}, f"Yes{PEAK}."),
        (
            "holds in part",
            {"holds_for": "batches from 64", "fails_for": "batch 8"},
            f"In part{PEAK}.",
        ),
        ("fails", {"holds_for": "batches from 64"}, f"No{PEAK}."),
        ("open", {"open_reason": "3 cells are needed"}, f"Open{PEAK}; 3 cells are needed."),
    ],
)
def test_an_answer_is_made_from_the_verdict_alone(
    verdict: str, parts: dict[str, str], sentence: str
) -> None:
    led = " Activations are the peak's largest part in 2 of 7 cells, and parameters in 5."
    found = cells({"parameter": 5, "activation": 2}, 100)
    assert answers(found, Verdict(verdict), **parts) == (sentence + led,)


def test_the_answer_names_what_leads_instead_of_activations() -> None:
    led = {"temporary": 5, "activation": 2}
    (on_gpu,) = answers(cells(led, WORKSPACE).assign(device="cuda"))
    assert "and temporaries (above all cuBLAS's workspaces) in 5." in on_gpu
    (without,) = answers(cells(led, WORKSPACE))
    assert "and temporaries in 5." in without
    assert summary({}, cells(led, 100)) == ()
