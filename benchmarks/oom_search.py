"""Compares our search for the largest batch with Lightning's and accelerate's.

All searches have the same network, budget and two training steps per trial, and each has its own
process. The comparison runs under ``RLIMIT_DATA``, which refuses an allocation above the budget,
and in a memory cgroup, in which the kernel kills a process above the budget. A search "survives" if
it returns an answer.

    python benchmarks/oom_search.py [--budget 64MiB] [--peers-python /path/to/python] [--json FILE]

``--peers-python`` names an interpreter that has torch, lightning and accelerate (extra ``bench``);
our search runs in the current interpreter.
"""

import argparse
import contextlib
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from harness.processes.limits import cgroup, rlimit
from harness.processes.malloc_policy import ENVIRONMENT
from harness.schema.units import format_bytes, parse_bytes
from harness.schema.workload import Workload
from harness.training.module_step import run_step

WORKLOAD = Workload(depth=8, width=256)
START = 65_536
"""First batch of accelerate, which only searches downwards; about three times the answer."""
PEERS = ("lightning-power", "lightning-binsearch", "accelerate")
DEADLINE_SECONDS = 900


def steps(batch: int, trials: list[int]) -> None:
    """Build the network with one batch and run two steps, as a probe of the harness does."""
    from harness.training import data, training_step

    trials.append(batch)
    print(json.dumps({"trial": batch}), flush=True)
    workload = WORKLOAD.replace(batch=batch)
    built = training_step.build(workload, data.source(workload))
    run_step(built)
    run_step(built)


def with_accelerate(trials: list[int]) -> int:
    """Return the last batch of ``find_executable_batch_size``."""
    from accelerate.utils import find_executable_batch_size

    @find_executable_batch_size(starting_batch_size=START)  # type: ignore[untyped-decorator]
    def train(batch_size: int) -> int:
        steps(batch_size, trials)
        return batch_size

    return int(train())


def with_lightning(mode: str, trials: list[int], most: int = 40) -> int:
    """Return the last batch of ``Tuner.scale_batch_size`` after at most ``most`` trials."""
    import lightning
    import torch
    from lightning.pytorch.tuner import Tuner
    from torch.utils.data import DataLoader, IterableDataset

    from harness.training.models import MLP

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    class Batches(IterableDataset):  # type: ignore[type-arg]
        def __init__(self, size: int) -> None:
            self.size = size

        def __iter__(self) -> Iterator[Any]:
            x = torch.zeros(self.size, WORKLOAD.in_features)
            y = torch.zeros(self.size, dtype=torch.int64)
            while True:
                yield x, y

    class Network(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.batch_size = 2
            self.network = MLP(WORKLOAD.in_features, WORKLOAD.widths, WORKLOAD.classes, "relu")

        def training_step(self, batch: Any, _: int) -> torch.Tensor:
            x, y = batch
            return torch.nn.functional.cross_entropy(self.network(x), y)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

        def train_dataloader(self) -> Any:
            if trials[-1:] != [self.batch_size]:  # asked again when it puts things back
                trials.append(self.batch_size)
                print(json.dumps({"trial": self.batch_size}), flush=True)
            return DataLoader(Batches(self.batch_size), batch_size=None)

    trainer = lightning.Trainer(
        accelerator="cpu",
        max_steps=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    result = Tuner(trainer).scale_batch_size(
        Network(),
        mode=mode,
        steps_per_trial=2,
        init_val=2,
        max_trials=most,
        margin=0.0,  # else the answer is cut by 5%
        max_val=2**30,  # else no search goes beyond 8192
    )
    return int(result)


def search_as(peer: str, budget_bytes: int, group: str | None) -> None:
    """Run a peer's search in this process, within the limit, and print the result."""
    import torch

    from harness.processes.worker import prime

    warnings.simplefilter("ignore")
    prime()
    trials: list[int] = []
    searches: dict[str, Callable[[], int]] = {
        "accelerate": lambda: with_accelerate(trials),
        "lightning-power": lambda: with_lightning("power", trials),
        "lightning-binsearch": lambda: with_lightning("binsearch", trials),
    }
    torch.set_num_threads(1)
    if peer.startswith("lightning"):  # what it loads when first used should not count
        with_lightning("power", [2], most=1)
    else:
        __import__(peer)
    limit = (
        rlimit.data_segment(budget_bytes) if group is None else cgroup.joined(group, budget_bytes)
    )
    with limit:
        answer = searches[peer]()
    print(json.dumps({"answer": answer}), flush=True)


def run_peer(peer: str, kind: str, budget_bytes: int, python: str) -> dict[str, Any]:
    """Run one peer in a separate process and return its end."""
    python = str(Path(python).absolute()) if os.sep in python else python
    here = str(Path(__file__).resolve())
    command = [python, here, "--be", peer, "--budget", f"{budget_bytes}B"]
    # Lightning saves the network in the working directory, and leaves it there when it is killed.
    with tempfile.TemporaryDirectory() as folder, group_of(kind) as group:
        if group is not None:
            command += ["--group", str(group.folder)]
        started = time.monotonic()
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, **ENVIRONMENT["pinned"], "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE_SECONDS,
        )
        seconds = time.monotonic() - started
        kills = group.oom_kills() if group is not None else 0
    said = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    answers = [one["answer"] for one in said if "answer" in one]
    last = (done.stderr.strip().splitlines() or [""])[-1]
    return {
        "search": peer,
        "kind": kind,
        "trials": [one["trial"] for one in said if "trial" in one],
        "answer": answers[0] if answers else None,
        "seconds": seconds,
        "end": "answered" if answers else f"exit code {done.returncode}, {kills} OOM kills: {last}",
    }


ROOT = Path(__file__).resolve().parent.parent


@contextlib.contextmanager
def group_of(kind: str) -> Iterator[cgroup.ControlGroup | None]:
    """Yield a new cgroup if ``kind`` needs it."""
    if kind == "rlimit":
        yield None
        return
    with cgroup.group() as made:
        yield made


def run_ours(kind: str, budget_bytes: int) -> dict[str, Any]:
    """Find the threshold with the harness."""
    from harness.thresholds.find_threshold import threshold

    started = time.monotonic()
    result = threshold(WORKLOAD, budget_bytes=budget_bytes, kind=kind)
    return {
        "search": "harness",
        "kind": kind,
        "trials": [probe.value for probe in result.probes],
        "answer": result.largest_fit,
        "smallest_fail": result.smallest_fail,
        "seconds": time.monotonic() - started,
        "end": "answered" if result.largest_fit else str(result.evidence),
    }


def report(rows: list[dict[str, Any]]) -> None:
    """Print the table."""
    head = f"{'budget':8} {'search':20} {'trials':>6} {'seconds':>8} {'answer':>8} {'off':>8}  end"
    print(head)
    for row in rows:
        truth = next(r["answer"] for r in rows if r["search"] == "harness")
        own = next((r["answer"] for r in rows if r["kind"] == row["kind"]), truth)
        off = "" if row["answer"] is None else f"{100 * (row['answer'] / own - 1):+.2f}%"
        answer = "none" if row["answer"] is None else f"{row['answer']:,}"
        print(
            f"{row['kind']:8} {row['search']:20} {len(row['trials']):6} {row['seconds']:8.1f} "
            f"{answer:>8} {off:>8}  {row['end'][:90]}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budget", default="256MiB", type=parse_bytes)
    parser.add_argument("--peers-python", default=sys.executable)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--be", choices=PEERS, help=argparse.SUPPRESS)
    parser.add_argument("--group", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.be:
        search_as(given.be, given.budget, given.group)
        return
    print(f"{WORKLOAD}; budget {format_bytes(given.budget)}; two steps a trial")
    rows = []
    for kind, (works, detail) in (
        ("rlimit", rlimit.data_segment_available()),
        ("cgroup", cgroup.available()),
    ):
        if not works:
            print(f"{kind}: left out: {detail}")
            continue
        rows.append(run_ours(kind, given.budget))
        rows += [run_peer(peer, kind, given.budget, given.peers_python) for peer in PEERS]
    report(rows)
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
