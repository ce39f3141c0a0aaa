"""Record snapshots of public models under the dry run and follow them with the model.

    python -m benchmarks.validation.compare_snapshots --out FOLDER

Writes ``replay.md`` and ``replay.csv``; exit code 1 if any segment event, address or
final block differs.
"""

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.validation.dry_run import parser, run_on, stub_gpu, write_table
from harness.dry_run.toolchain import torch_build
from harness.snapshots.replay import Replay, replay_devices

MIB = 1 << 20
RECORDER = Path(__file__).with_name("record_snapshots.py")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One recording: which model, from where on, under which settings and card."""

    model: str
    begin: str = "start"
    settings: str = ""
    total_bytes: int = 80 << 30


EXPANDABLE = "expandable_segments:True"
COLLECTING = "garbage_collection_threshold:0.2,per_process_memory_fraction:0.8"
CASES = (
    Case(model="resnet18"),
    Case(model="resnet18", begin="middle"),
    Case(model="resnet18", settings=EXPANDABLE),
    Case(model="resnet18", begin="middle", settings=EXPANDABLE),
    Case(model="resnet18", settings="roundup_power2_divisions:4,large_segment_size_mb:64"),
    Case(model="resnet18", settings=f"{COLLECTING},max_split_size_mb:20", total_bytes=900_000_000),
    Case(model="transformer"),
    Case(model="transformer", begin="middle"),
    Case(model="transformer", settings=EXPANDABLE),
    Case(model="two-streams"),
    Case(model="two-streams", begin="middle"),
    Case(model="two-streams", settings=EXPANDABLE),
    Case(model="out-of-memory", total_bytes=700_000_000),
    Case(model="out-of-memory", begin="middle", total_bytes=700_000_000),
    Case(model="out-of-memory", settings=EXPANDABLE, total_bytes=700_000_000),
    Case(model="out-of-memory", begin="middle", settings=EXPANDABLE, total_bytes=700_000_000),
    Case(model="out-of-memory", settings="max_split_size_mb:32", total_bytes=700_000_000),
    Case(model="out-of-memory", settings=COLLECTING, total_bytes=900_000_000),
)


def record(case: Case, folder: Path) -> Path:
    """Record the case; return the snapshot's path."""
    gpu = stub_gpu(total_bytes=case.total_bytes)
    run_on(gpu, [RECORDER, folder, case.model, case.begin], settings=case.settings)
    return folder / f"{case.model}-{case.begin}.pickle"


def row(case: Case, replay: Replay) -> list[str]:
    """Return the table's row."""
    agreement = replay.agreement
    cells = [case.model, case.begin, case.settings or "none", str(replay.events)]
    if agreement is None:
        return [*cells, "not derivable", "", "", "", ""]
    return [
        *cells,
        f"{agreement.segment_events_matched} of {agreement.segment_events}",
        f"{agreement.allocations_matched} of {agreement.allocations}",
        f"{agreement.blocks_matched} of {agreement.blocks}",
        str(agreement.peak_reserved_bytes),
        str(agreement.recorded_peak_reserved_bytes),
    ]


def write_tables(rows: list[list[str]], folder: Path, equal: int) -> None:
    """Write the table as Markdown and as CSV."""
    heads = ["recording", "begins at", "settings", "events", "segment events equal"]
    heads += ["addresses equal", "final blocks equal", "peak reserved", "recorded"]
    summary = (
        f"Snapshots of torch {torch_build().version} under the dry run; {equal} of {len(rows)}"
        " replayed without any "
        "difference. Written by `benchmarks/validation/compare_snapshots.py`."
    )
    title = "Recordings replayed through the allocator model"
    write_table(folder / "replay", title, summary, heads, rows)


def main() -> int:
    """Record, replay and write; return the exit code."""
    arguments = parser(__doc__).parse_args()
    rows, equal = [], 0
    for case in CASES[:: arguments.every]:
        with tempfile.TemporaryDirectory() as folder:
            path = record(case, Path(folder))
            replay = replay_devices(path, recorded_on_bytes=case.total_bytes)[0]
        complete = replay.agreement is not None and replay.agreement.is_complete()
        equal += complete
        rows.append(row(case, replay))
        print(case.model, case.begin, case.settings, "equal" if complete else "differs")
        sys.stdout.flush()
    write_tables(rows, arguments.out, equal)
    return 0 if equal == len(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
