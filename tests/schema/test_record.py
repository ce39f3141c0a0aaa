import json
from typing import Any

import pytest

from harness.schema.record import Outcome, Record, RecordError, Repeat, from_json, to_json
from harness.schema.workload import Workload


def record(**changes: Any) -> Record:
    workload = Workload(hidden=(5, 7), batch=3)
    return Record(workload_id=workload.id, workload=workload, outcome=Outcome.OK, **changes)


def test_a_record_comes_back_equal() -> None:
    original = record(peak_live_bytes=2**62, evidence={"note": "ü <script>"}, wall_seconds=0.1)
    assert from_json(to_json(original)) == original
    fields = json.loads(to_json(original))
    keys = list(fields)
    assert fields["saved_bytes"] is None, "unknown is null"
    assert keys.index("saved_bytes") < keys.index("peak_live_bytes") < keys.index("environment")


def test_a_record_from_before_a_field_was_added_is_read() -> None:
    """Norm and dropout came later; what lacks them had neither, under the same id."""
    old = json.loads(to_json(record()))
    del old["workload"]["norm"], old["workload"]["dropout"]
    assert from_json(json.dumps(old)) == record()


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"saved_bytes": -1}, "saved_bytes"), ({"saved_bytes": 1.5}, "saved_bytes"),
        ({"saved_bytes": "1"}, "saved_bytes"), ({"outcome": "fine"}, "outcome"),
        ({"made_up": 1}, "made_up"), ({"workload_id": "0" * 16}, "workload_id"),
        ({"schema": None}, "schema"),
        ({"schema": 2, "something_new": 1}, r"schema: 2: .* a newer harness wrote it"),
    ],
)  # fmt: skip
def test_a_record_edited_by_hand_is_refused_by_its_key(changes: dict[str, Any], where: str) -> None:
    with pytest.raises(RecordError, match=where):
        from_json(json.dumps(json.loads(to_json(record())) | changes))


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ('"outcome":"ok"', '"outcome":"oom","outcome":"ok"', "outcome: given twice"),
        ('"environment":{', '"environment":{"gpu":{"a":1,"a":2}', "a: given twice"),
        ('"schema":1', '"other":1', "schema: missing"),
        (None, "", "."),
        (None, "[]", "."),
        (None, "\x00", "."),
        (None, "[" * 100_000, "."),
    ],
)
def test_what_is_no_record_is_refused(old: str | None, new: str, why: str) -> None:
    line = to_json(record()).decode()
    assert old is None or old in line
    with pytest.raises(RecordError, match=why):
        from_json(line.replace(old, new) if old else new)


@pytest.mark.parametrize(
    ("rise", "servers", "kind"),
    [(4_096, 1, "plateau"), (100_000, 1, "leak"), (100_000, 9, "unknown")],
)
def test_peaks_that_rise_in_every_repeat_of_one_process_are_growth(
    rise: int, servers: int, kind: str
) -> None:
    repeats = tuple(
        Repeat(number=n, fork_server=str(n % servers), rss_peak_bytes=2**29 + rise * n)
        for n in range(1, 10)
    )
    grown = record(repeats=repeats)
    assert grown.growth.kind == kind
    assert ("Growth over the repeats" in grown.summary()) == (kind == "leak")
    assert record(repeats=repeats[:7]).growth.kind == "unknown"
