"""Records with known answers, made from closed formulas; nothing is measured."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import replace as put

from harness.schema.metrics import CategoryBytes, PhaseMetrics
from harness.schema.record import Outcome, Record, Repeat, to_json
from harness.schema.threshold import Threshold
from harness.schema.workload import Workload

DEPTHS = (1, 2, 4, 8, 16, 32, 64)
BATCHES = tuple(2**power for power in range(4, 13))
CELLS = [(depth, batch) for depth in DEPTHS for batch in BATCHES]


def saved_bytes(depth: int, batch: int) -> int:
    """ReLU, float32, 784 features, width 256, 10 classes."""
    return batch * (4 * 784 + 8 + 4 * 256 * depth + 4 * 10) + 4


def parameter_bytes(depth: int) -> int:
    return 4 * (784 * 256 + 256 + (depth - 1) * (256 * 256 + 256) + 256 * 10 + 10)


def peak_bytes(depth: int, batch: int) -> int:
    """The larger of two moments: the end of backward, and its beginning."""
    end = 2 * parameter_bytes(depth) + batch * 4168 + 8
    beginning = parameter_bytes(depth) + 10_288 + batch * (5192 + 1024 * depth)
    return max(end, beginning)


def start_bytes(depth: int, batch: int) -> int:
    return 2 * parameter_bytes(depth) + batch * 3144


def record(workload: Workload, *, noise: float = 0.0, seed: int = 0, **changes: Any) -> Record:
    """Return a good record of a depth x 256 network; ``noise`` is relative, of the RSS rise."""
    depth, batch = workload.depth, workload.batch
    training = workload.mode == "train"
    held, extra = parameter_bytes(depth), batch * (3144 if training else 3136)
    peak = peak_bytes(depth, batch) if training else held + extra + 2048 * batch
    start = start_bytes(depth, batch) if training else held + extra
    random = np.random.default_rng([seed, depth, batch])
    rises = [round((peak - start) * (1 + noise * random.standard_normal())) for _ in range(3)]
    metrics: dict[str, Any] = {
        "saved_bytes": saved_bytes(depth, batch) if training else 0,
        "saved_input_bytes": 3144 * batch if training else 0,
        "saved_activation_bytes": saved_bytes(depth, batch) - 3144 * batch if training else 0,
        "peak_live_bytes": peak,
        "live_at_start_bytes": start,
        "peak_phase": "backward" if training else "forward",
        "phases": {"forward": PhaseMetrics(peak_live_bytes=peak)},
        "categories_at_peak": CategoryBytes(
            parameter=held, input=extra, activation=peak - held - extra
        ),
        "rss_rise_bytes": sorted(rises)[1],
        "wall_seconds": 0.25,
        "repeats": tuple(
            Repeat(number=at, wall_seconds=0.25, rss_rise_bytes=rise)
            for at, rise in enumerate(rises, start=1)
        ),
        "environment": {"torch": "9.9", "cpu": "planted", "gpus": []},
    }
    return Record(
        workload_id=workload.id, workload=workload, outcome=changes.pop("outcome", Outcome.OK),
        **metrics | changes,
    )  # fmt: skip


def consistent(
    one: Record,
    *,
    saved: float | None = None,
    peak: float | None = None,
    rises: Sequence[float] = (),
    seconds: float | None = None,
    **parts: int,
) -> Record:
    """Return a record with other numbers that do not contradict each other or its workload.

    Args:
        one: the record.
        saved: bytes that autograd holds.
        peak: the peak, of which ``parts`` are named; what is left is temporary.
        rises: the RSS rise of each repeat.
        seconds: of each repeat.
        parts: bytes at the peak by category.
    """
    own = one.categories_at_peak or CategoryBytes()
    kept = (one.saved_bytes or 0) if saved is None else round(saved)
    if one.workload.mode == "train":
        kept = max(kept, 1)
    most = max(one.peak_live_bytes or 0, kept + own.parameter) if peak is None else round(peak)
    parts = {"parameter": own.parameter, "input": own.input} | parts
    parts = {name: size for name, size in parts.items() if size}
    rest = most - sum(parts.values())
    assert rest >= 0, (str(one.workload), most, parts)
    assert most >= kept + own.parameter, (str(one.workload), most, kept)
    changes: dict[str, Any] = {
        "saved_bytes": kept, "saved_input_bytes": 0, "saved_activation_bytes": kept,
        "modules": None, "peak_live_bytes": most, "phases": None, "cuda": None,
        "categories_at_peak": CategoryBytes(**parts, temporary=rest),
    }  # fmt: skip
    if rises:
        changes |= {"rss_rise_bytes": round(sorted(rises)[len(rises) // 2]), "process": None}
        changes["repeats"] = tuple(
            Repeat(number=at, wall_seconds=0.25, rss_rise_bytes=round(rise))
            for at, rise in enumerate(rises, 1)
        )
        changes["wall_seconds"] = 0.25
    if seconds is not None:
        changes["repeats"] = tuple(Repeat(number=at, wall_seconds=seconds) for at in range(2))
        changes |= {"wall_seconds": seconds, "rss_rise_bytes": None}
    return put(one, **changes)


def grid(
    depths: Iterable[int] = DEPTHS,
    batches: Iterable[int] = BATCHES,
    modes: Iterable[str] = ("train", "inference"),
    noise: float = 0.0,
) -> list[Record]:
    return [
        record(Workload(depth=depth, batch=batch, mode=mode), noise=noise)
        for mode in modes
        for depth in depths
        for batch in batches
    ]


def write(folder: Path, records: Iterable[Record], tail: bytes = b"") -> Path:
    """Write ``folder``/records.jsonl, ended by ``tail``; return ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = b"".join(to_json(item) + b"\n" for item in records)
    (folder / "records.jsonl").write_bytes(lines + tail)
    return folder


def write_events(folder: Path, workload: Workload) -> None:
    """Write the allocation events of a made-up step of two activations."""
    rows = [
        (0, "build", "parameter", 4000), (0, "build", "input", 1000),
        (1, "forward", "activation", 500), (1, "backward", "gradient", 4000),
        (1, "backward", "activation", -500), (2, "optimizer", "gradient", -4000),
        (2, "forward", "activation", 500), (2, "forward", "activation", 700),
        (2, "backward", "temporary", 900), (2, "backward", "temporary", -900),
        (2, "backward", "activation", -700), (2, "backward", "gradient", 4000),
        (2, "backward", "activation", -500),
    ]  # fmt: skip
    lines = ["order,step,phase,operator,module,category,size_bytes,address,live_bytes"]
    live = 0
    for order, (step, phase, category, size) in enumerate(rows):
        live += size
        lines.append(f"{order},{step},{phase},aten::op,m,{category},{size},{order},{live}")
    path = folder / "events" / f"{workload.id}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def threshold(workload: Workload, **changes: Any) -> Threshold:
    """Return a good threshold of the batch, which ``changes`` complete."""
    fields: dict[str, Any] = {
        "workload_id": workload.id, "workload": workload, "solve": "batch",
        "budget_bytes": 1 << 20, "kind": "rlimit", "outcome": Outcome.OK,
    }  # fmt: skip
    return Threshold(**(fields | changes))
