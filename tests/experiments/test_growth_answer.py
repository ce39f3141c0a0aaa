"""The sentences that answer a report's question name what leads in the records."""

import pandas as pd
import pytest

from experiments.depth_batch.verdicts import growth_answer
from harness.schema.events import CATEGORIES
from harness.schema.findings import Claim, Rule, Verdict

WORKSPACE = 8_519_680
PEAK = " for the peak of a step: 12 bytes"


def cells(led: dict[str, int], temporary: int, **environment: str) -> pd.DataFrame:
    """Return cells in which the categories lead that often; activations at a batch of 64."""
    rows = []
    for leader, count in led.items():
        for _ in range(count):
            sizes = {f"categories_at_peak.{name}": 1 for name in CATEGORIES}
            sizes[f"categories_at_peak.{leader}"] = temporary
            rows.append({"outcome": "ok", "batch": 64 if leader == "activation" else 8, **sizes})
    return pd.DataFrame(rows).assign(
        **{f"environment.{name}": value for name, value in environment.items()}
    )


CLAIMS = {
    verdict: Claim(
        sentence="It grows.",
        rule=Rule(holds="it does", fails="it does not", open="nobody knows"), second="none",
        verdict=verdict,
        holds_for="" if verdict in (Verdict.SUPPORTED, Verdict.OPEN) else "batch ≥ 64",
        fails_for="batch 8" if verdict is Verdict.LIMITED else "", measured="", number="12 bytes",
        open_reason="3 cells are needed" if verdict is Verdict.OPEN else "",
    )
    for verdict in Verdict
}  # fmt: skip


@pytest.mark.parametrize(
    ("verdict", "sentence"),
    [
        (Verdict.SUPPORTED, f"Yes{PEAK}."),
        (Verdict.LIMITED, f"In part{PEAK}; it holds for batch ≥ 64, fails for batch 8."),
        (Verdict.REFUTED, f"No{PEAK}; it holds only for batch ≥ 64."),
        (Verdict.OPEN, f"Open{PEAK}; 3 cells are needed."),
    ],
)
def test_an_answer_is_made_from_the_verdict_alone(verdict: Verdict, sentence: str) -> None:
    (answer,) = growth_answer(
        {"peak live": CLAIMS[verdict]}, cells({"parameter": 5, "activation": 2}, 100)
    )
    led = " Activations are the largest part of it in 2 of 7 cells, parameters in 5."
    assert answer == sentence + led


def test_the_answer_names_what_leads_instead_of_activations() -> None:
    led = {"temporary": 5, "activation": 2}
    gpu = {"gpu_capability": "8.0", "cublas_workspace_config": ""}
    claims = {"peak live": CLAIMS[Verdict.OPEN]}
    (on_gpu,) = growth_answer(claims, cells(led, WORKSPACE + 512, **gpu))
    assert "temporaries (above all a cuBLAS workspace of 8.125 MiB) in 5" in on_gpu
    for size, where in ((WORKSPACE - 1, gpu), (2 * WORKSPACE, gpu), (WORKSPACE, {})):
        (without,) = growth_answer(claims, cells(led, size, **where))
        assert "temporaries in 5" in without
    assert growth_answer({}, cells(led, 100)) == ()
