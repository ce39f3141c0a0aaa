"""Compare the allocator model with PyTorch's own allocator, counter by counter.

    python -m benchmarks.validation.compare_allocator --out FOLDER

Run by an interpreter with a CUDA build of PyTorch. Writes ``allocator.md`` and
``allocator.csv``; exit code 1 if any counter or address differs after any operation.
"""

import array
import dataclasses
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.validation.dry_run import parser, run_on, stub_gpu, write_table
from harness.allocator import AllocatorConfig, Ascending, CachingAllocator, OutOfMemoryError
from harness.snapshots.replay import replay_devices

GIB = 1 << 30
NOT_REPLAYED = "not replayed"
RECORDER = Path(__file__).with_name("record_random_operations.py")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One configuration of the allocator and the kind of operations it gets."""

    name: str
    settings: str = ""
    settings_later: tuple[str, ...] = ()
    fraction: float | None = None
    total_bytes: int = 80 * GIB
    other_bytes: int = 0
    streams: int = 1
    live_bytes: int = 2 * GIB
    largest: int = 512 << 20
    rare: float = 0.01
    order_unknown: bool = False  # of streams: see harness/allocator/blocks.py
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The result of one plan; ``first_difference`` is None if there was none."""

    plan: Plan
    torch: str
    operations: int
    counters: int
    segments: int
    ooms: int
    retries: int
    peak_reserved_bytes: int
    replayed: str
    first_difference: str | None

    def is_equal(self) -> bool:
        """Return whether model and replay agree with the real allocator in everything."""
        return self.first_difference is None and self.replayed in ("all", NOT_REPLAYED)


TIGHT = GIB + 300 * (1 << 20)
TABLE = "roundup_power2_divisions:[256:1,512:2,1024:4,>:8]"
EXPANDABLE = "expandable_segments:True"
PLANS = (
    Plan(name="defaults"),
    Plan(name="defaults, small card", total_bytes=TIGHT),
    Plan(name="defaults, other processes", total_bytes=4 * GIB, other_bytes=2 * GIB + 12345),
    Plan(name="defaults, 4 streams", streams=4, rare=0.08),
    Plan(name="8 streams", streams=8, rare=0.12, live_bytes=GIB, order_unknown=True),
    Plan(name="4 streams, small card", streams=4, rare=0.08, total_bytes=TIGHT),
    Plan(name="limit by fraction", fraction=0.31, total_bytes=4 * GIB),
    Plan(name="max_split_size", settings="max_split_size_mb:32", total_bytes=2 * GIB),
    Plan(
        name="max_split_size, limit, 2 streams",
        settings="max_split_size_mb:20,max_non_split_rounding_mb:40",
        fraction=0.5,
        total_bytes=3 * GIB,
        streams=2,
        rare=0.04,
    ),
    Plan(name="roundup, one number", settings="roundup_power2_divisions:8"),
    Plan(name="roundup, table", settings=TABLE, total_bytes=TIGHT),
    Plan(
        name="garbage collection",
        settings="garbage_collection_threshold:0.6",
        fraction=0.5,
        total_bytes=4 * GIB,
        live_bytes=GIB,
    ),
    Plan(
        name="garbage collection, max_split_size, 3 streams",
        settings="garbage_collection_threshold:0.4,max_split_size_mb:64",
        fraction=0.7,
        total_bytes=3 * GIB,
        live_bytes=GIB,
        streams=3,
        rare=0.05,
    ),
    Plan(name="large segments of 64 MiB", settings="large_segment_size_mb:64", total_bytes=3 * GIB),
    Plan(
        name="large segments of 33 MiB, max_split_size",
        settings="large_segment_size_mb:33,max_split_size_mb:50,max_non_split_rounding_mb:33",
        total_bytes=2 * GIB,
    ),
    Plan(name="expandable", settings=EXPANDABLE),
    Plan(name="expandable, small card", settings=EXPANDABLE, total_bytes=TIGHT),
    Plan(
        name="expandable, limit, 4 streams",
        settings=EXPANDABLE,
        fraction=0.45,
        total_bytes=4 * GIB,
        streams=4,
        rare=0.08,
    ),
    Plan(
        name="expandable, units of 64 MiB, roundup",
        settings=f"{EXPANDABLE},large_segment_size_mb:64,{TABLE}",
        total_bytes=2 * GIB,
    ),
    Plan(
        name="expandable, max_split_size, garbage collection",
        settings=f"{EXPANDABLE},max_split_size_mb:64,garbage_collection_threshold:0.5",
        fraction=0.6,
        total_bytes=3 * GIB,
        streams=2,
        rare=0.04,
    ),
    Plan(
        name="settings changed on the way",
        settings="expandable_segments:False",
        settings_later=(
            EXPANDABLE,
            "expandable_segments:False",
            f"{EXPANDABLE},roundup_power2_divisions:4",
        ),
        total_bytes=3 * GIB,
        streams=2,
        rare=0.04,
    ),
)


def record(plan: Plan, operations: int, out: Path) -> None:
    """Run the recorder for ``plan`` on the real allocator."""
    plan_file = out.with_suffix(".plan.json")
    plan_file.write_text(json.dumps({**dataclasses.asdict(plan), "operations": operations}))
    gpu = stub_gpu(total_bytes=plan.total_bytes, other_bytes=plan.other_bytes)
    run_on(gpu, [RECORDER, plan_file, out], settings=plan.settings)


def configure(plan: Plan, settings: str) -> AllocatorConfig:
    """Return the model's settings for the plan."""
    config = AllocatorConfig.from_settings(
        settings, total_bytes=plan.total_bytes, outside_bytes=plan.other_bytes
    )
    fraction = config.memory_fraction if plan.fraction is None else plan.fraction
    return dataclasses.replace(config, memory_fraction=fraction)


class Replayer:
    """Gives recorded operations to the model."""

    def __init__(self, plan: Plan, streams: list[int], first_address: int) -> None:
        self.plan = plan
        self.streams = streams
        self.addresses: dict[int, int] = {}
        self.model = CachingAllocator(
            configure(plan, plan.settings), addresses=Ascending(first_address)
        )

    def apply(self, operation: dict[str, Any]) -> str | None:
        """Apply one operation; return what differs at once, if anything."""
        model, op = self.model, operation["op"]
        if op == "malloc":
            return self.malloc(operation)
        if op == "free":
            model.free(self.addresses.pop(operation["key"]))
        elif op == "empty_cache":
            model.empty_cache()
        elif op == "reset_peaks":
            model.reset_peaks()
        elif op == "record_stream":
            address = self.addresses[operation["key"]]
            model.record_stream(address, self.streams[operation["stream"]])
        elif op == "pending":
            model.completion = "at_release" if operation["value"] else "at_once"
        elif op == "settings":
            model.reconfigure(configure(self.plan, operation["value"]))
        return None

    def malloc(self, operation: dict[str, Any]) -> str | None:
        """Allocate; the address, or the refusal, must be the recorded one."""
        try:
            address = self.model.malloc(operation["size"], self.streams[operation["stream"]])
        except OutOfMemoryError:
            return None if operation["address"] is None else "the model ran out of memory"
        self.addresses[operation["key"]] = address
        if address != operation["address"]:
            return f"address {address:#x}, recorded {operation['address']}"
        return None


def recorded_steps(out: Path) -> Iterator[tuple[dict[str, Any], list[int]]]:
    """Yield each operation with all counters after it."""
    with out.with_suffix(".jsonl").open() as lines, out.with_suffix(".bin").open("rb") as raw:
        width = len(json.loads(next(lines))["names"])
        for line in lines:
            counters = array.array("q")
            counters.fromfile(raw, width)
            yield json.loads(line), counters.tolist()


def follows_order(name: str) -> bool:
    """Return whether a counter depends on the order in which finished streams are noticed."""
    return name.startswith("inactive_split") and not name.endswith(".current")


def compare(plan: Plan, out: Path) -> Comparison:
    """Replay a recording of ``plan`` and stop at the first difference."""
    with out.with_suffix(".jsonl").open() as lines:
        header = json.loads(next(lines))
        operations = [json.loads(line) for line in lines]
    names = header["names"]
    first = next(o["address"] for o in operations if o.get("address") is not None)
    replayer = Replayer(plan, header["streams"], first)
    done = 0
    difference = None
    for done, (operation, recorded) in enumerate(recorded_steps(out), start=1):
        difference = replayer.apply(operation)
        stats = replayer.model.stats()
        wrong = [
            f"{name}: {stats.get(name)}, recorded {value}"
            for name, value in zip(names, recorded, strict=True)
            if stats.get(name) != value and not (plan.order_unknown and follows_order(name))
        ]
        if wrong or difference:
            difference = f"operation {done} {operation}: " + "; ".join([difference or "", *wrong])
            break
    stats = replayer.model.stats()
    return Comparison(
        plan=plan,
        torch=header["torch"],
        operations=done,
        counters=sum(not (plan.order_unknown and follows_order(name)) for name in names),
        segments=len(replayer.model.segment_log),
        ooms=stats["num_ooms"],
        retries=stats["num_alloc_retries"],
        peak_reserved_bytes=stats["reserved_bytes.all.peak"],
        replayed=NOT_REPLAYED if plan.settings_later else replayed(plan, out),
        first_difference=difference,
    )


def replayed(plan: Plan, out: Path) -> str:
    """Return ``all`` where the run's snapshot is replayed without a difference, or the first."""
    devices = replay_devices(out.with_suffix(".pickle"), recorded_on_bytes=plan.total_bytes)
    agreement = devices[0].agreement
    if agreement is None:
        return "not derivable"
    return "all" if agreement.is_complete() else agreement.differences[0]


def write_tables(comparisons: list[Comparison], folder: Path) -> None:
    """Write the table as Markdown and as CSV."""
    heads = ["configuration", "settings", "card (bytes)", "streams", "operations"]
    heads += ["counters each", "segment events", "out of memory", "retries", "replayed", "equal"]
    rows = [
        [
            c.plan.name,
            c.plan.settings or "none",
            str(c.plan.total_bytes),
            str(c.plan.streams),
            str(c.operations),
            str(c.counters),
            str(c.segments),
            str(c.ooms),
            str(c.retries),
            c.replayed,
            "all" if c.first_difference is None else c.first_difference,
        ]
        for c in comparisons
    ]
    total = sum(c.operations for c in comparisons)
    equal = sum(c.is_equal() for c in comparisons)
    summary = (
        f"{total} random operations on the allocator of torch {comparisons[0].torch} under the "
        f"dry run: in {equal} of {len(comparisons)} configurations every address and every "
        "counter named was equal after every operation. That is every key of "
        "`torch.cuda.memory_stats` (123); with 8 streams the way of `inactive_split` between its "
        "values is left out, because it follows the order of a hash table. `replayed` is the "
        "snapshot of the same run followed by `harness.snapshots`: every segment event, address, "
        "and final block; a snapshot does not say when settings changed. Written by "
        "`benchmarks/validation/compare_allocator.py`."
    )
    title = "The allocator model against PyTorch's own"
    write_table(folder / "allocator", title, summary, heads, rows)


def main() -> int:
    """Record, compare and write; return the exit code."""
    options = parser(__doc__)
    options.add_argument("--operations", type=int, default=20_000, help="for each configuration")
    options.add_argument("--only", default="", help="configurations whose name contains this")
    options.add_argument("--seed", type=int, default=0)
    arguments = options.parse_args()
    comparisons = []
    for plan in PLANS:
        if arguments.only not in plan.name:
            continue
        seeded = dataclasses.replace(plan, seed=arguments.seed)
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "recording"
            record(seeded, arguments.operations // arguments.every, out)
            comparisons.append(compare(seeded, out))
        print(plan.name, comparisons[-1].operations, comparisons[-1].first_difference or "equal")
        sys.stdout.flush()
    write_tables(comparisons, arguments.out)
    return 0 if all(c.is_equal() for c in comparisons) else 1


if __name__ == "__main__":
    sys.exit(main())
