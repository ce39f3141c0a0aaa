"""Records that say exactly what the model predicts, as if measured, and what an analysis says."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from harness.analysis.evidence import section_of
from harness.analysis.frame import RECORDS
from harness.prediction.mlp.predict_workload import predict
from harness.schema.findings import Claim, Section
from harness.schema.metrics import Metrics
from harness.schema.record import Outcome, Record, Repeat, to_json
from harness.schema.threshold import THRESHOLDS, Threshold
from harness.schema.traced_run import STEP_RUNS, StepRun
from harness.schema.training_run import TRAINING_RUNS, TrainingRun
from harness.schema.workload import Workload
from harness.sweeps.experiment_files import find

FILES: dict[Any, str] = {Threshold: THRESHOLDS, TrainingRun: TRAINING_RUNS, StepRun: STEP_RUNS}
"""The file of each kind of line that is no record."""


def record(workload: Workload, *, seconds: float = 0.01, **changes: Any) -> Record:
    """Return the record of a measurement that equals the prediction but for ``changes``."""
    prediction = predict(workload)
    metrics = {name: getattr(prediction, name) for name in Metrics.__struct_fields__}
    repeats = tuple(Repeat(number=at, wall_seconds=seconds * (1 + at)) for at in range(3))
    return Record(
        workload_id=workload.id, workload=workload, outcome=changes.pop("outcome", Outcome.OK),
        repeats=repeats, wall_seconds=seconds * 2, **metrics | changes,
    )  # fmt: skip


def section(name: str, folder: Path, lines: Iterable[Any]) -> Section:
    """Write planted lines of one kind into ``folder``; return what the experiment says of them."""
    lines = list(lines)
    file = FILES.get(type(lines[0]), RECORDS)
    folder.mkdir(exist_ok=True)
    (folder / file).write_bytes(b"".join(to_json(one) + b"\n" for one in lines))
    return section_of(find(name), folder)[0]


def named(section: Section, words: str) -> Claim:
    """Return the one verdict whose sentence contains ``words``, whatever their order is."""
    result = [claim for claim in section.claims if words in claim.sentence]
    assert len(result) == 1, [claim.sentence for claim in section.claims]
    return result[0]
