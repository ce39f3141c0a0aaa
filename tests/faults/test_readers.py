"""Readers of files (reports, replays) answer or refuse in words."""

import contextlib
import gzip
import io
import json
import pickle
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.cli.app import main
from harness.snapshots import trace_event
from tests.faults.grid import FULL, Tally
from tests.snapshots.test_replay import BASE, MIB, SNAPSHOTS, by_hand

pytestmark = pytest.mark.timeout(1800)


def run(line: Sequence[str]) -> tuple[int, str]:
    """Run a command in this process; return its exit code and all that it said."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = main(list(line))
    return code, said.getvalue()


def refused_in_one_line(code: int, said: str) -> bool:
    """Return whether the user's mistake is said in one line, and as the answer to ``--json``."""
    first, *answer = said.splitlines() or [""]
    if code != 2 or len(answer) > 1:
        return False
    return first.startswith("harness: ") and all(json.loads(line)["error"] for line in answer)


NUMBERS = (0, 1, 512, MIB, 2 * MIB, 12 * MIB, BASE, BASE + 16 * MIB, 2**43, 2**64 - 1, -1)
ACTIONS = sorted(trace_event.ACTIONS)


def mutate(raw: dict[str, Any], rng: random.Random) -> None:
    """Change one thing so that the file stays a snapshot by its form."""
    trace, segments = raw["device_traces"][0], raw["segments"]
    kind = rng.randrange(9)
    if kind == 0 and trace:
        del trace[rng.randrange(len(trace))]
    elif kind == 1 and trace:
        trace.insert(rng.randrange(len(trace)), dict(rng.choice(trace)))
    elif kind == 2 and trace:
        rng.choice(trace)["action"] = rng.choice(ACTIONS)
    elif kind == 3 and trace:
        key = rng.choice(("addr", "size", "stream", "time_us", "pool_id", "frames"))
        rng.choice(trace)[key] = rng.choice([*NUMBERS, (0, 1), [], "x", None])
    elif kind == 4 and segments:
        segments.append(dict(rng.choice(segments)))
    elif kind == 5 and segments:
        key = rng.choice(("is_expandable", "segment_pool_id", "stream", "segment_type", "address"))
        rng.choice(segments)[key] = rng.choice([True, (0, 1), 7, "small", "large", BASE])
    elif kind == 6 and trace:
        first, second = (rng.randrange(len(trace)) for _ in range(2))
        trace[first], trace[second] = trace[second], trace[first]
    elif kind == 7:
        raw[rng.choice(("host_segments", "external_annotations", "host_traces", "version"))] = (
            rng.choice([None, 3, [3], [{"total_size": -1}], [{"stage": "START"}], "x"])
        )
    elif segments:
        changed = rng.choice(segments)
        changed["blocks"] = [dict(part) for part in changed["blocks"]]
        rng.choice(changed["blocks"])["state"] = rng.choice(("inactive", "active_awaiting_free"))


def test_recording_changed_in_any_place(tmp_path: Path, tally: Tally) -> None:
    """It stays a recording by its form: an event lost, doubled, moved, or with other numbers."""
    data = [gzip.decompress(path.read_bytes()) for path in sorted(SNAPSHOTS.glob("two*.gz"))]
    data.append(pickle.dumps(by_hand()))
    chance = random.Random(31)
    options = [[], ["--json"], ["--memory", "100MiB"], ["--what-if", "expandable_segments:True"]]
    path = tmp_path / "changed.pickle"
    refused = 0
    for _ in range(240 if FULL else 20):
        raw = pickle.loads(chance.choice(data))
        for _ in range(chance.randrange(1, 5)):
            mutate(raw, chance)
        path.write_bytes(pickle.dumps(raw))
        code, said = run(["explain", str(path), *chance.choice(options)])
        is_refused = refused_in_one_line(code, said)
        refused += is_refused
        tally.injected += 1
        tally.count_answer(code, said, refused=is_refused or (code == 0 and "device" in said))
    assert 0 < refused < tally.injected
    tally.settle_answers()
