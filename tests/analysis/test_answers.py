"""The sentences that answer a report's question name what leads in the records."""

import pandas as pd

from harness.analysis.answers import growth_answer
from harness.schema.events import CATEGORIES


def cells(led: dict[str, int], workspaces: int | None) -> pd.DataFrame:
    """Return cells of which each category leads in some, with the batch as their number."""
    rows = []
    for leader, count in led.items():
        for _ in range(count):
            sizes = {f"categories_at_peak.{name}": 1 for name in CATEGORIES}
            sizes[f"categories_at_peak.{leader}"] = 100
            rows.append({"outcome": "ok", "batch": 64 if leader == "activation" else 8, **sizes})
    frame = pd.DataFrame(rows)
    return frame if workspaces is None else frame.assign(**{"cuda.workspace_bytes": workspaces})


def test_the_second_answer_names_what_leads_instead_of_activations() -> None:
    (on_cpu,) = growth_answer({}, cells({"parameter": 5, "activation": 2}, None))
    assert "parameters, gradients and the batch itself outweigh activations" in on_cpu
    assert "below a batch of about 64" in on_cpu
    assert "lead in 2 of 7 cells" in on_cpu
    (on_gpu,) = growth_answer({}, cells({"temporary": 5, "activation": 2}, 90))
    assert "temporaries, cuBLAS workspaces above all, outweigh activations" in on_gpu
    (without,) = growth_answer({}, cells({"temporary": 5, "activation": 2}, 0))
    assert "there temporaries outweigh activations" in without
