"""The figure of a GPU's peaks: what it shows, and that it is left out without a GPU."""

import pandas as pd

from experiments.depth_batch.cuda_peaks import cuda_peaks_figure
from harness.reporting.figures import picture

MIB = 1 << 20
CELLS = pd.DataFrame(
    {
        "workload_id": ["a", "b", "c", "d"],
        "outcome": "ok",
        "depth": [2, 2, 4, 4],
        "batch": [16, 64, 16, 64],
        "cuda.reserved_peak_bytes": [22 * MIB, 24 * MIB, 24 * MIB, 24 * MIB + 512],
        "cuda.allocated_peak_bytes": [9 * MIB, 12 * MIB, 10 * MIB, 16 * MIB],
    }
)


def test_the_claim_goes_through_the_largest_batch_of_each_depth() -> None:
    (figure,) = cuda_peaks_figure(CELLS, {"a": 100, "b": 200, "c": 300, "d": None})
    table = figure.data.pivot_table(index=["depth", "batch"], columns="peak", values="bytes")
    assert table["the claim"].tolist() == [3 * MIB, 12 * MIB, 4 * MIB, 16 * MIB]
    assert table["allocated"].tolist() == [9 * MIB, 12 * MIB, 10 * MIB, 16 * MIB]
    assert table["on the CPU"].tolist()[:3] == [100, 200, 300]
    assert table["on the CPU"].isna().tolist() == [False, False, False, True]
    assert "a multiple of 2 MiB in 3 of 4 cells" in figure.caption
    assert picture(figure).story


def test_without_a_gpu_there_is_no_figure() -> None:
    missing = CELLS.drop(columns=["cuda.reserved_peak_bytes"])
    assert cuda_peaks_figure(missing, {}) == []
    unknown = CELLS.assign(**{"cuda.allocated_peak_bytes": None})
    assert cuda_peaks_figure(unknown, {}) == []
