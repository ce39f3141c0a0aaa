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


def follows_order(name: str) -> bool:
    """Return whether a counter depends on the order in which finished streams are noticed."""
    return name.startswith("inactive_split") and not name.endswith(".current")


def compare(plan: Plan, out: Path) -> tuple[list[str], bool]:
    """Replay a recording of ``plan`` up to the first difference.

    Returns:
        The row of the table, and whether model and replay agree with the real allocator in all.

    """
    with out.with_suffix(".jsonl").open() as lines:
        header, *operations = map(json.loads, lines)
    compared = {
        name: place
        for place, name in enumerate(header["names"])
        if not (plan.order_unknown and follows_order(name))
    }
    first = next(o["address"] for o in operations if o.get("address") is not None)
    replayer = Replayer(plan, header["streams"], first)
    done, difference = 0, ""
    with out.with_suffix(".bin").open("rb") as raw:
        for done, operation in enumerate(operations, start=1):
            recorded = array.array("q")
            recorded.fromfile(raw, len(header["names"]))
            wrong = [replayer.apply(operation) or ""]
            stats = replayer.model.stats()
            wrong += [
                f"{name}: {stats.get(name)}, recorded {recorded[place]}"
                for name, place in compared.items()
                if stats.get(name) != recorded[place]
            ]
            if any(wrong):
                difference = f"operation {done} {operation}: {'; '.join(wrong)}"
                break
    stats = replayer.model.stats()
    followed = NOT_REPLAYED if plan.settings_later else replayed(plan, out)
    counts = [done, len(compared), len(replayer.model.segment_log)]
    counts += [stats["num_ooms"], stats["num_alloc_retries"]]
    row = [plan.name, plan.settings or "none", str(plan.total_bytes), str(plan.streams)]
    row += [*map(str, counts), followed, difference or "all"]
    return row, not difference and followed in ("all", NOT_REPLAYED)


def replayed(plan: Plan, out: Path) -> str:
    """Return ``all`` where the run's snapshot is replayed without a difference, or the first."""
    devices = replay_devices(out.with_suffix(".pickle"), recorded_on_bytes=plan.total_bytes)
    agreement = devices[0].agreement
    if agreement is None:
        return "not derivable"
    return "all" if agreement.is_complete() else agreement.differences[0]


HEADS = (
    "configuration", "settings", "card (bytes)", "streams", "operations", "counters each",
    "segment events", "out of memory", "retries", "replayed", "equal",
)  # fmt: skip
SUMMARY = (
    "{total} random operations on PyTorch's allocator under the dry run: in {equal} of {plans} "
    "configurations every address and every counter named was equal after every operation. That is "
    "every key of `torch.cuda.memory_stats` (123); with 8 streams the way of `inactive_split` "
    "between its values is left out, because it follows the order of a hash table. `replayed` is "
    "the snapshot of the same run followed by `harness.snapshots`: every segment event, address, "
    "and final block; a snapshot does not say when settings changed. Written by "
    "`benchmarks/validation/compare_allocator.py`."
)


def main() -> int:
    """Record, compare and write; return the exit code."""
    options = parser(__doc__)
    options.add_argument("--operations", type=int, default=20_000, help="for each configuration")
    options.add_argument("--only", default="", help="configurations whose name contains this")
    options.add_argument("--seed", type=int, default=0)
    arguments = options.parse_args()
    rows, equal = [], 0
    for each in (plan for plan in PLANS if arguments.only in plan.name):
        plan = dataclasses.replace(each, seed=arguments.seed)
        operations = arguments.operations // arguments.every
        with tempfile.TemporaryDirectory() as folder:
            plan_file, out = Path(folder) / "plan.json", Path(folder) / "recording"
            drawn = {**dataclasses.asdict(plan), "operations": operations}
            plan_file.write_text(json.dumps(drawn))
            gpu = stub_gpu(total_bytes=plan.total_bytes, other_bytes=plan.other_bytes)
            run_on(gpu, [RECORDER, plan_file, out], settings=plan.settings)
            row, is_equal = compare(plan, out)
        rows.append(row)
        equal += is_equal
        print(plan.name, row[4], row[-1], flush=True)
    total = sum(int(row[4]) for row in rows)
    summary = SUMMARY.format(total=total, equal=equal, plans=len(rows))
    title = "The allocator model against PyTorch's own"
    write_table(arguments.out / "allocator", title, summary, HEADS, rows)
    return 0 if equal == len(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
