"""Run random operations on PyTorch's own allocator; write each one and every counter.

Runs under the dry run (or on a GPU) with nothing but torch and the standard library:

    python record_random_operations.py PLAN.json OUT    # on a pretended GPU

``OUT.jsonl`` gets a header and one line per operation, ``OUT.bin`` all counters after each
operation as native 64-bit integers, in the order that the header names, ``OUT.pickle`` the
memory snapshot of the whole run.
"""

import array
import ctypes
import json
import random
import sys
from pathlib import Path
from typing import Any

import torch

MIB = 1 << 20
EDGES = (512, 1024, MIB, 2 * MIB, 10 * MIB, 20 * MIB, 32 * MIB, 64 * MIB)


def draw_size(rng: random.Random, favourites: list[int], largest: int) -> int:
    """Return a size: often one seen before, sometimes at the edge of a rule."""
    kind = rng.random()
    if kind < 0.45:
        return rng.choice(favourites)
    if kind < 0.6:
        return max(1, min(largest, rng.choice(EDGES) + rng.choice((-513, -512, -1, 0, 1, 512))))
    return max(1, min(largest, int(2 ** rng.uniform(0, 29))))


class Player:
    """Draws operations by a plan, applies them, and keeps what is alive."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.plan = plan
        self.rng = random.Random(plan["seed"])
        self.streams = [torch.cuda.current_stream()]
        stream: Any = torch.cuda.Stream  # its constructor has no annotations
        self.streams += [stream() for _ in range(plan["streams"] - 1)]
        self.live: dict[int, torch.Tensor] = {}
        self.next_key = 0
        self.live_bytes = 0
        self.favourites = [int(2 ** self.rng.uniform(6, 26)) for _ in range(24)]

    def draw(self) -> dict[str, Any]:
        """Return the next operation."""
        rng, plan = self.rng, self.plan
        kind = rng.random()
        if kind < plan["rare"]:
            return self.draw_rare()
        full = self.live_bytes > plan["live_bytes"] or len(self.live) > 600
        if self.live and (rng.random() < (0.75 if full else 0.46)):
            return {"op": "free", "key": rng.choice(list(self.live))}
        size = draw_size(rng, self.favourites, plan["largest"])
        return {"op": "malloc", "size": size, "stream": rng.randrange(plan["streams"])}

    def draw_rare(self) -> dict[str, Any]:
        """Return one of the operations that are not needed often."""
        rng, plan = self.rng, self.plan
        choices = ["empty_cache", "reset_peaks"]
        if plan["streams"] > 1:
            choices += ["record_stream"] * 12 + ["pending"] * 2
        if plan["settings_later"]:
            choices += ["settings"]
        op = rng.choice(choices)
        if op == "record_stream" and self.live:
            key = rng.choice(list(self.live))
            return {"op": op, "key": key, "stream": rng.randrange(plan["streams"])}
        if op == "pending":
            return {"op": op, "value": rng.randrange(2)}
        if op == "settings":
            return {"op": op, "value": rng.choice(plan["settings_later"])}
        return {"op": "empty_cache" if op == "record_stream" else op}

    def apply(self, operation: dict[str, Any]) -> None:
        """Do it, and note in the operation what came of it."""
        op = operation["op"]
        if op == "malloc":
            self.malloc(operation)
        elif op == "free":
            self.live_bytes -= self.live.pop(operation["key"]).numel()
        elif op == "empty_cache":
            torch.cuda.empty_cache()
        elif op == "reset_peaks":
            torch.cuda.reset_peak_memory_stats()
        elif op == "record_stream":
            self.live[operation["key"]].record_stream(self.streams[operation["stream"]])
        elif op == "pending":
            ctypes.CDLL(None).pretend_events_pending(operation["value"])
        elif op == "settings":
            torch._C._accelerator_setAllocatorSettings(operation["value"])

    def malloc(self, operation: dict[str, Any]) -> None:
        """Allocate one byte tensor; an out-of-memory error is a result like another."""
        key, self.next_key = self.next_key, self.next_key + 1
        operation["key"] = key
        try:
            with torch.cuda.stream(self.streams[operation["stream"]]):
                tensor = torch.empty(operation["size"], dtype=torch.uint8, device="cuda")
        except torch.OutOfMemoryError:
            operation["address"] = None
        else:
            operation["address"] = tensor.data_ptr()
            self.live[key] = tensor
            self.live_bytes += tensor.numel()


def main() -> None:
    """Play the plan and write both files."""
    plan = json.loads(Path(sys.argv[1]).read_text())
    out = Path(sys.argv[2])
    torch.zeros(0, device="cuda")  # initialises CUDA, allocates nothing
    if plan["fraction"] is not None:
        torch.cuda.set_per_process_memory_fraction(plan["fraction"])
    torch.cuda.memory._record_memory_history(context=None, max_entries=1_000_000)
    player = Player(plan)
    names = sorted(torch.cuda.memory_stats())
    header = {
        "names": names,
        "torch": torch.__version__,
        "streams": [stream.cuda_stream for stream in player.streams],
        "total": torch.cuda.mem_get_info()[1],
    }
    with out.with_suffix(".jsonl").open("w") as lines, out.with_suffix(".bin").open("wb") as raw:
        lines.write(json.dumps(header) + "\n")
        for _ in range(plan["operations"]):
            operation = player.draw()
            player.apply(operation)
            lines.write(json.dumps(operation) + "\n")
            stats = torch.cuda.memory_stats()
            array.array("q", [stats[name] for name in names]).tofile(raw)
    dump: Any = torch.cuda.memory._dump_snapshot  # it has no annotations
    dump(str(out.with_suffix(".pickle")))


if __name__ == "__main__":
    main()
