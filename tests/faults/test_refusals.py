"""Questions and records that must be refused: hundreds of each, and no process is started."""

import contextlib
import io
import json
import random
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from harness.cli.app import main
from harness.measurement.limits import heap_headroom, machine_memory
from harness.measurement.process.launch import environment_of_child
from harness.schema.errors import HarnessError
from harness.schema.plain_text import printable
from harness.schema.record import RecordError, from_json, to_json
from harness.schema.workload import Workload
from harness.sweeps.executors import Measured
from harness.thresholds.find_threshold import threshold
from tests.faults.conftest import FULL
from tests.faults.grid import Tally
from tests.lent_launchers import OOM, Planted

TRIALS = 120 if FULL else 12


def run(line: Sequence[str]) -> tuple[int, str]:
    """Run a command in this process; return its exit code and all that it said."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = main(list(line))
    return code, said.getvalue()


def test_budget_or_need_beyond_the_machine(tally: Tally) -> None:
    chance = random.Random(11)
    for number in range(TRIALS):
        factor = chance.uniform(1.05, 1000)
        budget = int(psutil.virtual_memory().total * factor)
        if number % 2:
            line = ["threshold", "--budget", f"{budget}B"]
        else:
            batch = budget // machine_memory.needed_bytes(Workload(batch=1)) + 1
            line = ["measure", "--batch", str(min(batch * 100, 10**9)), "--depth", "64"]
        code, said = run(line)
        tally.injected += 1
        tally.count_answer(code, said, refused="--force" in said)
    tally.settle_answers()


def test_budget_below_what_can_be_enforced(tally: Tally) -> None:
    chance = random.Random(12)
    for _ in range(TRIALS):
        depth = chance.randrange(1, 400)
        budget_bytes = chance.randrange(1, heap_headroom.room_bytes(depth))
        unused = Planted(lambda job: OOM)
        try:
            threshold(Workload(depth=depth), budget_bytes=budget_bytes, launcher=unused)
            refused = False
        except HarnessError as error:
            refused = "budget must be at least" in str(error)
        tally.injected += 1
        tally.count_answer(2, "", refused=refused and not unused.jobs)
    tally.settle_answers()


def test_malloc_tuned_from_outside(tally: Tally, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(13)
    names = ["GLIBC_TUNABLES", "MALLOC_ARENA_MAX", "MALLOC_TOP_PAD_", "MALLOC_MMAP_MAX_"]
    for _ in range(TRIALS):
        name, value = chance.choice(names), str(chance.randrange(1000, 10**9))
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            policy = chance.choice(["pinned", "system"])
            reached = environment_of_child(policy).get(name) == value
        tally.injected += 1
        tally.count_answer(0, "", refused=not reached)
    tally.settle_answers()


HOSTILE = ["\x1b[2J", "\x1b]0;x\x07", "\x9b31m", "\u202e", "\x00", "\r", "=1+1", "@SUM(A1)"]


def test_hostile_text_in_records(
    tmp_path: Path, reference: Sequence[Measured], tally: Tally
) -> None:
    chance = random.Random(14)
    for number in range(TRIALS):
        folder = tmp_path / str(number) / "depth_batch"
        folder.mkdir(parents=True)
        fields = json.loads(to_json(reference[number % len(reference)][0]))
        text = "".join(chance.choices(HOSTILE, k=3))
        fields["environment"][chance.choice(["cpu", "torch", text])] = text
        if number % 2:
            fields |= {"outcome": "error", "evidence": {"message": text, text: text}}
        (folder / "records.jsonl").write_text(json.dumps(fields) + "\n")
        code, said = run(["compare", str(folder.parent), str(folder.parent)])
        tally.injected += 1
        tally.count_answer(code, said, refused=printable(said) == said)
    tally.settle_answers()


def test_record_edited_by_hand(reference: Sequence[Measured], tally: Tally) -> None:
    """A value of another type, a key more, less or twice, another schema: no record."""
    chance = random.Random(15)
    whole = [json.loads(to_json(record)) for record, _ in reference]
    for number in range(2 * TRIALS):
        fields = dict(chance.choice(whole))
        key = chance.choice(["workload_id", "workload", "outcome", "schema"])
        text = json.dumps(fields)
        kind = number % 5
        if kind == 0:
            del fields[key]
            text = json.dumps(fields)
        elif kind == 1:
            text = json.dumps(fields | {f"{key}_": 1})
        elif kind == 2:
            text = json.dumps(fields | {key: chance.choice([None, -1, 1.5, [], "x"])})
        elif kind == 3:
            text = json.dumps(fields | {"schema": chance.choice([0, 2, 3, "1", True, None])})
        else:
            text = text.replace("{", "{" + json.dumps(key) + ":" + json.dumps(fields[key]) + ",", 1)
        try:
            from_json(text)
            refused = False
        except RecordError:
            refused = True
        tally.injected += 1
        tally.count_answer(2, "", refused=refused)
    tally.settle_answers()
