import json
from typing import Any

import pytest

from harness.schema.record import Outcome, Record, RecordError, SchemaError, from_json, to_json
from harness.schema.workload import Workload


def record(**changes: Any) -> Record:
    workload = Workload(hidden=(5, 7), batch=3)
    fields: dict[str, Any] = {
        "workload_id": workload.id,
        "workload": workload,
        "outcome": Outcome.OK,
    }
    return Record(**(fields | changes))


def edited(**changes: Any) -> str:
    return json.dumps(json.loads(to_json(record())) | changes)


def test_a_record_comes_back_equal() -> None:
    original = record(peak_live_bytes=2**62, evidence={"note": "ü <script>"}, wall_seconds=0.1)
    assert from_json(to_json(original)) == original


def test_a_record_from_before_a_field_was_added_is_read() -> None:
    """Norm and dropout came later; what lacks them had neither, under the same id."""
    old = json.loads(to_json(record()))
    del old["workload"]["norm"], old["workload"]["dropout"]
    assert from_json(json.dumps(old)) == record()


def test_unknown_is_null_and_keys_keep_their_order() -> None:
    keys = list(json.loads(to_json(record())))
    assert json.loads(to_json(record()))["saved_bytes"] is None
    assert keys.index("saved_bytes") < keys.index("peak_live_bytes") < keys.index("environment")


def test_a_newer_schema_is_refused_by_name() -> None:
    with pytest.raises(SchemaError, match=r"schema: 2: .* a newer harness wrote it"):
        from_json(edited(schema=2, something_new=1))


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"saved_bytes": -1}, "saved_bytes"),
        ({"saved_bytes": 1.5}, "saved_bytes"),
        ({"saved_bytes": "1"}, "saved_bytes"),
        ({"outcome": "fine"}, "outcome"),
        ({"made_up": 1}, "made_up"),
        ({"workload_id": "0" * 16}, "workload_id"),
        ({"schema": None}, "schema"),
    ],
)
def test_a_record_edited_by_hand_is_refused_by_its_key(changes: dict[str, Any], where: str) -> None:
    with pytest.raises(RecordError, match=where):
        from_json(edited(**changes))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\x00", "[" * 100_000, '{"schema":1}'])
def test_what_is_no_record_is_refused(text: str) -> None:
    with pytest.raises(RecordError):
        from_json(text)


@pytest.mark.parametrize("key", ["outcome", "schema", "workload_id"])
def test_a_key_given_twice_is_refused_by_its_name(key: str) -> None:
    line = to_json(record()).decode()
    repeated = "{" + json.dumps({key: json.loads(line)[key]})[1:-1] + "," + line[1:]
    with pytest.raises(RecordError, match=f"{key}: given twice"):
        from_json(repeated)


def test_a_key_given_twice_deep_inside_is_refused_too() -> None:
    line = edited(environment={"torch": "2.13", "gpu": {"a": 1}})
    with pytest.raises(RecordError, match="a: given twice"):
        from_json(line.replace('"a": 1', '"a": 1, "a": 2').replace('"a":1', '"a":1,"a":2'))


def test_a_record_without_a_schema_version_is_refused() -> None:
    fields = json.loads(to_json(record()))
    del fields["schema"]
    with pytest.raises(RecordError, match="schema: missing"):
        from_json(json.dumps(fields))
