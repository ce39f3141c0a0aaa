"""The record of ``make cuda``: the quick experiments, and predictions against measurement.

    python -m benchmarks.validation.on_gpu --out results

Writes into ``results/<name of the GPU>/``; exit code 1 if a requested peak differs from its
prediction by a byte. Reserved peaks may differ by a segment: free blocks of one size are stated
apart by addresses, which are the driver's.
"""

import argparse
import re
import sys
from pathlib import Path
from typing import Any

from benchmarks.validation.compare_predictions import Comparison, workloads, write_tables
from benchmarks.validation.dry_run import StubCard
from harness.cli.app import main as harness
from harness.measurement.measure import measure
from harness.measurement.process.launcher import Launcher, default_launcher
from harness.measurement.process.messages import Job
from harness.prediction.gpu import catalogue
from harness.prediction.predict_workload import predict
from harness.schema.record import Outcome
from harness.schema.workload import Workload

DEADLINE_SECONDS = 600.0


def environment(launcher: Launcher) -> dict[str, Any]:
    """Return what a worker says of the GPU.

    Raises:
        SystemExit: there is none.

    """
    ended = launcher.launch(Job(kind="describe", workload=Workload(device="cuda")), 120.0)
    if ended.result is None:
        raise SystemExit(str(ended.failure.message if ended.failure else ended))
    facts: dict[str, Any] = ended.result["environment"]
    return facts


def compare(launcher: Launcher, facts: dict[str, Any]) -> list[Comparison]:
    """Measure and predict each workload; one that the GPU cannot hold is left out."""
    gpu = catalogue.recorded(facts)
    card = StubCard(
        total_bytes=facts["gpu_memory_bytes"],
        capability=facts["gpu_capability"],
        multiprocessors=facts["gpu_multiprocessors"],
    )
    found = []
    for workload in workloads():
        record = measure(workload, repeats=2, deadline_seconds=DEADLINE_SECONDS, launcher=launcher)
        if record.outcome is not Outcome.OK:
            print(workload, record.outcome, record.evidence, flush=True)
            continue
        settings = facts["allocator_settings"]
        prediction = predict(workload, gpu=gpu, allocator_settings=settings)
        one = Comparison(card=card, settings=settings, record=record, prediction=prediction)
        print(workload, one.differences() or "equal", flush=True)
        found.append(one)
    return found


def main() -> int:
    """Measure, predict and write; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of results")
    arguments = parser.parse_args()
    launcher = default_launcher("pinned")
    try:
        facts = environment(launcher)
        folder = arguments.out / re.sub(r"[^a-z0-9]+", "-", facts["gpu"].lower()).strip("-")
        comparisons = compare(launcher, facts)
    finally:
        launcher.close()
    where = f"on one {facts['gpu']}, driver {facts['driver']}"
    write_tables(comparisons, folder, where=where, written_by="benchmarks/validation/on_gpu.py")
    code = harness(["sweep", "--quick", "--device", "cuda", "--out", str(folder)])
    code = code or harness(["report", str(folder)])
    requested = [one.peak("requested") for one in comparisons]
    return code or int(any(measured != predicted for measured, predicted in requested))


if __name__ == "__main__":
    sys.exit(main())
