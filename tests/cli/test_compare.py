"""``harness compare``: the exit code says whether two runs are equal."""

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
