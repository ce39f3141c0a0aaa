"""``harness report --against``: the exit code says whether two runs are equal."""

import json
from pathlib import Path

from msgspec.structs import replace

from tests.analysis import planted
from tests.commands import Ask


def test_two_runs_are_equal_within_the_tolerance_that_is_given(tmp_path: Path, ask: Ask) -> None:
    records = planted.grid((1, 2), (16, 64))
    first, saved = records[0], records[0].saved_bytes or 0
    for name, run in {
        "one": records,
        "same": records,
        "other": [replace(first, saved_bytes=saved + 1), *records[1:]],
        "grown": [replace(first, saved_bytes=round(saved * 1.008)), *records[1:]],
        "far": [replace(one, rss_rise_bytes=2**30) for one in records],
    }.items():
        planted.write(tmp_path / name / "depth_batch", run)

    def said(name: str, *options: str, code: int = 0) -> str:
        return ask(
            ["report", str(tmp_path / name), "--against", str(tmp_path / "one"), *options], code
        ).out

    said("same")
    assert "saved_bytes" in said("other", code=3)
    assert "times off: rss_rise_bytes" in said("far", code=3)
    assert "within 1%" in said("grown", "--tolerance", "1%")
    answer = json.loads(said("grown", "--tolerance", "0.5%", "--json", code=3))
    assert (answer["verdict"], answer["different"][0]["metric"]) == ("different", "saved_bytes")


def test_two_predictions_are_equal_within_the_tolerance_too(tmp_path: Path, ask: Ask) -> None:
    two = [str(tmp_path / "1008.json"), "--against", str(tmp_path / "1000.json")]
    for path, peak in zip(two[::2], (1008, 1000), strict=True):
        text = json.dumps({"outcome": "predicted", "peak_live_bytes": peak, "harness": path})
        Path(path).write_text(text)
    assert json.loads(ask(["report", *two, "--tolerance", "1%", "--json"]).out)["error"] is None
    assert "peak_live_bytes" in ask(["report", *two], 3).out
    assert "between" in ask(["report", *two, "--tolerance", "much"], 2).err
