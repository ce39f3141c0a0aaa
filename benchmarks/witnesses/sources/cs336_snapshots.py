"""Twelve memory snapshots of a transformer of 3.4 billion parameters.

The script also records its step under the dry run, and both recordings are compared.
"""

import functools
import tempfile
from pathlib import Path

from benchmarks.witnesses.clones import bytes_of
from benchmarks.witnesses.rows import Metric, RefusedError, Row, Sizes, Source
from benchmarks.witnesses.sources.cs336_out_of_memory import COMMIT, SCRIPT, STEPS, checkout
from harness.snapshots.device_history import DeviceHistory, device_histories
from harness.snapshots.snapshot import read_recording

FOLDER = "cs336_systems/results/memory_profiles"
RECORDED = tuple(
    (context, mode, precision)
    for context in (128, 512, 1_024, 2_048)
    for mode in ("forward", "full_step")
    for precision in ("bf16", "none")
    if mode == "forward" or context < 1_024
)
METRICS: tuple[Metric, ...] = ("requested", "reserved", "in order")


def rows(clone: Path) -> list[Row]:
    """Return three rows per snapshot, for both peaks, and for bytes in the same order."""
    return [
        Row(
            source=SOURCE.name,
            name=f"{mode}, context {context:,}, {precision}, {metric}",
            metric=metric,
            measured_bytes=size,
            resolution_bytes=1,
            run=functools.partial(_sizes, clone, context, mode, precision),
            traits={"context": context, "mode": mode},
        )
        for context, mode, precision in RECORDED
        for metric, size in _metrics(_published(clone, context, mode, precision)).items()
    ]


@functools.cache
def _published(clone: Path, context: int, mode: str, precision: str) -> DeviceHistory:
    path = f"{FOLDER}/xl_ctx{context}_{mode}_{precision}.pickle"
    with tempfile.NamedTemporaryFile() as file:
        file.write(bytes_of(clone, COMMIT, path))
        file.flush()
        return _history(Path(file.name))


def _history(path: Path) -> DeviceHistory:
    return next(device_histories(read_recording(path)))


def _metrics(ours: DeviceHistory, published: DeviceHistory | None = None) -> dict[Metric, int]:
    """Return the metrics of the recorded step, which is the end of a longer recording."""
    at = [number for number, event in enumerate(ours.events) if event.action == "alloc"]
    wanted = [one.size_bytes for one in (published or ours).events if one.action == "alloc"]
    step = at[-len(wanted) :]
    same = 0
    for number, size in zip(step, wanted, strict=False):
        if ours.events[number].size_bytes != size:
            break
        same += size
    peaks = (max(one[step[0] :]) for one in (ours.alive_bytes, ours.reserved_bytes))
    return dict(zip(METRICS, (*peaks, same), strict=True))


@functools.cache
def _sizes(clone: Path, context: int, mode: str, precision: str) -> Sizes:
    """Record the step of the script in a dry run."""
    import harness

    published = _published(clone, context, mode, precision)
    with checkout(clone) as folder:
        script, recording = folder / SCRIPT, folder / "recording.pickle"
        if not any(event.action == "segment_alloc" for event in published.events):
            text = script.read_text()  # the cache was full: this run did not empty it
            script.write_text(text.replace("torch.cuda.empty_cache()", "pass"))
        report = harness.dry_run(
            script,
            *STEPS,
            *("--context-length", context, "--mixed-precision", precision, "--mode", mode),
            *("--profile-memory", "--memory-snapshot", recording),
            capability="8.0",  # torch 2.11 has 12.0's workspaces
            multiprocessors=188,
            memory_bytes=int(94.97 * (1 << 30)),
            environment={"PYTHONPATH": f"{folder}/cs336-basics"},
            quiet=True,
        )
        if not recording.exists():
            raise RefusedError(f"no recording: {report.outcome}")
        return _metrics(_history(recording), published)


SOURCE = Source(
    name="cs336-snapshots",
    repository="https://github.com/LINYUNLinYun/CS336-assignment2-systems",
    commit=COMMIT,
    paths=(f"{FOLDER}/xl_ctx*.pickle",),
    licence="Stanford's, permissive",
    made="RTX PRO 6000, torch 2.11: AdamW, batch 4; PyTorch's memory snapshot of one step",
    gpu="rtx4090",
    rows=rows,
    scripts=True,
)
