"""Records that say exactly what the model predicts, as if measured, and what an analysis says."""

from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from harness.analysis.frame import load
from harness.prediction.predict_workload import predict
from harness.schema.experiment import Evidence
from harness.schema.findings import Claim, Section
from harness.schema.metrics import Metrics
from harness.schema.record import Outcome, Record, Repeat
from harness.schema.workload import Workload
from tests.analysis import planted


def record(workload: Workload, *, seconds: float = 0.01, **changes: Any) -> Record:
    """Return the record of a measurement that equals the prediction but for ``changes``."""
    prediction = predict(workload)
    metrics = {name: getattr(prediction, name) for name in Metrics.__struct_fields__}
    repeats = tuple(Repeat(number=at, wall_seconds=seconds * (1 + at)) for at in range(3))
    return Record(
        workload_id=workload.id, workload=workload, outcome=changes.pop("outcome", Outcome.OK),
        repeats=repeats, wall_seconds=seconds * 2, **metrics | changes,
    )  # fmt: skip


def section(experiment: ModuleType, folder: Path, records: Iterable[Record]) -> Section:
    """Write ``records`` into ``folder`` and return what the experiment says of them."""
    planted.write(folder, records)
    result: Section = experiment.analyse(Evidence(frame=load(folder), folder=folder))
    return result


def named(section: Section, words: str) -> Claim:
    """Return the one verdict whose sentence contains ``words``, whatever their order is."""
    result = [claim for claim in section.claims if words in claim.sentence]
    assert len(result) == 1, [claim.sentence for claim in section.claims]
    return result[0]
