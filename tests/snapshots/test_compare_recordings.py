"""Two recordings compared: what grew, by category and line, at the peak of the same step."""

import json
from pathlib import Path

from harness.snapshots.compare_recordings import compare_recordings
from harness.snapshots.explain import explain_file
from tests.commands import Ask, facts_of

FAILURES = Path(__file__).parent / "failures"
SMALL, LARGE = (FAILURES / f"batch-{batch}.pickle.gz" for batch in (1024, 2048))


def test_the_line_whose_activations_grew_with_the_batch_is_first(ask: Ask) -> None:
    out = ask(["explain", str(SMALL), str(LARGE)]).out
    assert out.startswith("the second recording holds 35.87 MiB more: 52.15 MiB, then 88.02 MiB")
    rows = [line for line in out.splitlines() if "record_failures.py:47" in line]
    assert "+28 MiB" in rows[0]
    facts = facts_of(ask(["explain", str(LARGE), str(SMALL), "--json"]).out)
    assert facts["step"] == 3
    assert facts["changes"][0]["line"] == "train (record_failures.py:47)"


def test_the_changes_add_up_to_the_peaks_that_explain_states() -> None:
    change = compare_recordings(SMALL, LARGE)
    grown = change.after_bytes - change.before_bytes
    assert sum(one.grown_bytes for one in change.changes) == grown
    peaks = [explain_file(path)[0].peak_alive_bytes for path in (SMALL, LARGE)]
    assert [change.before_bytes, change.after_bytes] == peaks, "the last step has the peak"


def test_a_recording_equals_itself_and_other_questions_need_one_recording(ask: Ask) -> None:
    answer = json.loads(ask(["explain", str(SMALL), str(SMALL), "--json"]).out)
    assert (answer["verdict"], answer["changes"]) == ("equal", [])
    said = ask(["explain", str(SMALL), str(LARGE), "--gpu", "l4"], 2).err
    assert "two snapshots take no --gpu" in said
    said = ask(["explain", str(SMALL), __file__], 2).err
    assert "only if both are snapshots" in said
