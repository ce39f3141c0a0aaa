"""Prediction against measurement over drawn workloads: a difference of one byte fails."""

import os
from typing import Any

import msgspec
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.measurement.passes import saved_pass, trace_pass
from harness.prediction.mlp.cpu_trace import predict_trace
from harness.prediction.mlp.predict_workload import predict
from harness.schema.events import trace_metrics
from harness.schema.workload import (
    ACTIVATIONS,
    AUTOCAST_DTYPES,
    DTYPES,
    MODELS,
    NORMS,
    OPTIMIZERS,
    Workload,
)
from harness.training import training_step
from harness.training.data import source
from harness.training.module_step import no_phase, run_step
from tests.prediction.comparison import without_scratch
from tests.property_size import examples

EXAMPLES = int(os.environ.get("HARNESS_EXAMPLES", examples(240)))
"""Workloads drawn in all, others in each run: most are plain, an eighth each split, stacked or
under autocast."""
FEW = EXAMPLES // 8
PLAIN = EXAMPLES - 3 * FEW
LONGEST_SECONDS = max(600, 30 * FEW)
"""A split step took 10 seconds an example next to ten other jobs on two processors."""


small = st.sampled_from([1, 2, 3, 5, 7, 8, 16, 17, 31, 32, 48, 64, 65, 96])
width = st.one_of(small, small, small, small, small, st.sampled_from([127, 256, 300]))
batch = st.one_of(small, small, small, small, st.sampled_from([127, 129, 257]))


@st.composite
def hidden(draw: st.DrawFn) -> tuple[int, ...]:
    """Draw uneven widths, shallow networks more often than deep ones."""
    depths = (1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 4, 4, 5, 6, 7, 8, 12, 20, 33, 64)
    depth: int = draw(st.sampled_from(depths))
    if depth > 12:
        narrow: int = draw(st.sampled_from([1, 3, 8, 17, 32]))
        return (*[narrow] * (depth - 2), draw(small), draw(small))
    widths: list[int] = draw(st.lists(width, min_size=depth, max_size=depth))
    return tuple(widths)


CHOICES = {
    "model": MODELS,
    "activation": ACTIVATIONS,
    "dtype": DTYPES,
    "optimizer": OPTIMIZERS,
    "foreach": ("auto", "on", "off"),
    "mode": ("train", "train", "train", "inference"),
    "threads": (1, 2),
}


@st.composite
def workloads(draw: st.DrawFn, kind: str) -> Workload:
    """Draw a workload on the CPU; only plain ones are deep, and in one part."""
    drawn: dict[str, Any] = {name: draw(st.sampled_from(CHOICES[name])) for name in CHOICES}
    drawn |= {"hidden": draw(hidden()), "in_features": draw(width), "classes": draw(small)}
    drawn["batch"] = draw(batch) + (kind == "stacked")
    if kind == "plain":
        return Workload(**drawn)
    drawn["hidden"] = drawn["hidden"][:12]
    if kind == "split":
        segments = draw(st.integers(0, len(drawn["hidden"])))
        drawn |= {"mode": "train", "checkpoint": segments}
    else:
        drawn["model"] = "mlp"
    if kind == "stacked":
        drawn["norm"] = draw(st.sampled_from(NORMS))
        drawn["dropout"] = draw(st.sampled_from((0.0, 0.1, 0.5)))
    if kind == "under autocast":
        drawn |= {"dtype": "float32", "autocast": draw(st.sampled_from(AUTOCAST_DTYPES))}
    if drawn["mode"] == "train":
        rows = 2 if drawn.get("norm") == "batch" else 1
        drawn["accumulate"] = draw(st.integers(1, min(5, drawn["batch"] // rows)))
    return Workload(**drawn)


@pytest.mark.exact
@pytest.mark.timeout(LONGEST_SECONDS)
@pytest.mark.parametrize(
    ("kind", "count"),
    [("plain", PLAIN), ("split", FEW), ("stacked", FEW), ("under autocast", FEW)],
)
def test_every_metric_equals_measurement_to_the_byte(kind: str, count: int) -> None:
    @settings(max_examples=count, deadline=None, suppress_health_check=list(HealthCheck))
    @given(workloads(kind))
    def holds(workload: Workload) -> None:
        torch.set_num_threads(workload.threads)
        trace = trace_pass(workload, source(workload), no_phase)
        built = training_step.build(workload, source(workload))
        run_step(built)
        measured = saved_pass(built, no_phase) | trace_metrics(without_scratch(trace, workload))
        trace = without_scratch(predict_trace(workload, without_scratch=True), workload)
        predicted = msgspec.to_builtins(predict(workload)) | trace_metrics(trace)
        assert {name: predicted[name] for name in measured} == measured

    threads = torch.get_num_threads()
    try:
        holds()
    finally:
        torch.set_num_threads(threads)
