"""``harness compare``: the exit code says whether two runs are equal."""

import json
from pathlib import Path

from msgspec.structs import replace

from tests.analysis import planted
from tests.commands import Ask


def test_two_runs_that_differ_in_one_byte_are_exit_code_3(tmp_path: Path, ask: Ask) -> None:
    records = planted.grid((1, 2), (16, 64))
    changed = replace(records[0], saved_bytes=(records[0].saved_bytes or 0) + 1)
    tenfold = [replace(one, rss_rise_bytes=2**30) for one in records]
    runs = {"one": records, "same": records, "other": [changed, *records[1:]], "far": tenfold}
    for name, run in runs.items():
        planted.write(tmp_path / name / "depth_batch", run)
    folders = {name: str(tmp_path / name) for name in runs}
    ask(["compare", folders["one"], folders["same"]])
    assert "saved_bytes" in ask(["compare", folders["one"], folders["other"]], 3).out
    assert "times off: rss_rise_bytes" in ask(["compare", folders["one"], folders["far"]], 3).out


def test_sizes_within_the_tolerance_are_equal(tmp_path: Path, ask: Ask) -> None:
    records = planted.grid((1, 2), (16, 64))
    grown = round((records[0].saved_bytes or 0) * 1.008)
    runs = {"one": records, "other": [replace(records[0], saved_bytes=grown), *records[1:]]}
    for name, run in runs.items():
        planted.write(tmp_path / name / "depth_batch", run)
    files = [str(tmp_path / name) for name in runs]
    assert "within 1%" in ask(["compare", *files, "--tolerance", "1%"]).out
    answer = json.loads(ask(["compare", *files, "--tolerance", "0.5%", "--json"], 3).out)
    assert (answer["verdict"], answer["different"][0]["metric"]) == ("different", "saved_bytes")
    for number, peak in enumerate((1000, 1008)):
        text = json.dumps({"outcome": "predicted", "peak_live_bytes": peak, "harness": str(number)})
        (tmp_path / f"{number}.json").write_text(text)
    two = [str(tmp_path / f"{number}.json") for number in range(2)]
    assert json.loads(ask(["compare", *two, "--tolerance", "1%", "--json"]).out)["error"] is None
    assert "peak_live_bytes" in ask(["compare", *two], 3).out
    assert "between" in ask(["compare", *two, "--tolerance", "much"], 2).err
