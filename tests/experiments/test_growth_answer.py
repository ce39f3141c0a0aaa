"""The sentences that answer a report's question name what leads in the records."""

import pandas as pd

from experiments.depth_batch.verdicts import growth_answer
from harness.schema.events import CATEGORIES

WORKSPACE = 8_519_680


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


def test_the_second_answer_names_what_leads_instead_of_activations() -> None:
    (on_cpu,) = growth_answer({}, cells({"parameter": 5, "activation": 2}, 100))
    assert "parameters, gradients and the batch itself outweigh activations" in on_cpu
    assert "below a batch of about 64" in on_cpu
    assert "lead in 2 of 7 cells" in on_cpu
    led = {"temporary": 5, "activation": 2}
    gpu = {"gpu_capability": "8.0", "cublas_workspace_config": ""}
    (on_gpu,) = growth_answer({}, cells(led, WORKSPACE + 512, **gpu))
    assert "temporaries, above all a cuBLAS workspace of 8.125 MiB, outweigh" in on_gpu
    for size, where in ((WORKSPACE - 1, gpu), (2 * WORKSPACE, gpu), (WORKSPACE, {})):
        (without,) = growth_answer({}, cells(led, size, **where))
        assert "there temporaries outweigh activations" in without
