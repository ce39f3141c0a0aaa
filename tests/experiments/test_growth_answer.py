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


RULE = Rule(holds="it does", fails="it does not", open="nobody knows")


def answers(led: pd.DataFrame, verdict: Verdict = Verdict.OPEN, **parts: str) -> tuple[str, ...]:
    claim = Claim(
        sentence="It grows.", rule=RULE, second="none", verdict=verdict, measured="",
        number="12 bytes", **parts,
    )  # fmt: skip
    return growth_answer({"peak live": claim}, led)


@pytest.mark.parametrize(
    ("verdict", "parts", "sentence"),
    [
        ("holds", {}, f"Yes{PEAK}."),
        (
            "holds in part",
            {"holds_for": "batch ≥ 64", "fails_for": "batch 8"},
            f"In part{PEAK}; it holds for batch ≥ 64, fails for batch 8.",
        ),
        ("fails", {"holds_for": "batch ≥ 64"}, f"No{PEAK}; it holds only for batch ≥ 64."),
        ("open", {"open_reason": "3 cells are needed"}, f"Open{PEAK}; 3 cells are needed."),
    ],
)
def test_an_answer_is_made_from_the_verdict_alone(
    verdict: str, parts: dict[str, str], sentence: str
) -> None:
    led = " Activations are the largest part of it in 2 of 7 cells, parameters in 5."
    found = cells({"parameter": 5, "activation": 2}, 100)
    assert answers(found, Verdict(verdict), **parts) == (sentence + led,)


def test_the_answer_names_what_leads_instead_of_activations() -> None:
    led = {"temporary": 5, "activation": 2}
    gpu = {"gpu_capability": "8.0", "cublas_workspace_config": ""}
    (on_gpu,) = answers(cells(led, WORKSPACE + 512, **gpu))
    assert "temporaries (above all a cuBLAS workspace of 8.125 MiB) in 5" in on_gpu
    for size, where in ((WORKSPACE - 1, gpu), (2 * WORKSPACE, gpu), (WORKSPACE, {})):
        (without,) = answers(cells(led, size, **where))
        assert "temporaries in 5" in without
    assert growth_answer({}, cells(led, 100)) == ()
