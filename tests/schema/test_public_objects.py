"""``to_frame()`` and ``plot()`` of the public objects: the numbers are those of the objects."""

from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from msgspec.structs import replace

import harness
from harness.analysis.compare import Comparison
from harness.plots.category_colours import CATEGORY_COLOURS
from harness.plots.frames import COLUMNS
from harness.schema.events import CATEGORIES, Event, Trace
from harness.schema.record import Outcome, Record
from harness.schema.threshold import Probed, Threshold
from tests.analysis import planted
from tests.known import known

STEP = harness.Workload(depth=3, batch=32)


def bar_widths(picture: Figure) -> list[int]:
    """Return the length of each painted part, in the order of the categories."""
    return [round(patch.get_width()) for patch in picture.axes[0].patches]  # type: ignore[attr-defined]


def test_the_frame_of_a_record_is_its_row_of_load(tmp_path: Path) -> None:
    record = planted.record(STEP, rss_rise_bytes=-4096)
    planted.write(tmp_path / "mine", [record])
    pd.testing.assert_frame_equal(
        record.to_frame(), harness.load(tmp_path).drop(columns="experiment")
    )


def test_the_frame_of_a_prediction_has_its_metrics_and_joins_those_of_records() -> None:
    predicted = harness.predict(STEP)
    frame = predicted.to_frame()
    assert list(frame.columns[: len(COLUMNS)]) == list(COLUMNS)
    assert frame["outcome"].item() == "predicted"
    assert frame["peak_live_bytes"].item() == predicted.peak_live_bytes
    gradient = known(predicted.categories_at_peak).gradient
    assert frame["categories_at_peak.gradient"].item() == gradient
    assert frame["rss_rise_bytes"].isna().all()
    both = pd.concat([frame, planted.record(STEP).to_frame()], ignore_index=True)
    assert str(both["peak_live_bytes"].dtype) == "Int64"


def test_the_bar_of_a_peak_is_made_of_its_categories() -> None:
    predicted = harness.predict(STEP)
    parts = known(predicted.categories_at_peak)
    shown = [getattr(parts, name) for name in CATEGORIES if getattr(parts, name)]
    assert tuple(CATEGORY_COLOURS) == CATEGORIES
    assert bar_widths(replace(predicted, trace=None).plot()) == shown
    assert predicted.plot().axes[0].get_xlabel() == "allocator event of the step"
    assert sum(shown) == predicted.peak_live_bytes
    assert bar_widths(planted.record(STEP).plot())


def test_the_frame_of_a_trace_is_its_csv_and_its_picture_reaches_the_peak() -> None:
    events = [
        Event(0, "build", "", "", "parameter", 400, 1),
        Event(1, "forward", "aten::mm", "", "activation", 1000, 2),
        Event(1, "backward", "aten::mm", "", "gradient", 300, 3),
        Event(1, "backward", "aten::mm", "", "activation", -1000, 2),
    ]
    trace = Trace(events, initial_bytes=50)
    read = pd.read_csv(StringIO(trace.as_csv()), keep_default_na=False)
    pd.testing.assert_frame_equal(trace.to_frame(), read, check_dtype=False)
    assert trace.to_frame()["live_bytes"].tolist() == trace.live_bytes
    paths = [path for area in trace.plot().axes[0].collections for path in area.get_paths()]
    tops = [float(np.asarray(path.vertices)[:, 1].max()) for path in paths]
    assert max(tops) == trace.peak_live_bytes == 1750


def test_a_threshold_shows_each_probe_where_it_was() -> None:
    found = {32: Outcome.OK, 64: Outcome.OOM, 48: Outcome.OK, 49: Outcome.OOM}
    probes = tuple(Probed(value=at, outcome=end, seconds=0.1) for at, end in found.items())
    result = planted.threshold(STEP, largest_fit=48, smallest_fail=49, probes=probes)
    frame = result.to_frame()
    assert frame["value"].tolist() == [32, 64, 48, 49]
    assert frame["needed_bytes"].isna().all()
    axes = result.plot().axes[0]
    fits, fails, _ = axes.get_lines()
    assert np.asarray(fits.get_xydata()).tolist() == [[1, 32], [3, 48]]
    assert np.asarray(fails.get_xydata()).tolist() == [[2, 64], [4, 49]]
    assert axes.get_title(loc="left") == "Largest batch that fits: 48"


def test_a_comparison_shows_the_second_run_as_multiples_of_the_first(tmp_path: Path) -> None:
    first = [planted.record(STEP), planted.record(STEP.replace(batch=64))]
    second = [
        replace(first[0], peak_live_bytes=2 * (first[0].peak_live_bytes or 0), saved_bytes=0),
        replace(first[1], wall_seconds=0.5),
    ]
    runs = [planted.write(tmp_path / name, run) for name, run in (("a", first), ("b", second))]
    result = harness.compare(*(harness.load(run).assign(experiment="x") for run in runs))
    axes = result.plot().axes[0]
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert names == ["peak_live_bytes", "rss_rise_bytes", "wall_seconds"]
    assert np.asarray(axes.get_lines()[0].get_xdata()).tolist() == [2, 1, 1.5]


@pytest.mark.parametrize("kind", ["record", "threshold", "trace", "comparison"])
def test_what_has_nothing_to_plot_says_so(kind: str) -> None:
    failed = planted.record(STEP, outcome=Outcome.OOM, categories_at_peak=None)
    frame = failed.to_frame().assign(experiment="x", rss_rise_bytes=0, wall_seconds=0.0)
    values: dict[str, Record | Threshold | Trace | Comparison] = {
        "record": failed,
        "threshold": planted.threshold(STEP),
        "trace": Trace([]),
        "comparison": harness.compare(frame, frame),
    }
    with pytest.raises(harness.ArgumentError, match="nothing to plot: "):
        values[kind].plot()
